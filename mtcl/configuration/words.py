"""Words for types and values in messages to users."""

from __future__ import annotations

import dataclasses
import typing
from datetime import timedelta
from pathlib import Path
from types import NoneType
from typing import Any, Literal

from mtcl.configuration.classes import NOUNS, noun, with_article
from mtcl.configuration.keys import Section
from mtcl.configuration.types import members
from mtcl.errors import listed

WORDS: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "values true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a string", "strings"),
    Path: ("a path", "paths"),
    timedelta: ("a time as DD:HH:MM:SS", "times as DD:HH:MM:SS"),
    NoneType: ("null", "nulls"),
}
"""Words for types of single values, in singular and plural."""
COVERS = [(float, int), (str, Path), (timedelta, str)]
"""Where a value may have both types, messages name only the first."""


def expected(hint: Any) -> str:
    """The words for a value of this type, for example `a whole number or null`."""
    if isinstance(hint, Section):
        return "keys with values, or leave it out"
    if hint is Any:
        return "a value"
    kinds = members(hint)
    covered = {NoneType} | {other for kind, other in COVERS if kind in kinds}
    words = [word for kind in kinds if kind not in covered for word in _of(kind)]
    words += ["null"] if NoneType in kinds else []
    return listed(dict.fromkeys(words))


def shown(value: Any) -> str:
    """A value as in YAML, shortened if it is long."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _of(kind: Any) -> list[str]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return [str(value) for value in arguments]
    if kind is bool:
        return ["true", "false"]
    if origin is None or not arguments:
        return [_single(kind)]
    if origin is dict:
        return ["keys with values"]
    return [f"a list of {listed(dict.fromkeys(_several(member) for member in members(arguments[0])))}"]


def _several(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "these"
    known = WORDS.get(kind) or NOUNS.get(kind)
    return known[1] if known else f"{getattr(kind, '__name__', kind)}s"


def _single(kind: Any) -> str:
    if kind in WORDS:
        return WORDS[kind][0]
    return "keys with values" if dataclasses.is_dataclass(kind) else with_article(noun((kind,)))
