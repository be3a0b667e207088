"""Opens an input of any format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mtcl.deploy.embed.line_rows import opened_lines
from mtcl.deploy.embed.parquet_rows import ParquetRows
from mtcl.deploy.embed.rows import OpenInput
from mtcl.deploy.embed.shards import Columns, Shard


@contextmanager
def opened(shard: Shard, columns: Columns) -> Iterator[OpenInput]:
    """Open an input. Raises `DataError` if a column is missing or has an unsuitable type, or the file is damaged."""
    with (ParquetRows.opened if shard.suffix == ".parquet" else opened_lines)(shard, columns) as rows:
        yield rows
