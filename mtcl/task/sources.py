"""Where a task's rows come from: files under the data root, a data set on the Hub, or rows in the task file.

A source is called with a split and the data root and returns an Arrow table. A task may instead define a method
`data(self, split, root)`. `mtcl.task.reading` reads files, `datasets` reads from the Hub.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtcl.errors import DataError, nearest, root_cause
from mtcl.files import dead_link
from mtcl.task.as_table import as_table, plain
from mtcl.task.digests import digest_files
from mtcl.task.hub import check_revision, has_split, local_folder, read_data_set
from mtcl.task.reading import FORMATS, Wanted, read_split
from mtcl.task.roles import Role, as_role
from mtcl.task.spill import kept_rows

if TYPE_CHECKING:
    import pyarrow as pa


OTHER_FORMATS = {
    ".json": "write one object per line, as .jsonl",
    ".ndjson": "call it .jsonl",
    ".tsv": "separate its columns with commas, as .csv",
    ".txt": "name its columns, as .csv",
    **dict.fromkeys((".arrow", ".feather", ".orc", ".avro"), "convert it, for example to .parquet"),
    **dict.fromkeys((".gz", ".zst", ".bz2", ".xz", ".zip", ".lz4"), "unpack it"),
}
"""Formats of data that are not read, and what to do with such a file."""


class Source(ABC):
    """Rows of a task by split; `corpus` is a split too."""

    @abstractmethod
    def __call__(self, split: str, root: Path | None) -> pa.Table:
        """All rows of `split`. Raises `DataError` if they are missing or unreadable."""

    @abstractmethod
    def fingerprint(self, split: str, root: Path | None) -> str:
        """A fingerprint that changes whenever the rows may have changed; part of the token store's address."""

    def has(self, split: str, root: Path | None) -> bool:
        """Whether there are rows of a split. True if that is not known before they are read."""
        return True

    def place(self, split: str, root: Path | None) -> str:
        """Where the rows of a split are, for messages."""
        return ""

    def select(self, split: str, root: Path | None, roles: Mapping[str, Role], *, rest: bool = False) -> pa.Table:
        """The rows with the named columns, each in a type that fits its role; with `rest`, all other columns too.

        The default returns all columns, which is right for a source whose columns have types.
        """
        return self(split, root)


SPLITS = ("train", "validation", "test")
"""The splits of a task's rows; others are corpora."""


@dataclass(frozen=True)
class Files(Source):
    """`<root>/<folder>/<split>.parquet`, `.jsonl` or `.csv`, or a folder `<split>/` of shards in one of these formats.

    Names of folders and files are taken literally. In a folder of shards, names that start with `.` or `_` are skipped,
    as Spark and Hadoop do.

    `where` keeps only rows with one of the given values in each of its columns, for example
    `{"lang": ["spa", "por"]}`, so several tasks can share a table. Each value must occur in the training split. A
    corpus without the column is not filtered.
    """

    folder: str
    where: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __call__(self, split: str, root: Path | None) -> pa.Table:
        return self.select(split, root, {}, rest=True)

    def select(self, split: str, root: Path | None, roles: Mapping[str, Role], *, rest: bool = False) -> pa.Table:
        """The rows that `where` keeps. With `rest`, all columns; roles are then used only for CSV files."""
        asked = dict.fromkeys(self.where, Role.ANY) | dict(roles)
        found = read_split(self.paths(split, root), Wanted(asked, rest), optional=self.where.keys() - roles.keys())
        rows = found.rows
        for column, values in self.where.items():
            if column in found.names or split in SPLITS:
                rows = _having(
                    rows, column, values, f"{split} of {self.folder!r}", found.names, is_strict=split == "train"
                )
        return rows if rest else rows.select(list(roles))

    def fingerprint(self, split: str, root: Path | None) -> str:
        given = {name: list(values) for name, values in self.where.items()}
        where = json.dumps(given, default=str) if given else ""
        return digest_files(self.paths(split, root)) + where

    def has(self, split: str, root: Path | None) -> bool:
        folder = Path(root or "") / self.folder
        return bool(_single_files(folder, split)) or bool(_visible(folder / split))

    def paths(self, split: str, root: Path | None) -> list[Path]:
        """The files of a split, sorted. Raises a `DataError` that names similar files if there are none."""
        if root is None:
            raise DataError(
                f"no data root for Files({self.folder!r}): give --data.root FOLDER or set MTCL_DATA "
                "(`mtcl demo DIR` makes one)"
            )
        folder = Path(root) / self.folder
        if not Path(root).is_dir():
            raise DataError(f"data root {str(root)!r} is not a folder: check --data.root and MTCL_DATA")
        if not folder.is_dir():
            there = [p.name for p in Path(root).iterdir() if p.is_dir()]
            raise DataError(f"no folder {folder}{nearest(self.folder, there)}")
        shards, single = shards_in(folder / split), _single_files(folder, split)
        if len(single) + bool(shards) > 1:
            names = [path.name for path in single] + [f"{split}/"] * bool(shards)
            raise DataError(f"{folder} holds {split} in several formats: keep one of {', '.join(names)}")
        if not single and not shards:
            raise DataError(_no_split(folder, split))
        return single or shards

    def place(self, split: str, root: Path | None) -> str:
        paths = self.paths(split, root)
        return str(paths[0] if len(paths) == 1 else paths[0].parent)


