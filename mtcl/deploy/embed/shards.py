"""The inputs of `mtcl embed` and their names: each input file gives one file of vectors of the same name.

Paths are literal, never patterns. A folder stands for all its data files, also those in its subfolders, sorted; their
names keep the path below the folder. Names that begin with `.` or `_` are skipped, as Parquet readers do.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mtcl.deploy.embed.settings import EMBEDDING, ID, MANIFEST
from mtcl.errors import ConfigError, DataError
from mtcl.files import dead_link

STDIN = "-"
FORMATS = (".parquet", ".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".txt", ".txt.gz")
"""The suffixes of input files. A .txt has one text per line."""
LEAST_BYTES = 16
"""A row of an uncompressed file hardly has fewer bytes than this."""
log = logging.getLogger("mtcl")


@dataclass(frozen=True)
class Shard:
    """An input file; `name` is that of its vectors without suffix. Without a path it is standard input."""

    name: str
    path: Path | None
    suffix: str

    def __str__(self) -> str:
        return "standard input" if self.path is None else str(self.path)

    @property
    def size(self) -> int:
        """Bytes; 0 for standard input."""
        return 0 if self.path is None else self.path.stat().st_size

    def most_windows(self, rows: int) -> int:
        """An upper estimate of the input's windows of so many rows; more processes would have nothing to do."""
        if self.path is None:
            return 1
        least_bytes = 1 if self.suffix.endswith((".gz", ".parquet")) else LEAST_BYTES
        return max(1, -(-self.size // (rows * least_bytes)))


@dataclass(frozen=True)
class Identity:
    """An input's content, to notice a change. `modified_ns` is the time that every write sets, even if the time of the
    content is set back afterwards, as unpacking an archive does.
    """

    size: int
    digest: str
    modified_ns: int

    @classmethod
    def of(cls, shard: Shard) -> Identity:
        """Reads the whole file. Standard input has none and gets zeros."""
        if shard.path is None:
            return cls(0, "", 0)
        stat = shard.path.stat()
        with shard.path.open("rb") as file:
            return cls(stat.st_size, hashlib.file_digest(file, "sha256").hexdigest(), modified_ns(stat))

    def still_holds(self, shard: Shard) -> bool:
        """Whether the file is the same. It is read again only if its time of change differs."""
        assert shard.path is not None
        stat = shard.path.stat()
        if stat.st_size != self.size:
            return False
        return modified_ns(stat) == self.modified_ns or Identity.of(shard).digest == self.digest


def modified_ns(stat: os.stat_result) -> int:
    """When a file last changed; on Windows, when its content did, as far as its owner says so."""
    return stat.st_mtime_ns if os.name == "nt" else stat.st_ctime_ns


@dataclass(frozen=True)
class Columns:
    """The columns that are read: the text's, the id's (None: row numbers are ids) and those that are copied."""

    text: str = "text"
    id: str | None = None
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        taken = [name for name in self.keep if name in (ID, EMBEDDING) and name != self.id]
        if taken:
            raise ConfigError(f"keep has {taken[0]!r}, which is the name of a column of the output: rename it")
        if len(set(self.keep)) < len(self.keep):
            raise ConfigError(f"keep names a column twice: {', '.join(self.keep)}")

    @property
    def names(self) -> list[str]:
        """All columns, each once."""
        return list(dict.fromkeys([self.text, *([self.id] if self.id else []), *self.copied]))

    @property
    def copied(self) -> tuple[str, ...]:
        """The copied columns, without the id's."""
        return tuple(name for name in self.keep if name != self.id)


def find_shards(inputs: Sequence[str], *, stdin: str = "jsonl", out: Path | None = None) -> list[Shard]:
    """The shards of all inputs, sorted within a folder. `stdin` is jsonl or txt. `out` is the output folder: if it has
    vectors already and lies in an input folder, its files are left out.

    Raises `DataError` for an input that does not exist or cannot be read as data, and `ConfigError` if two inputs would
    have the same name.
    """
    found: list[Shard] = []
    for given in inputs:
        path = Path(given).expanduser()
        if given == STDIN:
            found.append(Shard("stdin", None, f".{stdin}"))
        elif path.is_dir():
            found += _in_folder(path, out)
        elif path.is_file():
            found.append(_shard(path, path.name))
        else:
            raise DataError(_no_input(given, path))
    _check_names(found)
    return found


def _no_input(given: str, path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return dead_link(path)
    if path.exists():
        return f"{given} is neither a file nor a folder: give its rows to standard input (-)"
    return f"there is no file or folder {given}: paths are taken literally, without patterns"


def check_apart(shards: Iterable[Shard], out: Path) -> None:
    """Raise `ConfigError` for an input below the output folder, where vectors might replace it or become an input."""
    for shard in shards:
        if shard.path is not None and shard.path.resolve().is_relative_to(out.resolve()):
            raise ConfigError(f"{shard} is in {out}, where the vectors are written: give another --out")


def every(shards: Iterable[Shard], part: tuple[int, int]) -> list[Shard]:
    """Every n-th of the shards, from the i-th on, for `--shard i/n` (i from 0)."""
    index, count = part
    return [shard for number, shard in enumerate(shards) if number % count == index]


def _in_folder(folder: Path, out: Path | None) -> list[Shard]:
    files = sorted(_files_below(folder))
    if out is not None and (out / MANIFEST).is_file() and out.resolve() != folder.resolve():
        files = [p for p in files if not p.resolve().is_relative_to(out.resolve())]
    data = [p for p in files if _suffix(p.name)]
    if not data:
        raise DataError(f"{folder} has no data files ({', '.join(FORMATS)})")
    if others := [p.name for p in files if not _suffix(p.name)]:
        log.info("%s: skipping %d files of other types, such as %s", folder, len(others), others[0])
    return [_shard(p, p.relative_to(folder).as_posix()) for p in data]


def _files_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Files in a folder and its subfolders, also those that links lead to; a link to a folder above it is skipped.
    `above` are the real paths of the folders that led here.

    Raises `DataError` for a link that leads nowhere.
    """
    above = (*above, folder.resolve())
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "_")):
            continue
        if path.is_dir():
            if path.is_symlink() and any(one.is_relative_to(path.resolve()) for one in above):
                log.info("%s: skipping this link to a folder above it", path)
            else:
                yield from _files_below(path, above)
        elif path.is_file():
            yield path
        elif path.is_symlink():
            raise DataError(dead_link(path))


def _suffix(name: str) -> str | None:
    return next(
        (s for s in sorted(FORMATS, key=len, reverse=True) if name.lower().endswith(s) and len(name) > len(s)), None
    )


def _shard(path: Path, relative: str) -> Shard:
    suffix = _suffix(path.name)
    if suffix is None:
        raise DataError(
            f"{path} is not a data file: give {', '.join(FORMATS)}, a folder of them, or - for standard input"
        )
    name = relative[: -len(suffix)]
    if PurePosixPath(name).parts[0].startswith("_"):
        raise DataError(f"{path}: names that begin with `_` are those of mtcl's own files in the output: rename it")
    return Shard(name, path, suffix)


def _check_names(shards: Sequence[Shard]) -> None:
    first: dict[str, Shard] = {}
    for shard in shards:
        key = shard.name.casefold()  # for file systems that do not tell a.parquet from A.parquet
        if key in first:
            raise ConfigError(
                f"{first[key]} and {shard} would both give the vectors {shard.name!r}: rename one, or embed them into "
                "two folders"
            )
        first[key] = shard
        if f"{key}.rows" in first or (key.endswith(".rows") and key.removesuffix(".rows") in first):
            raise ConfigError(f"{shard}: the name {shard.name!r} is taken by another input's other columns: rename it")
