"""Reads the rows of a split from its files: one file, or any number of shards."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mtcl.errors import DataError
from mtcl.task.pairs.columns import column
from mtcl.task.reading.csv_file import read_csv
from mtcl.task.reading.joined import joined
from mtcl.task.reading.jsonl import read_jsonl
from mtcl.task.reading.parquet import read_parquet
from mtcl.task.reading.part import Part, Wanted
from mtcl.task.roles import Role

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
    parts = {path: (reader or FORMATS[path.suffix])(path, wanted) for path in paths}
    parts = {path: part for path, part in parts.items() if part.rows.num_rows}
    if not parts:
        raise DataError(f"no rows in {', '.join(map(str, paths))}")
    names = list(dict.fromkeys(name for part in parts.values() for name in part.names))
    if wanted.rest:
        return Part(joined([part.rows for part in parts.values()]), names)
    may_lack = {n for n, role in wanted.roles.items() if n in optional or (role is Role.TEXT_OR_TEXTS and n in names)}
    tables = []
    for path, part in parts.items():
        try:
            tables.append(
                _in_roles(part, {n: r for n, r in wanted.roles.items() if n in part.names or n not in may_lack})
            )
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    return Part(joined(tables), names)


def _in_roles(part: Part, roles: dict[str, Role]) -> pa.Table:
    import pyarrow as pa

    found = {name: column(part.rows, name, role, known=part.names) for name, role in roles.items()}
    return pa.table(found) if found else part.rows
