"""The role of a column: what a pair construction reads in it, and so the type that every file gives it.

Files say different things about their types: Parquet has them, JSONL has them row by row, CSV has none. A reader that
guesses types from the first rows is wrong where a later row differs, so it is told the role of each column instead.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


class Role(StrEnum):
    """What a column holds. The value is the wording in messages."""

    TEXT = "text"
    ID = "text or integers"
    """An id or a name: the integer 7 and the text "7" are equal."""
    NUMBER = "numbers"
    """Also decimals and truth values."""
    TEXTS = "a list of strings"
    TEXT_OR_TEXTS = "text or lists of texts"
    """In any mixture; a text counts as a list of one."""
    ANY = "values of any type"
    """As the file has them."""


def as_role(column: pa.ChunkedArray, role: Role) -> pa.ChunkedArray | None:
    """The column in the one Arrow type of its role, decoded from a dictionary; None if it holds something else.

    Text is large strings, which unlike Arrow's plain ones do not end at 2 GiB; numbers are float64.
    """
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
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


def hint(role: Role, *, found_lists: bool) -> str:
    """What to do where lists were found in the place of text, or text in the place of lists; to append to a message."""
    if role in (Role.TEXT, Role.ID) and found_lists:
        return ": for a text with a list of labels use Tags"
    if role is Role.TEXTS and not found_lists:
        return ": for a text with one label use LabelText"
    return ""


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type is one of strings."""
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view())


def is_list(kind: pa.DataType) -> bool:
    """Whether an Arrow type is one of lists, of any length or of a fixed one.

    List views are not: pyarrow 26.0 casts them to lists without the last one's members.
    """
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


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
    """A list of each text, and null for null."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    offsets = np.concatenate([[0], np.cumsum(np.asarray(pc.is_valid(texts)))])
    return pa.LargeListArray.from_arrays(offsets, texts.drop_null(), mask=pc.is_null(texts))
