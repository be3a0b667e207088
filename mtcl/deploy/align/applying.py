"""Maps a whole folder of vectors, file by file and block by block, into another folder of the same layout.

The result is a folder of vectors like any other, in the target's space, with the map in its `_map/`. Its fingerprint is
that of the target encoder and the map's digest, so `mtcl embed` does not add to it. Finished files are not mapped
again. Several folders may be mapped into one, if their files have different names.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mtcl.arrays import Float32Array
from mtcl.console import track
from mtcl.deploy.align.alignment import RECORD, Alignment
from mtcl.deploy.embed.claims import claimed
from mtcl.deploy.embed.computing import WINDOW
from mtcl.deploy.embed.numbers import NumberType, Ranges, sampled
from mtcl.deploy.embed.outputs import check_free
from mtcl.deploy.embed.rows import Window
from mtcl.deploy.embed.settings import Settings, agree, check_same, read_settings, with_ranges
from mtcl.deploy.embed.shards import Identity, Shard, modified_ns
from mtcl.deploy.embed.writing import ShardFiles
from mtcl.deploy.space import MAPPED, Space
from mtcl.deploy.vectors import ShardRecord, VectorFolder
from mtcl.errors import ConfigError, DataError

MAP = "_map"
"""The map, in the folder of mapped vectors."""
log = logging.getLogger("mtcl")


@dataclass(frozen=True)
class Applied:
    """What was done: files and rows written, and files that were done before or that other processes work on."""

    files: int = 0
    rows: int = 0
    skipped: int = 0


def apply_map(
    alignment: Alignment,
    source: VectorFolder,
    out: Path,
    *,
    dtype: NumberType | None = None,
    replace_changed: bool = False,
) -> Applied:
    """Write the mapped vectors of a folder to `out`; `dtype` is by default that of the folder.

    `replace_changed` maps files again that differ from the ones of the same name that `out` was made from.

    Raises `ConfigError` if the folder is not of the map's source, if `out` has vectors of other settings, or files
    of others that the mapped ones would replace, and `DataError` if it has vectors of another file of the same name.
    """
    space = Space.of(source.settings)
    if MAPPED in source.settings.fingerprint:
        raise ConfigError(f"{source.path} has mapped vectors already: map the folder that they were made from")
    if not alignment.source.is_same(space):
        raise ConfigError(
            f"the map takes vectors of {alignment.source}, and {source.path} has {space}: give another map"
        )
    if out.resolve() == source.path.resolve():
        raise ConfigError(f"out is {out}, the folder of the vectors itself: give another one")
    if not replace_changed:
        _check_same_files(source, out)
    check_free(out, [_shard(source, shard) for shard in source.shards], source.settings.format)
    settings = _agreed(alignment, source, out, dtype)
    if not (out / MAP / RECORD).is_file():
        alignment.save(out / MAP)
    done = Applied()
    for shard in track(source.shards, "map"):
        with claimed(out, _shard(source, shard)) as is_mine:
            if not is_mine or _is_done(out, shard):
                done = replace(done, skipped=done.skipped + 1)
                continue
            record = _apply_shard(
                alignment, source, shard, ShardFiles(out, _shard(source, shard), settings, _identity(source, shard))
            )
            done = replace(done, files=done.files + 1, rows=done.rows + record.rows)
            log.info("%s: %s rows", record.name, f"{record.rows:,}")
            settings.numbers.warn_if_clipped(record.name, record.clipped, record.rows)
    return done


def mapped_settings(alignment: Alignment, settings: Settings, dtype: NumberType | None = None) -> Settings:
    """The settings of mapped vectors, without the ranges of int8. Prompt, max length and columns stay the same."""
    target = alignment.target
    return replace(
        settings,
        fingerprint=f"{target.fingerprint}{MAPPED}{alignment.digest}",
        head=target.head,
        task=target.task,
        dim=target.dim,
        dtype=dtype or settings.dtype,
        window=WINDOW,
        ranges=None,
    )


def _agreed(alignment: Alignment, source: VectorFolder, out: Path, dtype: NumberType | None) -> Settings:
    wanted = mapped_settings(alignment, source.settings, dtype)
    there = read_settings(out)
    if there is not None:
        check_same(out, there, wanted)
        return there
    if wanted.dtype == "int8":
        wanted = with_ranges(wanted, Ranges.of_enough(alignment(_sample(source))))
    return agree(out, wanted)


def _check_same_files(source: VectorFolder, out: Path) -> None:
    for shard in source.shards:
        there = ShardRecord.read(out, shard.name)
        if there is not None and there.digest != shard.files[_vectors_file(shard)]:
            raise DataError(
                f"{source.path / _vectors_file(shard)} is not the file of this name that {out} has vectors of (then "
                f"{there.rows:,} rows, now {shard.rows:,}): --replace_changed maps it again, or give another --out"
            )


def _sample(source: VectorFolder) -> Float32Array:
    """The first vectors of files spread over all."""
    chosen, num_rows = sampled([shard for shard in source.shards if shard.rows])
    if not chosen:
        raise ConfigError(f"{source.path} has no vectors: embed some first")
    return np.concatenate([next(iter(replace(source, shards=(one,)).blocks(num_rows))).vectors for one in chosen])


def _apply_shard(alignment: Alignment, source: VectorFolder, shard: ShardRecord, files: ShardFiles) -> ShardRecord:
    files.remove_stale_parts()
    parts = files.finished_parts()
    start = 0
    for block in replace(source, shards=(shard,)).blocks(WINDOW):
        stop = start + len(block)
        if start >= (parts[-1].stop if parts else 0):
            stored = files.settings.numbers.encode(alignment(block.vectors))
            parts.append(files.write_part(Window(start, stop, [], block.rows, []), stored))
        start = stop
    return files.finish(parts, None)


def _shard(source: VectorFolder, shard: ShardRecord) -> Shard:
    """The file of vectors as an input."""
    name = _vectors_file(shard)
    return Shard(shard.name, source.path / name, Path(name).suffix)


def _identity(source: VectorFolder, shard: ShardRecord) -> Identity:
    """Its content, without reading it: its record has the digest."""
    name = _vectors_file(shard)
    stat = (source.path / name).stat()
    return Identity(stat.st_size, shard.files[name], modified_ns(stat))


def _vectors_file(shard: ShardRecord) -> str:
    return next((name for name in shard.files if name.endswith(".npy")), f"{shard.name}.parquet")


def _is_done(out: Path, shard: ShardRecord) -> bool:
    record = ShardRecord.read(out, shard.name)
    return record is not None and record.digest == shard.files[_vectors_file(shard)] and record.has_files(out)
