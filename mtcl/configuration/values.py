"""Single values: values as typed by the user, and whether jsonargparse accepts them for a type."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import NoneType
from typing import Any, Union

import yaml
from jsonargparse import ArgumentParser


class Text(str):
    """A value as typed on the command line or in the environment; the type of its key determines how to read it."""

    __slots__ = ()


def loaded(value: Any) -> Any:
    """A `Text` as YAML reads it; any other value unchanged."""
    if not isinstance(value, Text):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return str(value)


def fits(value: Any, kinds: Sequence[Any]) -> bool:
    """Whether the parser accepts the value for one of the types, which are all types of single values."""
    if not kinds or (value is None and NoneType not in kinds):
        return False
    parser = _parser_of(tuple(kinds))
    try:
        parser.parse_args([f"--value={value}"]) if isinstance(value, Text) else parser.parse_object({"value": value})
    except Exception:  # the parser's errors, and those of a type's constructor
        return False
    return True


@cache
def _parser_of(kinds: tuple[Any, ...]) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False, default_env=False)
    parser.add_argument("--value", type=Union[kinds])  # noqa: UP007, a tuple of types
    return parser
