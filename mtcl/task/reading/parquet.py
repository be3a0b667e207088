"""Parquet: the file's types are kept, and only the pages of the wanted columns are read."""

from __future__ import annotations

from pathlib import Path

from mtcl.errors import DataError, root_cause
from mtcl.task.reading.part import Part, Wanted


def read_parquet(path: Path, wanted: Wanted) -> Part:
    """The wanted columns as they are stored. Raises `DataError` for a damaged file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            names: list[str] = file.schema_arrow.names
            chosen = names if wanted.rest else [name for name in names if name in wanted.roles]
            if twice := [name for name in chosen if names.count(name) > 1]:
                raise DataError(f"{path} has two columns with the same name: {twice[0]}")
            rows = file.read(columns=None if wanted.rest else chosen)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {root_cause(error)}") from error
    return Part(rows.select(chosen), names)
