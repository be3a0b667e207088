"""How vectors and the columns beside them lie in a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtcl.deploy.embed.settings import EMBEDDING
from mtcl.files import written_whole
from mtcl.task.reading.joined import as_text

if TYPE_CHECKING:
    import pyarrow as pa


def write_tables(path: Path, tables: Iterator[pa.Table], schema: pa.Schema) -> None:
    """Write a Parquet file of one row group per table. The file appears when it is whole."""
    import pyarrow.parquet as pq

    with (
        written_whole(path, alone=True) as aside,
        pq.ParquetWriter(aside, schema, **layout(schema)) as writer,
    ):
        for table in tables:
            writer.write_table(table.replace_schema_metadata(schema.metadata), row_group_size=max(1, len(table)))


def layout(schema: pa.Schema) -> dict[str, Any]:
    """Options of pyarrow's writers: vectors plain, because they hardly compress and have few equal values, the other
    columns compressed.
    """
    others = [name for name in schema.names if name != EMBEDDING]
    compression = {**dict.fromkeys(others, "zstd"), EMBEDDING: "none"}
    return {
        "compression": {_leaf(schema, name): compression[name] for name in schema.names},
        "use_dictionary": [name for name in others if _leaf(schema, name) == name],
        "write_statistics": [name for name in others if _leaf(schema, name) == name],
    }


def _leaf(schema: pa.Schema, name: str) -> str:
    """The path of a column's values in a Parquet file."""
    import pyarrow as pa

    return f"{name}.list.element" if pa.types.is_fixed_size_list(schema.field(name).type) else name


def cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table in the types of the schema; what cannot be cast to text becomes JSON."""
    import pyarrow as pa

    columns = []
    for field in schema:
        column = table[field.name]
        if column.type != field.type:
            try:
                column = column.cast(field.type)
            except pa.ArrowException:
                column = pa.chunked_array([pa.array(map(as_text, column.to_pylist()), type=field.type)])
        columns.append(column)
    return pa.table(columns, schema=schema)


def fits(column: pa.ChunkedArray, kind: pa.DataType) -> bool:
    """Whether all values keep their value in this type, unlike integers beyond 2^53 as floating-point numbers."""
    import pyarrow as pa

    try:
        column.cast(kind)
    except pa.ArrowException:
        return False
    return True
