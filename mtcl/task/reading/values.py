"""Values as JSON or Python has them, as a column in the type of its role."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from mtcl.errors import DataError
from mtcl.task.reading.joined import as_text
from mtcl.task.roles import Role, hint

if TYPE_CHECKING:
    import pyarrow as pa


def array_of(values: Sequence[Any], name: str, role: Role, place_of: Callable[[int], str]) -> pa.Array:
    """A column's values in the type of its role; `place_of` says where the value with a number is, for messages.

    Raises `DataError` with the place of the first value that the role does not accept.
    """
    try:
        return _array(values, role)
    except ValueError:
        wrong = next(n for n, value in enumerate(values) if not _accepts(value, role))
        raise _misfit(place_of(wrong), name, values[wrong], role) from None


def _array(values: Sequence[Any], role: Role) -> pa.Array:
    """Raises `ValueError` if the role does not accept one of the values."""
    import pyarrow as pa

    if role is not Role.ANY and not all(_accepts(value, role) for value in values):
        raise ValueError
    text, texts = pa.large_string(), pa.large_list(pa.large_string())
    match role:
        case Role.TEXT:
            return pa.array(values, type=text)
        case Role.ID:
            return pa.array([str(value) if isinstance(value, int) else value for value in values], type=text)
        case Role.NUMBER:
            return pa.array([None if value is None else _float(value) for value in values], type=pa.float64())
        case Role.TEXTS:
            return pa.array(values, type=texts)
        case Role.TEXT_OR_TEXTS:
            return pa.array([[value] if isinstance(value, str) else value for value in values], type=texts)
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):  # of several types, or beyond 64 bits
        return pa.array([as_text(value) for value in values], type=text)


def _accepts(value: Any, role: Role) -> bool:
    if value is None:
        return True
    match role:
        case Role.TEXT:
            return _is_text(value)
        case Role.ID:
            return _is_text(value) or type(value) is int
        case Role.NUMBER:
            return isinstance(value, int | float | Decimal)
        case Role.TEXTS:
            return isinstance(value, list) and all(one is None or _is_text(one) for one in value)
        case Role.TEXT_OR_TEXTS:
            return _is_text(value) or _accepts(value, Role.TEXTS)
    return _is_text(json.dumps(value, ensure_ascii=False, default=str))


def _is_text(value: Any) -> bool:
    r"""Whether a value is text that UTF-8 can encode; JSON can contain half of an emoji, as \ud83d."""
    if not isinstance(value, str):
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _float(value: float | Decimal) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of more than 308 digits
        return math.copysign(math.inf, value)


def _misfit(place: str, name: str, value: Any, role: Role) -> DataError:
    if isinstance(value, str) and role is not Role.NUMBER and role is not Role.TEXTS:
        return DataError(f"{place}: column {name!r} has half of a character ({value!a:.80}): fix or remove it")
    what = hint(role, found_lists=isinstance(value, list), found_numbers=type(value) is int)
    return DataError(f"{place}: column {name!r} holds {_named(value)}, not {role}{what}")


def named(value: Any) -> str:
    """A value in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float() | Decimal():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case dict():
            return "an object"
    return f"a value of type {type(value).__name__}"


def _named(value: Any) -> str:
    """A value in words; a list with what is in it beside text."""
    if isinstance(value, list):
        odd = [named(one) for one in value if not (one is None or _is_text(one))]
        return f"a list with {'half of a character' if odd[0] == 'text' else odd[0]}" if odd else "a list"
    return named(value)
