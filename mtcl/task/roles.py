"""Roles of columns. A pair construction declares the role of each column it reads, and the role determines its type.

Parquet files have column types, JSONL files have a type per value, CSV files have none. A reader that guesses types
from the first rows is wrong if a later row differs, so readers use the roles instead.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


class Role(StrEnum):
    """The content of a column. The value is the wording in messages."""

    TEXT = "text"
    ID = "text or integers"
    """An id or a name; the integer 7 and the text "7" are the same."""
    NUMBER = "numbers"
    """Decimals and booleans are accepted too."""
    TEXTS = "a list of strings"
    TEXT_OR_TEXTS = "text or lists of texts"
    """In any mixture; a text counts as a list with one element."""
    ANY = "values of any type"
    """With the types they have in the file."""


def as_role(column: pa.ChunkedArray, role: Role) -> pa.ChunkedArray | None:
    """The column in the Arrow type of its role, None if its type does not fit; dictionary columns are decoded.

    Text becomes large strings, which unlike Arrow's plain strings are not limited to 2 GiB; numbers become float64.
    """
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if is_list(column.type):
        column = _plain_lists(column)
    kind, text, texts = column.type, pa.large_string(), pa.large_list(pa.large_string())
    is_null = pa.types.is_null(kind)
    match role:
        case Role.TEXT if is_text(kind) or is_null:
            return column.cast(text)
        case Role.ID if is_text(kind) or _is_whole(kind) or is_null:
            return column.cast(text)
        case Role.NUMBER if _is_number(kind) or is_null:
            return column.cast(pa.float64(), safe=False)
        case Role.TEXTS | Role.TEXT_OR_TEXTS if is_list(kind) and _is_text_or_null(kind.value_type):
            return column.cast(texts)
        case Role.TEXTS if is_null:
            return column.cast(texts)
        case Role.TEXT_OR_TEXTS if is_text(kind) or is_null:
            return pa.chunked_array([_lists_of_one(chunk.cast(text)) for chunk in column.chunks], type=texts)
        case Role.ANY:
            return column
    return None


def hint(role: Role, *, found_lists: bool, found_numbers: bool = False) -> str:
    """Advice to append to a message where lists or integers were found instead of text, or text instead of lists."""
    if role is Role.TEXT and found_numbers:
        return ": save it as text, or use Cluster if the numbers are classes without names"
    if role in (Role.TEXT, Role.ID) and found_lists:
        return ": for a text with a list of labels use Tags"
    if role is Role.TEXTS and not found_lists:
        return ": for a text with one label use LabelText"
    return ""


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type is a string type."""
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view())


def is_list(kind: pa.DataType) -> bool:
    """Whether an Arrow type is a list type: of variable or fixed length, or a view."""
    import pyarrow as pa

    types = pa.types
    is_view = types.is_list_view(kind) or types.is_large_list_view(kind)
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind) or is_view)


def _plain_lists(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same lists as large lists, in which a null has no members.

    Arrow allows members behind a null (a list of fixed length always has them), but `list_flatten` skips them and
    `list_parent_indices` does not. A cast keeps them, and loses members of list views (pyarrow 26.0).
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    def plain(lists: pa.Array) -> pa.LargeListArray:
        lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0))
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        return pa.LargeListArray.from_arrays(offsets, pc.list_flatten(lists), mask=pc.is_null(lists))

    chunks = [plain(chunk) for chunk in column.chunks]
    return pa.chunked_array(chunks, type=pa.large_list(column.type.value_type))


def _is_text_or_null(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return is_text(kind) or bool(pa.types.is_null(kind))


def _is_whole(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0))


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    is_exact = pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_boolean(kind)
    return bool(is_exact or pa.types.is_floating(kind))


def _lists_of_one(texts: pa.LargeStringArray) -> pa.LargeListArray:
    """Each text as a list with one element; null stays null."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    offsets = np.concatenate([[0], np.cumsum(np.asarray(pc.is_valid(texts)))])
    return pa.LargeListArray.from_arrays(offsets, texts.drop_null(), mask=pc.is_null(texts))
