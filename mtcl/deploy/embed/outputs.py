"""The files of vectors in the output folder: whether they are mtcl's own, and those whose input is gone."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mtcl.deploy.embed.settings import ABOUT_FILE, BAD, MANIFEST, FileFormat
from mtcl.deploy.embed.shards import Shard
from mtcl.deploy.vectors import ShardRecord, record_file
from mtcl.errors import ConfigError


def check_free(folder: Path, shards: Iterable[Shard], file_format: FileFormat) -> None:
    """Raise `ConfigError` if the folder is a run's, or has a file of other content with the name of an output."""
    is_begun = (folder / MANIFEST).is_file()
    if not is_begun and any((folder / "checkpoints").glob("*.ckpt")):
        raise ConfigError(f"{folder} is a run folder: give the vectors a folder of their own with --out")
    for shard in shards:
        there = [folder / name for name in outputs_of(shard.name, file_format) if (folder / name).exists()]
        if not there or (is_begun and any(map(_is_ours, there))):
            continue
        record = ShardRecord.read(folder, shard.name)
        known = [] if record is None else [folder / name for name in record.files]
        if foreign := [path for path in there if path not in known]:
            raise ConfigError(
                f"the vectors of {shard} would replace {foreign[0]}, which mtcl has not written: give another "
                "--out, or move that file"
            )


def gone(folder: Path, shards: Iterable[Shard], inputs: Iterable[str]) -> list[ShardRecord]:
    """The records of vectors whose input was in one of the given input folders, and is there no more."""
    folders = [os.path.normpath(Path(given).expanduser().absolute()) for given in inputs]
    names = {shard.name for shard in shards}
    return [
        record
        for record in ShardRecord.all_of(folder)
        if record.name not in names
        and any(one in map(str, Path(record.path).parents) for one in folders)
        and not os.path.lexists(record.path)
    ]


def prune(folder: Path, records: Iterable[ShardRecord]) -> None:
    """Remove the vectors, bad rows and records of inputs; a record last, so that a killed command can be repeated."""
    for record in records:
        for path in (*(folder / name for name in record.files), folder / BAD / f"{record.name}.jsonl"):
            path.unlink(missing_ok=True)
        record_file(folder, record.name).unlink(missing_ok=True)


def outputs_of(name: str, file_format: FileFormat) -> list[str]:
    """The names of the files of an input's vectors."""
    return [f"{name}.parquet"] if file_format == "parquet" else [f"{name}.npy", f"{name}.rows.parquet"]


def _is_ours(path: Path) -> bool:
    """Whether a file is mtcl's, also without a record: a killed command had no time to write one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix != ".parquet":
        return False
    try:
        return ABOUT_FILE in (pq.read_schema(path).metadata or {})
    except (pa.ArrowException, OSError):
        return False
