"""Reads the rows of a split from its files: one file, or any number of shards."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mtcl.errors import DataError
from mtcl.task.pairs.columns import column, missing
from mtcl.task.reading.csv_file import read_csv
from mtcl.task.reading.joined import joined
from mtcl.task.reading.jsonl import read_jsonl
from mtcl.task.reading.parquet import read_parquet
from mtcl.task.reading.part import Part, Wanted
from mtcl.task.roles import Role
from mtcl.task.spill import Spill

if TYPE_CHECKING:
    import pyarrow as pa

Reader: TypeAlias = Callable[[Path, Wanted], Part]
FORMATS: dict[str, Reader] = {
    ".parquet": read_parquet,
    ".jsonl": read_jsonl,
    ".csv": read_csv,
}
"""The reader for each suffix."""


def read_split(
    paths: list[Path], wanted: Wanted, *, optional: Collection[str] = (), reader: Reader | None = None
) -> Part:
    """All rows, in the order of the files. Files without rows are skipped. The suffix decides on the reader, if none is
    given.

    Raises `DataError` if there are no rows, or if a column is missing or does not fit its role. `optional` columns may
    be missing. Columns of hard negatives may be missing in some of the shards, whose rows then have none.
    """
    names: dict[str, None] = {}
    rows, names_of = Spill(), {}
    for path in paths:
        part = (reader or FORMATS[path.suffix])(path, wanted)
        if part.rows.num_rows:
            names_of[path] = part.names
            names |= dict.fromkeys(part.names)
            rows.add(part.rows if wanted.rest else _in_roles(path, part, wanted), is_spilled=part.is_spilled)
    if not names_of:
        raise DataError(f"no rows in {', '.join(map(str, paths))}")
    if not wanted.rest:
        may_lack = {n for n, r in wanted.roles.items() if n in optional or (r is Role.TEXT_OR_TEXTS and n in names)}
        for path, there in names_of.items():
            for name in [name for name in wanted.roles if name not in there and name not in may_lack]:
                raise DataError(f"{path}: {missing(name, there)}")
    return Part(joined(rows.tables()), list(names))


def _in_roles(path: Path, part: Part, wanted: Wanted) -> pa.Table:
    """The wanted columns that the file has."""
    import pyarrow as pa

    try:
        there = {name: role for name, role in wanted.roles.items() if name in part.names}
        return pa.table({name: column(part.rows, name, role) for name, role in there.items()}) if there else part.rows
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
