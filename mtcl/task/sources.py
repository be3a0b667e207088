"""Where a task's rows come from: files under the data root, a data set on the Hub, or rows in the task file.

A source is called with a split and the data root and returns an Arrow table; a task may instead define a method
`data(self, split, root)` of the same signature. `datasets` does the reading (memory-mapped Arrow, one code path
for every format); what it cannot read becomes one `DataError` that names the file.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtcl.errors import DataError, nearest, root_cause

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = {".parquet": "parquet", ".jsonl": "json", ".csv": "csv"}
CSV_BLOCK = 1 << 26
"""Bytes that are parsed at once: the longest row."""
CSV_FORMS = {
    "int64": r"^-?(0|[1-9][0-9]{0,17})$",
    "float64": r"^-?((0|[1-9][0-9]{0,14})\.?|(0|[1-9][0-9]*)?\.[0-9]+)([eE][+-]?[0-9]+)?$",
    "bool": r"^([Tt]rue|TRUE|[Ff]alse|FALSE)$",
}
"""What a column's values look like, by the type that they then have."""


class Source(ABC):
    """Rows of a task by split; `corpus` and the like are splits too."""

    @abstractmethod
    def __call__(self, split: str, root: Path | None) -> pa.Table:
        """All rows of `split`. Raises `DataError` if they are missing or unreadable."""

    @abstractmethod
    def fingerprint(self, split: str, root: Path | None) -> str:
        """Changes whenever the rows may have changed; part of the token store's address."""


@dataclass(frozen=True)
class Files(Source):
    """`<root>/<folder>/<split>.parquet`, `.jsonl` or `.csv`, or a folder `<split>/` of Parquet shards.

    `where` keeps the rows that have one of the given values in each of its columns, for example
    `{"lang": ["spa", "por"]}`: several tasks can share a table. Each value must occur in the training split; a corpus
    without such a column is kept whole.
    """

    folder: str
    where: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __call__(self, split: str, root: Path | None) -> pa.Table:
        rows = self._rows(split, root)
        for column, values in self.where.items():
            if column in rows.column_names or split != "corpus":
                rows = _having(rows, column, values, f"{split} of {self.folder!r}", is_strict=split == "train")
        return rows

    def _rows(self, split: str, root: Path | None) -> pa.Table:
        paths = [path for path in self.paths(split, root) if not _is_empty(path)]
        if not paths:
            raise DataError(f"no rows in {', '.join(map(str, self.paths(split, root)))}")
        format_, files = FORMATS[paths[0].suffix], [str(p) for p in paths]
        if format_ == "csv":
            return _read_csv(paths[0])
        return _read(format_, data_files=files, what=files[0], digest=digest_files(paths))

    def fingerprint(self, split: str, root: Path | None) -> str:
        given = {name: list(values) for name, values in self.where.items()}
        where = json.dumps(given, default=str) if given else ""
        return digest_files(self.paths(split, root)) + where

    def paths(self, split: str, root: Path | None) -> list[Path]:
        """The files of a split, sorted. Raises `DataError` with what there is instead."""
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
        shards = sorted((folder / split).glob("*.parquet"))
        single = [path for suffix in FORMATS if (path := folder / f"{split}{suffix}").is_file()]
        if len(single) + bool(shards) > 1:
            names = [path.name for path in single] + [f"{split}/"] * bool(shards)
            raise DataError(f"{folder} holds {split} in several formats: keep one of {', '.join(names)}")
        if not single and not shards:
            files = {p.stem for p in folder.iterdir() if p.suffix in FORMATS}
            there = sorted(files | {p.parent.name for p in folder.glob("*/*.parquet")})
            wanted = f"{split}.parquet, .jsonl, .csv or a folder {split}/ of Parquet shards"
            raise DataError(f"no split {split!r} in {folder} ({wanted}){nearest(split, there)}")
        return single or shards


@dataclass(frozen=True)
class Hub(Source):
    """A data set of the Hugging Face Hub at a pinned revision (a commit hash), or a local data-set folder.

    `splits` maps our split names to the repository's where they differ, for example `{"validation": "dev"}`.
    """

    repository: str
    revision: str
    config: str | None = None
    splits: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, split: str, root: Path | None) -> pa.Table:
        revision = None if Path(self.repository).is_dir() else self.revision
        name = self.splits.get(split, split)
        what = f"{self.repository}@{self.revision} split {name!r}"
        digest = self.fingerprint(split, root) if revision is None else ""
        return _read(self.repository, name=self.config, split=name, revision=revision, what=what, digest=digest)

    def fingerprint(self, split: str, root: Path | None) -> str:
        folder = Path(self.repository)
        if folder.is_dir():
            return digest_files(sorted(p for p in folder.rglob("*") if p.is_file()))
        return f"{self.repository}@{self.revision}:{self.config}:{self.splits.get(split, split)}"


