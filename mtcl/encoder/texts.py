"""What a user may give as texts: one text, or any ordered collection of texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mtcl.errors import ConfigError


def texts_of(given: Any) -> list[str]:
    """The texts, in their order.

    Raises `ConfigError` for values that are not text, and for collections of which it is not clear which text belongs
    to which vector: sets have no order, and going through a dict or a DataFrame gives the names of its columns.
    """
    if isinstance(given, str):
        return [_checked(given)]
    kind = type(given).__name__
    if isinstance(given, Mapping) or hasattr(given, "columns"):
        raise ConfigError(f"texts is of type {kind}: give one of its columns")
    if isinstance(given, set | frozenset):
        raise ConfigError(f"texts is of type {kind}, which has no order: give a list")
    if isinstance(given, bytes) or not isinstance(given, Iterable) or getattr(given, "ndim", 1) != 1:
        raise ConfigError(f"texts is {given!r:.60}, of type {kind}: give a text or a list of texts")
    values = given.to_pylist() if hasattr(given, "to_pylist") else given  # Arrow's arrays hold scalars
    return [_checked(value) for value in values]


def _checked(value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"texts holds {value!r:.60}: give strings")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"texts holds {value!a:.60}, which has half of a character: fix or remove it") from error
    return value
