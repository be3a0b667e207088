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


def untyped(text: Text) -> Any:
    """The value of a key of any type: as YAML reads it, but 1e-4 is a number too, as in the configuration of a run, and
    what YAML would change stays text: a space at its end, `query: `, 007.
    """
    value = loaded(text)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return str(text) if value == text.strip() else value
    is_changed = isinstance(value, dict | list) and not text.lstrip().startswith(("{", "["))
    has_zeros = isinstance(value, int) and text[:1] == "0" and text != "0"
    return str(text) if is_changed or has_zeros else value


def plain(value: Any) -> Any:
    """A configuration with each `Text` as ordinary text, which jsonargparse reads by the type of its key."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return str(value) if isinstance(value, Text) else value


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
