"""Columns of rows, checked: present, of the right type, without nulls and blanks; what is left out is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mtcl.errors import DataError, nearest
from mtcl.types import FloatArray, IntArray

if TYPE_CHECKING:
    import pyarrow as pa


def clean(rows: pa.Table, *texts: str) -> tuple[pa.Table, dict[str, int]]:
    """The rows whose text columns are neither null nor blank, and the number left out by reason."""
    import pyarrow as pa
    import pyarrow.compute as pc

    skipped: dict[str, int] = {}
    for name in texts:
        column = _column(rows, name, _is_text, "text")
        null = pc.is_null(column)
        blank = pa.chunked_array([_is_blank(chunk) for chunk in column.chunks], type=pa.bool_())
        num_null, num_blank = pc.sum(null).as_py() or 0, pc.sum(blank).as_py() or 0
        count(skipped, f"null {name}", num_null)
        count(skipped, f"empty {name}", num_blank)
        if num_null + num_blank:
            rows = rows.filter(pc.invert(pc.or_(null, blank)))
    return rows, skipped


def text_column(rows: pa.Table, name: str) -> pa.LargeStringArray:
    """A column of strings as one array, of any size: a string array of Arrow ends at 2 GiB, a large one does not.

    Raises `DataError` if the column is missing or of another type.
    """
    import pyarrow as pa

    return typed_column(rows, name, _is_text, "text", as_type=pa.large_string())


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))


def _is_blank(texts: pa.Array) -> pa.BooleanArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.fill_null(pc.equal(pc.utf8_trim_whitespace(texts.cast(pa.large_string())), ""), False)


def id_column(rows: pa.Table, name: str) -> pa.LargeStringArray:
    """A column of ids (strings or integers) as strings; a null id is an error, for it would tie strangers together."""
    import pyarrow as pa

    def is_id(kind: pa.DataType) -> bool:
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind))

    column = typed_column(rows, name, is_id, "text or integers", as_type=pa.large_string())
    if column.null_count:
        raise DataError(f"column {name!r} has {column.null_count} null ids: give each row an id or leave the row out")
    return column


def number_column(rows: pa.Table, name: str) -> FloatArray:
    """A column of numbers (or booleans) as float64; a null or a NaN is an error."""
    import pyarrow as pa

    def is_number(kind: pa.DataType) -> bool:
        return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))

    values = np.asarray(
        typed_column(rows, name, is_number, "numbers").cast(pa.float64()).to_numpy(zero_copy_only=False)
    )
    if missing := int(np.isnan(values).sum()):
        raise DataError(f"column {name!r} has no number in {missing:,} rows: give each row one or leave the row out")
    return values


def negatives_column(rows: pa.Table, names: str | tuple[str, ...]) -> tuple[pa.Array, IntArray] | None:
    """Hard negatives of all named columns: the texts, and the row of each; None if no column is named.

    A column holds a text a row or a list of them; nulls and blanks are no negatives.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    names = (names,) if isinstance(names, str) else names
    if not names:
        return None
    texts, owners = [], []
    for name in names:
        column = typed_column(rows, name, _is_text_or_texts, "text or lists of texts")
        owner = pa.array(np.arange(len(rows)))
        if is_list(column.type):
            owner, column = pc.list_parent_indices(column).cast(pa.int64()), pc.list_flatten(column)
        column = column.cast(pa.large_string())
        given = pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(column), ""), False)
        texts.append(column.filter(given))
        owners.append(np.asarray(owner.filter(given)))
    return pa.concat_arrays(texts), np.concatenate(owners)


def is_list(kind: Any) -> bool:
    """Whether an Arrow type is one of lists of any length."""
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_text_or_texts(kind: Any) -> bool:
    import pyarrow as pa

    if is_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))


def typed_column(
    rows: pa.Table, name: str, accepts: Any, wanted: str, *, as_type: pa.DataType | None = None
) -> pa.Array:
    """A column as one array, cast to `as_type`, else strings to large ones, which do not end at 2 GiB. `accepts` takes
    the Arrow type.
    """
    import pyarrow as pa

    column = _column(rows, name, accepts, wanted)
    if as_type is not None:
        column = column.cast(as_type)
    elif is_list(column.type):
        column = column.cast(pa.large_list(_large(column.type.value_type)))
    else:
        column = column.cast(_large(column.type))
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _large(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    return pa.large_string() if pa.types.is_string(kind) else kind


def _column(rows: pa.Table, name: str, accepts: Any, wanted: str) -> pa.ChunkedArray:
    """A column of a type that `accepts` takes, decoded from its dictionary."""
    import pyarrow as pa

    if name not in rows.column_names:
        raise DataError(
            f"no column {name!r} (columns: {', '.join(rows.column_names)}){nearest(name, rows.column_names)}"
        )
    column = rows[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not accepts(column.type):
        raise DataError(f"column {name!r} holds {column.type}, not {wanted}")
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        raise DataError(f"column {name!r} cannot be read ({error}): is the file saved as UTF-8?") from error
    return column


def count(skipped: dict[str, int], reason: str, rows: int) -> None:
    """Add to the number of rows left out for a reason."""
    if rows:
        skipped[reason] = skipped.get(reason, 0) + rows
