"""Concatenates parts of a table that may differ in columns and types."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def joined(tables: list[pa.Table]) -> pa.Table:
    """All rows. A column that a part lacks is null there. Types are the widest of the parts, or text if they have no
    type in common.

    Integers and floats become floats, empty lists get the type of the other lists. Integers and text have no type in
    common, so all become text: 7 and "a17" become "7" and "a17".
    """
    import pyarrow as pa

    names = dict.fromkeys(name for table in tables for name in table.column_names)
    if not names:
        return pa.concat_tables(tables)
    return pa.table({name: _joined([_column(table, name) for table in tables]) for name in names})


def as_text(value: Any) -> str | None:
    """A JSON value as text: text and null unchanged, anything else as JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    import pyarrow as pa

    return table[name] if name in table.column_names else pa.chunked_array([pa.nulls(len(table))])


def _joined(parts: list[pa.ChunkedArray]) -> pa.ChunkedArray:
    import pyarrow as pa

    for some in (parts, [_plain(part) for part in parts]):
        try:
            tables = [pa.table({"": part}) for part in some]
            return pa.concat_tables(tables, promote_options="permissive").column(0)
        except pa.ArrowException:  # no type in common
            continue
    texts = [pa.array([as_text(value) for value in part.to_pylist()], type=pa.large_string()) for part in parts]
    return pa.chunked_array(texts)


def _plain(part: pa.ChunkedArray) -> pa.ChunkedArray:
    """Dictionary and string-view columns in types that Arrow can widen."""
    import pyarrow as pa

    if pa.types.is_dictionary(part.type):
        part = part.cast(part.type.value_type)
    return part.cast(pa.large_string()) if part.type == pa.string_view() else part
