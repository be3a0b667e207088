"""Parquet: only the pages of the wanted columns are read, those of a large file in parts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mtcl.errors import DataError, root_cause
from mtcl.task.reading.part import Part, Wanted
from mtcl.task.roles import as_role
from mtcl.task.spill import ROWS, Spill

if TYPE_CHECKING:
    import pyarrow as pa


def read_parquet(path: Path, wanted: Wanted) -> Part:
    """The wanted columns. Raises `DataError` for a damaged file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            names: list[str] = file.schema_arrow.names
            chosen = names if wanted.rest else [name for name in names if name in wanted.roles]
            if twice := [name for name in chosen if names.count(name) > 1]:
                raise DataError(f"{path} has two columns with the same name: {twice[0]}")
            if file.metadata.num_rows <= ROWS or not chosen:
                return Part(file.read(columns=None if wanted.rest else chosen).select(chosen), names)
            spill = Spill()
            for batch in file.iter_batches(ROWS, columns=chosen):
                rows = pa.Table.from_batches([batch]).select(chosen)
                spill.add(rows if wanted.rest else _in_roles(rows, wanted))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {root_cause(error)}") from error
    return Part(pa.concat_tables(spill.tables()), names, spill.is_used)


def _in_roles(rows: pa.Table, wanted: Wanted) -> pa.Table:
    """The columns in the types of their roles, where they fit: on disk, they need not be converted again."""
    import pyarrow as pa

    found = {name: as_role(rows[name], wanted.roles[name]) for name in rows.column_names if name in wanted.roles}
    return pa.table({name: rows[name] if found.get(name) is None else found[name] for name in rows.column_names})