@dataclass(frozen=True)
class Rows(Source):
    """Rows held in the task file itself, by split: for tests, samples and very small tasks."""

    train: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    test: list[dict[str, Any]] = field(default_factory=list)
    corpus: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, split: str, root: Path | None) -> pa.Table:
        rows = getattr(self, split, None)
        if not rows:
            given = [s for s in ("train", "validation", "test", "corpus") if getattr(self, s)]
            raise DataError(f"Rows has no split {split!r}{nearest(split, given)}")
        return as_table(rows)

    def fingerprint(self, split: str, root: Path | None) -> str:
        return hashlib.sha256(json.dumps(getattr(self, split, None), sort_keys=True, default=str).encode()).hexdigest()


def as_table(rows: Any) -> pa.Table:
    """Rows as a task's own `data` method may return them (Arrow table, `datasets.Dataset`, dicts) as an Arrow table."""
    import pyarrow as pa

    if isinstance(rows, pa.Table):
        return rows
    if hasattr(rows, "with_format"):
        return rows.with_format("arrow")[:]
    if isinstance(rows, Iterable) and not isinstance(rows, str | bytes | Mapping):
        rows = list(rows)
        if not rows:
            raise DataError("data gave no rows")
        try:
            names = dict.fromkeys(name for row in rows for name in row)
            return pa.table({name: [row.get(name) for row in rows] for name in names})
        except (pa.ArrowException, TypeError, AttributeError) as error:
            raise DataError(
                f"rows cannot be read as a table: {root_cause(error)}; give dicts with equal keys"
            ) from error
    raise DataError(f"data must give a pyarrow.Table, a datasets.Dataset or dicts, not {type(rows).__name__}")


def _having(rows: pa.Table, column: str, values: Sequence[Any], what: str, *, is_strict: bool) -> pa.Table:
    """The rows with one of `values` in `column`. Raises `DataError`, with what the column holds instead, if there is no
    such row, or none for one of the values if `is_strict`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if column not in rows.column_names:
        raise DataError(f"{what} has no column {column!r} to keep rows by{nearest(column, rows.column_names)}")
    if isinstance(values, str):
        raise DataError(f"where gives {values!r} for {column!r}: give a list of values")
    found = rows[column]
    try:
        kept = rows.filter(pc.is_in(found, value_set=pa.array(list(values)).cast(found.type)))
    except (pa.ArrowException, TypeError) as error:
        raise DataError(f"{column!r} of {what} cannot be compared with {list(values)}: {root_cause(error)}") from error
    there = set(kept[column].unique().to_pylist())
    missing = [value for value in values if value not in there]
    if missing and (is_strict or not there):
        others = [str(value) for value in found.unique().to_pylist()]
        raise DataError(f"no row of {what} has {column} {missing[0]!r}{nearest(str(missing[0]), others)}")
    return kept


def _read_csv(path: Path) -> pa.Table:
    """Columns that hold nothing but numbers are numbers; any other, such as ids like 007, are as they are written."""
    import pyarrow as pa
    from pyarrow import csv

    reading = csv.ReadOptions(block_size=CSV_BLOCK)
    parsing = csv.ParseOptions(newlines_in_values=True)
    try:
        with csv.open_csv(path, read_options=reading, parse_options=parsing) as file:
            names = file.schema.names
        as_written = csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True
        )
        rows = csv.read_csv(path, read_options=reading, parse_options=parsing, convert_options=as_written)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"cannot read {path} ({root_cause(error)}): save it as UTF-8, and quote texts with commas"
        ) from error
    if len(set(names)) < len(names):
        raise DataError(f"{path} has two columns of one name: {', '.join(names)}")
    return pa.table({name: _numbers(rows[name]) for name in names})


def _numbers(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of texts as whole numbers, numbers or truth values, if all are."""
    import pyarrow.compute as pc

    given = texts.drop_null()
    for kind, form in CSV_FORMS.items():
        if len(given) and pc.all(pc.match_substring_regex(given, form)).as_py():
            return texts.cast(kind)
    return texts


def _is_empty(path: Path) -> bool:
    """Whether a file holds no rows, which `datasets` reports in other words for each format. False if damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".parquet":
        try:
            return bool(pq.read_metadata(path).num_rows == 0)
        except (pa.ArrowInvalid, OSError):
            return False
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = islice((line for line in file if line.strip()), 2)
        return len(list(lines)) < (2 if path.suffix == ".csv" else 1)


def _read(path: str, *, what: str, split: str = "train", digest: str, **options: Any) -> pa.Table:
    """Rows through `datasets`, whose cache knows a file by its path and time of change: local files, by `digest`, get a
    folder of it for each content.
    """
    import datasets

    if digest:
        options["cache_dir"] = str(Path(datasets.config.HF_DATASETS_CACHE) / f"mtcl-{digest[:16]}")

    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(path, split=split, **options)
    except Exception as error:  # datasets raises a type of its own for each format and each stage
        raise DataError(f"cannot read {what}: {root_cause(error)}") from error
    finally:
        if not bars:
            datasets.enable_progress_bars()
    return rows.with_format("arrow")[:]


def digest_files(paths: list[Path]) -> str:
    """SHA-256 over the files' contents."""
    whole = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()
