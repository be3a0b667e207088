"""Dataclasses from plain values: from a mapping of their attributes, as in YAML or a notebook, or from a JSON file."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from mtcl.errors import ConfigError, DataError, nearest, root_cause

Options = TypeVar("Options")


def from_mapping(kind: type[Options], given: Options | Mapping[str, Any] | None, *, where: str) -> Options:
    """An instance of a dataclass from a mapping of its attributes, as in YAML or a notebook.

    None gives the defaults, and an instance is returned unchanged. Raises a `ConfigError` that begins with `where` for
    an unknown name or a value of the wrong type.
    """
    if isinstance(given, kind):
        return given
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(f"{where} is {given!r:.80}: give a mapping of names to values, or a {kind.__name__}")
    hints, values = get_type_hints(kind), dict(given or {})
    known = [one.name for one in fields(cast("Any", kind)) if one.init]
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"{where} has an unknown name {name!r}{nearest(str(name), known)}")
        inner = [one for one in (hints[name], *get_args(hints[name])) if isinstance(one, type) and is_dataclass(one)]
        if inner and isinstance(value, Mapping):
            of = from_each_mapping if get_origin(hints[name]) is dict else from_mapping
            values[name] = of(inner[0], value, where=f"{where}.{name}")
        elif not _fits(value, hints[name]):
            raise ConfigError(f"{where}.{name} is {value!r:.80}: give {_words(hints[name])}")
    return kind(**values)


def check_types(function: Any, given: Mapping[str, Any], *, where: str, but: Collection[str] = ()) -> None:
    """Raise a `ConfigError` for an argument that does not fit its annotation in `function`.

    `given` are values by name; names that the function does not have are skipped, and those in `but`.
    """
    for name, hint in get_type_hints(function).items():
        if name in given and name not in but and not _fits(given[name], hint):
            raise ConfigError(f"{where}{name} is {given[name]!r:.80}: give {_words(hint)}")


def read_record(kind: type[Options], file: Path, *, leaving_out: Collection[str] = (), advice: str) -> Options | None:
    """An instance of a dataclass from a JSON file; None if there is no such file.

    Entries named in `leaving_out` are skipped. Raises a `DataError`, with `advice`, for a malformed file.
    """
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        given = {name: value for name, value in content.items() if name not in leaving_out}
        return from_mapping(kind, given, where=str(file))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError, ConfigError) as error:
        raise DataError(f"{file} is malformed ({root_cause(error)}): {advice}") from error


def from_each_mapping(kind: type[Options], given: Mapping[str, Any], *, where: str) -> dict[str, Options]:
    """`from_mapping` for each value of a mapping."""
    return {str(name): from_mapping(kind, value, where=f"{where}.{name}") for name, value in given.items()}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain value fits a type annotation. An int is accepted as a float, a bool only as a bool."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if origin is list:
        return isinstance(value, list | tuple) and all(_fits(one, inner[0]) for one in value)
    if origin is dict:
        return isinstance(value, Mapping) and all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items())
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int | float) if hint is float else isinstance(value, hint)


def _words(hint: Any) -> str:
    """A type annotation in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_words(one) for one in inner)
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin in (list, dict):
        return f"a {origin.__name__} of {' to '.join(_words(one) for one in inner)}"
    names = {
        Any: "any value",
        str: "text",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        type(None): "null",
    }
    return names.get(hint, getattr(hint, "__name__", str(hint)))