@dataclass(frozen=True)
class Hub(Source):
    """A data set of the Hugging Face Hub at a pinned revision, or a local data-set folder (`~` is the home folder).

    The files of a local folder are read by role, as those of `Files`. What the Hub holds as CSV or JSON has the types
    that `datasets` guesses from its first rows: prefer Parquet there.

    `revision` is a full commit hash: if a branch or a tag moved, the token store would still have the old rows.
    `splits` maps our split names to the repository's if they differ, for example `{"validation": "dev"}`.
    """

    repository: str
    revision: str
    config: str | None = None
    splits: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_revision(self.repository, self.revision)

    def __call__(self, split: str, root: Path | None) -> pa.Table:
        return self.select(split, root, {}, rest=True)

    def select(self, split: str, root: Path | None, roles: Mapping[str, Role], *, rest: bool = False) -> pa.Table:
        """The columns with a role, converted to its type, from a local folder; from the Hub, what `datasets` makes."""
        return read_data_set(
            self.repository,
            self.revision,
            config=self.config,
            split=self.splits.get(split, split),
            wanted=Wanted(roles, rest=rest or not roles),
        )

    def has(self, split: str, root: Path | None) -> bool:
        return has_split(self.repository, self.revision, config=self.config, split=self.splits.get(split, split))

    def place(self, split: str, root: Path | None) -> str:
        return self.repository

    def fingerprint(self, split: str, root: Path | None) -> str:
        if folder := local_folder(self.repository):
            which = [self.config, self.splits.get(split, split)]
            files = digest_files(sorted(p for p in folder.rglob("*") if p.is_file()))
            return files if which == [None, split] else f"{files}:{json.dumps(which)}"
        return f"{self.repository}@{self.revision}:{self.config}:{self.splits.get(split, split)}"


@dataclass(frozen=True)
class Rows(Source):
    """Rows written in the task file itself, by split: for tests, samples and very small tasks."""

    train: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    test: list[dict[str, Any]] = field(default_factory=list)
    corpus: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, split: str, root: Path | None) -> pa.Table:
        rows = getattr(self, split, None)
        if not rows:
            given = [s for s in (*SPLITS, "corpus") if getattr(self, s)]
            raise DataError(f"Rows has no split {split!r}{nearest(split, given)}")
        return as_table(rows)

    def select(self, split: str, root: Path | None, roles: Mapping[str, Role], *, rest: bool = False) -> pa.Table:
        rows = getattr(self, split, None)
        return as_table(rows, roles, rest=rest) if rows else self(split, root)

    def has(self, split: str, root: Path | None) -> bool:
        return bool(getattr(self, split, None))

    def fingerprint(self, split: str, root: Path | None) -> str:
        rows = json.dumps(getattr(self, split, None), sort_keys=True, default=lambda value: str(plain(value)))
        return hashlib.sha256(rows.encode()).hexdigest()


