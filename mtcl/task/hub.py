"""Reads a data set of the Hugging Face Hub through `datasets`, or a local folder with the same layout.

Of a local folder, `datasets` lists the files of a split, and mtcl's own readers read them, by role.
"""

from __future__ import annotations

import glob
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtcl.errors import DataError, TaskError, root_cause
from mtcl.task.reading import Reader, Wanted, is_nested_json, read_csv, read_json, read_parquet, read_split

if TYPE_CHECKING:
    import pyarrow as pa

UNREAD_OPTIONS = {"name", "version", "data_dir", "data_files", "description", "features"}
"""Attributes of a builder's configuration that do not change how its files are read by role."""


def check_revision(repository: str, revision: str) -> None:
    """Raise `TaskError` for a revision whose rows can change: a branch, a tag, a short hash."""
    if not isinstance(revision, str) or not re.fullmatch("[0-9a-f]{40}", revision):
        raise TaskError(
            f"Hub({repository!r}, revision={revision!r}): give the full commit hash, 40 hexadecimal digits in lower "
            f"case; the data set's page on the Hub lists it under its commits (for a local folder, give any)"
        )


def local_folder(repository: str) -> Path | None:
    """The folder that `repository` names; None if it names a data set of the Hub."""
    folder = Path(repository).expanduser()
    return folder if folder.is_dir() else None


def read_data_set(repository: str, revision: str, *, config: str | None, split: str, wanted: Wanted) -> pa.Table:
    """The rows of a split, of a local folder with the wanted columns only. Raises a `DataError` that names repository,
    revision and split.
    """
    folder = local_folder(repository)
    try:
        if folder is None:
            return _loaded(repository, name=config, split=split, revision=revision)
        with _plain_copy(folder) as (copy, converted):
            if (listed := _listed(copy, config, split, converted)) is not None:
                reader, names = listed
                return read_split([folder / name for name in names], wanted, reader=reader).rows
            return _loaded(str(copy), name=config, split=split, cache_dir=str(converted))
    except DataError:
        raise
    except Exception as error:  # datasets raises a different type for each format and stage
        raise DataError(f"cannot read {repository}@{revision} split {split!r}: {root_cause(error)}") from error


@cache
def has_split(repository: str, revision: str, *, config: str | None, split: str) -> bool:
    """Whether a data set has a split; True if only reading it would tell, as without a network.

    It is found out once per process, because every evaluation asks.
    """
    folder, (name, *_) = local_folder(repository), re.split(r"[\[+]", split)
    try:
        if folder is None:
            files = _data_files(repository, name=config, revision=revision)
        else:
            with _plain_copy(folder) as (copy, converted):
                files = _data_files(str(copy), name=config, cache_dir=str(converted))
    except Exception:  # reading the rows tells what is wrong
        return True
    return not files or name in files


def _data_files(path: str, **options: Any) -> Mapping[str, Any] | None:
    """The files of each split; None if a data set lists none."""
    import datasets

    found: Mapping[str, Any] | None = datasets.load_dataset_builder(path, **options).config.data_files
    return found


def _listed(copy: Path, config: str | None, split: str, cache: Path) -> tuple[Reader, list[Path]] | None:
    """The reader for a split's files, and their names, in the order of `datasets`; None if only `datasets` can read
    them: another format, compressed files, options of a reader, a part of a split.

    `datasets` takes the types of a CSV or JSON file from its first block, and of all shards from the first.
    """
    import datasets

    found = datasets.load_dataset_builder(str(copy), name=config, cache_dir=str(cache)).config
    files = [Path(file) for file in (found.data_files or {}).get(split, [])]
    options = {one.name for one in fields(found) if getattr(found, one.name) != one.default} - UNREAD_OPTIONS
    if not files or options - {"sep", "delimiter"} or any(not file.is_relative_to(copy) for file in files):
        return None
    readers: dict[str, tuple[Reader, set[str]]] = {
        "CsvConfig": (partial(read_csv, delimiter=getattr(found, "sep", None) or ","), {".csv", ".tsv"}),
        "JsonConfig": (read_json, {".json", ".jsonl", ".ndjson"}),
        "ParquetConfig": (read_parquet, {".parquet"}),
    }
    reader, suffixes = readers.get(type(found).__name__, (read_parquet, set()))
    if any(file.suffix not in suffixes for file in files) or any(is_nested_json(file) for file in files):
        return None
    return reader, [file.relative_to(copy) for file in files]


def _loaded(path: str, **options: Any) -> pa.Table:
    import datasets

    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(path, **options).with_format("arrow")[:]
    finally:
        if not bars:
            datasets.enable_progress_bars()


@contextmanager
def _plain_copy(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Links to the folder's files under a plain name, and a folder for the files that `datasets` writes. Both are
    removed at the end.

    The plain name is needed because `datasets` reads a path as a pattern: `run[12]` becomes `run1`. It also never
    removes its converted files. They stay memory-mapped, and on Windows a mapped file cannot be removed.
    """
    import datasets

    cache = Path(datasets.config.HF_DATASETS_CACHE)
    if glob.has_magic(str(cache)):
        cache = Path(tempfile.gettempdir())
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mtcl-", dir=cache, ignore_cleanup_errors=True) as made:
        copy = Path(made) / "data"
        copy.mkdir()
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            link = copy / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            try:
                link.symlink_to(path.resolve())
            except OSError:  # Windows without the privilege
                shutil.copy2(path, link)
        yield copy, Path(made) / "converted"
