"""Single values: how they are typed, and whether they are of a type, by jsonargparse's own judgement."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import NoneType
from typing import Any, Union

import yaml
from jsonargparse import ArgumentParser


class Text(str):
    """A value as typed on the command line or in the environment, to be read by the type of its key."""

    __slots__ = ()


def loaded(value: Any) -> Any:
    """A typed value as YAML reads it; any other as it is."""
    if not isinstance(value, Text):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return str(value)


def fits(value: Any, kinds: Sequence[Any]) -> bool:
    """Whether the parser takes the value for one of the types, all of single values."""
    if not kinds or (value is None and NoneType not in kinds):
        return False
    parser = _parser_of(tuple(kinds))
    try:
        parser.parse_args([f"--value={value}"]) if isinstance(value, Text) else parser.parse_object({"value": value})
    except Exception:  # its own errors, and those that a type's constructor raises
        return False
    return True


@cache
def _parser_of(kinds: tuple[Any, ...]) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False, default_env=False)
    parser.add_argument("--value", type=Union[kinds])  # noqa: UP007, a tuple of types
    return parser