def shards_in(folder: Path) -> list[Path]:
    """The shards of a split, sorted by name; none if there is no such folder.

    Raises `DataError` for shards of two formats, and for data that would be ignored (folders, files of other formats).
    """
    there = _visible(folder)
    shards = [path for path in there if path.suffix in FORMATS and path.is_file()]
    formats = sorted({path.suffix for path in shards})
    if len(formats) > 1:
        raise DataError(f"{folder} has shards in several formats ({', '.join(formats)}): keep one")
    for path in there:
        if not path.exists():
            raise DataError(dead_link(path))
        if path.is_dir():
            raise DataError(f"{folder} has a folder {path.name!r}: put all shards directly into {folder.name}/")
        if advice := _other_format(path):
            raise DataError(f"{path} cannot be read: {advice}")
    return shards


def _visible(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.name[0] not in "._") if folder.is_dir() else []


def _single_files(folder: Path, split: str) -> list[Path]:
    return [path for suffix in FORMATS if (path := folder / f"{split}{suffix}").is_file()]


def _other_format(path: Path) -> str:
    """What to do with a file of data in a format that is not read; nothing for files that are not data."""
    known = ", ".join(FORMATS)
    if path.suffix in OTHER_FORMATS:
        return f"{OTHER_FORMATS[path.suffix]} ({known} are read)"
    if path.suffix.lower() in FORMATS and path.suffix not in FORMATS:
        return f"write its ending in lower case, {path.suffix.lower()}"
    return ""


def _no_split(folder: Path, split: str) -> str:
    """The message for a split without files: what was looked for, and what is there instead."""
    for path in _visible(folder):
        stem = path.name.partition(".")[0]
        if stem.lower() == split.lower() and (advice := _other_format(path)):
            return f"no split {split!r} in {folder}: {path.name} cannot be read, {advice}"
        if path.stem == split and path.suffix in FORMATS:
            if path.is_dir():
                return f"no split {split!r} in {folder}: {path.name} is a folder, call a folder of shards {split}"
            return f"no split {split!r} in {folder}: {path.name} is a link to a file that does not exist"
    files = {p.stem for p in folder.iterdir() if p.suffix in FORMATS}
    there = sorted(files | {p.parent.name for suffix in FORMATS for p in folder.glob(f"*/*{suffix}")})
    wanted = f"{split}.parquet, .jsonl, .csv or a folder {split}/ of such shards"
    return f"no split {split!r} in {folder} ({wanted}){nearest(split, there)}"


def _having(
    rows: pa.Table, column: str, values: Sequence[Any], what: str, known: Sequence[str], *, is_strict: bool
) -> pa.Table:
    """The rows with one of `values` in `column`. Raises `DataError` if there are none, or if `is_strict` and one of the
    values has none; the message names the column's values. `known` are the names of all columns.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if column not in rows.column_names:
        raise DataError(f"{what} has no column {column!r} to keep rows by{nearest(column, known)}")
    if isinstance(values, str):
        raise DataError(f"where gives {values!r} for {column!r}: give a list of values")
    found = as_role(rows[column], Role.ANY)
    assert found is not None
    try:
        wanted = pa.array(list(values)).cast(found.type)
        kept = pc.is_in(found, value_set=wanted)
    except (pa.ArrowException, TypeError) as error:
        raise DataError(f"{column!r} of {what} cannot be compared with {list(values)}: {root_cause(error)}") from error
    there = set(found.filter(kept).unique().to_pylist())
    missing = [value for value, one in zip(values, wanted.to_pylist(), strict=True) if one not in there]
    if missing and (is_strict or not there):
        others = [str(value) for value in found.unique().to_pylist()]
        raise DataError(f"no row of {what} has {column} {missing[0]!r}{nearest(str(missing[0]), others)}")
    return kept_rows(rows, kept)
