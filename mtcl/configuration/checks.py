"""Find the problems of a configuration: unknown keys, values of a wrong type, unknown classes.

The check walks over a plain dict and compares it with the keys and types of signatures (`keys.py`). jsonargparse
decides whether a single value fits a type. It also parses the configuration later, so the two never disagree; only the
wording is mtcl's own. Nothing is imported unless `imports` is given, so a checkpoint's configuration can be checked
before it is trusted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
from collections.abc import Iterator, Mapping
from functools import cache
from types import NoneType
from typing import Any

from jsonargparse import ArgumentParser

from mtcl.configuration.classes import noun, resolve
from mtcl.configuration.closest import closest, closest_key, did_you_mean
from mtcl.configuration.keys import Section, section_of, takes_more
from mtcl.configuration.types import Members
from mtcl.configuration.values import Text, fits, loaded
from mtcl.configuration.words import expected, shown
from mtcl.errors import ConfigError, nearest

MEANT = {"model": "model.encoder.name", "model.encoder": "model.encoder.name", "data": "data.root"}
"""Sections that people give a single value -> the key that they mean."""
CLASS_KEYS = ("class_path", "init_args", "dict_kwargs")


def check(config: Mapping[str, Any], keys: Section, **options: Any) -> None:
    """Raise `ConfigError` for the first of the `problems`."""
    for problem in problems(config, keys, **options):
        raise ConfigError(problem)


def problems(
    config: Mapping[str, Any],
    keys: Section,
    *,
    names: Mapping[str, str] | None = None,
    is_whole: bool = True,
    imports: bool = False,
) -> Iterator[str]:
    """All problems of a configuration, one line each.

    Args:
        keys: The keys that it can have.
        names: What to call a key in messages instead of its full name: an option or an environment variable.
        is_whole: Whether keys without a default are required.
        imports: Import the modules of classes that the configuration names, to check their arguments too.
    """
    yield from _Walk(keys, names or {}, is_whole, imports).section("", config, keys)


@dataclasses.dataclass(frozen=True)
class _Walk:
    """`where` is the full name of a value, empty for the whole configuration."""

    root: Section
    names: Mapping[str, str]
    is_whole: bool
    imports: bool

    def name(self, where: str) -> str:
        return self.names.get(where, where)

    def value(self, where: str, value: Any, hint: Any) -> Iterator[str]:
        if isinstance(hint, Section):
            yield from self.section(where, value, hint)
            return
        kinds = Members.of(hint)
        typed, value = value, loaded(value) if kinds.is_nested else value
        if kinds.is_open or (value in (None, "null") and NoneType in kinds.leaves):
            return
        if isinstance(value, Mapping) and kinds.record and "class_path" not in value:
            yield from self.record(where, value, kinds.record)
        elif isinstance(value, Mapping) and kinds.classes:
            yield from self.instance(where, value, kinds.classes)
        elif isinstance(value, Mapping) and kinds.entry:
            is_text = isinstance(typed, Text) and str in kinds.leaves  # as `query: `, which YAML reads as a mapping
            yield from () if is_text else self.entries(where, value, *kinds.entry)
        elif isinstance(value, list) and kinds.item is not None:
            for n, part in enumerate(value):
                yield from self.value(f"{where}[{n}]", part, kinds.item)
        elif isinstance(value, str) and kinds.classes and not fits(value, kinds.leaves):
            yield from self.instance(where, {"class_path": str(value)}, kinds.classes)
        elif isinstance(value, Mapping | list) or not fits(typed, kinds.leaves):
            yield self.wrong(where, typed, hint)
        elif isinstance(number := loaded(value), float) and math.isnan(number) and str not in kinds.leaves:
            yield f"{self.name(where)} is {value}: give a number"

    def wrong(self, where: str, value: Any, hint: Any) -> str:
        told = f"{self.name(where)} is {shown(loaded(value))}: give {expected(hint)}"
        if isinstance(hint, Section) and where in MEANT and not isinstance(value, Mapping | list):
            return told + did_you_mean([self.name(where).replace(where, MEANT[where])])
        if isinstance(hint, Section) or isinstance(value, Mapping | list):
            return told
        kinds = Members.of(hint)
        if not isinstance(value, Text | bool) and fits(Text(value), kinds.leaves):
            return f"{told}; in quotes if it is text"
        is_an_item = kinds.item is not None and fits(value, Members.of(kinds.item).leaves)
        return f"{told}, for example [{value}]" if is_an_item else told

    def section(self, where: str, value: Any, section: Section) -> Iterator[str]:
        value = loaded(value)
        if where and isinstance(value, Mapping) and "class_path" in value:
            return  # a subclass of a dataclass by its name, which the parser also accepts
        if not isinstance(value, Mapping):
            yield self.wrong(where, value, section)
            return
        prefix = f"{where}." if where else ""
        for key, inner in value.items():
            full = f"{prefix}{key}"
            if key in section.keys:
                yield from self.value(full, inner, section.keys[key])
            elif key not in section.set_by:
                near = closest_key(full, self.root)
                yield f"unknown key {full!r}" + (did_you_mean(near) or nearest(str(key), section.keys))
            elif inner is not None:
                yield f"{self.name(full)} is set through {section.set_by[key]}: give that key"
        for key in sorted(section.required - value.keys()) if self.is_whole else ():
            yield f"{prefix}{key} is missing: give {expected(section.keys[key])}"

    def record(self, where: str, value: Mapping[str, Any], kind: type) -> Iterator[str]:
        """A dataclass, for example the settings of a task."""
        section = section_of(kind)
        for key in value:
            if key not in section.keys:
                near = closest(str(key), section.keys) or closest_key(f".{key}", self.root)
                told = did_you_mean(near) or nearest(str(key), section.keys)
                yield f"{self.name(where)}: unknown key {key!r}{told}"
        yield from self.section(where, {k: v for k, v in value.items() if k in section.keys}, section)

    def entries(self, where: str, value: Mapping[Any, Any], of_key: Any, of_value: Any) -> Iterator[str]:
        """A dict with arbitrary keys."""
        for key, inner in value.items():
            if not fits(key, Members.of(of_key).leaves):
                yield f"{self.name(where)} has the key {shown(key)}: give {expected(of_key)}"
            yield from self.value(f"{where}.{key}", inner, of_value)

    def instance(self, where: str, value: Mapping[str, Any], kinds: tuple[type, ...]) -> Iterator[str]:
        """An object: the name of its class and its arguments."""
        path = value.get("class_path")
        arguments, more = (loaded(value.get(key, {})) for key in ("init_args", "dict_kwargs"))
        odd = [key for key in value if key not in CLASS_KEYS]
        if path is None and any(not inspect.isabstract(k) and value.keys() <= {*_arguments_of(k)} for k in kinds):
            return  # the arguments of the class itself
        if not isinstance(path, str):
            yield f"{self.name(where)} has no class_path: give the name of a {noun(kinds)}, as {{class_path: NAME}}"
        elif odd:
            yield f"{self.name(where)} has {odd[0]!r} next to class_path: move it to init_args"
        elif not isinstance(arguments, Mapping) or not isinstance(more, Mapping):
            key, found = ("dict_kwargs", more) if isinstance(arguments, Mapping) else ("init_args", arguments)
            yield f"{self.name(where)}.{key} is {shown(found)}: give keys with values, or leave it out"
        else:
            try:
                kind = resolve(path, kinds, imports=self.imports)
            except ConfigError as error:
                yield f"{self.name(where)}: {error}"
                return
            if kind is not None:
                yield from self.arguments(where, arguments, more, kind)

    def arguments(self, where: str, value: Mapping[str, Any], more: Mapping[str, Any], kind: type) -> Iterator[str]:
        """The arguments of a class; `more` are those that the parser passes on unchecked."""
        section, known = section_of(kind), _arguments_of(kind)
        for key, inner in value.items():
            if key in section.keys:
                yield from self.value(f"{where}.{key}", inner, section.keys[key])
        for key in (*value, *(() if takes_more(kind) else more)):
            if key not in known:
                near = did_you_mean(closest(str(key), known)) or nearest(str(key), known)
                yield f"{self.name(where)}: {kind.__name__} has no {key!r}{near}"
        for key in sorted(section.required - value.keys() - more.keys()) if self.is_whole else ():
            yield f"{self.name(where)}: {kind.__name__} needs {key}: give {expected(section.keys[key])}"


@cache
def _arguments_of(kind: type) -> tuple[str, ...]:
    """The names of a class's arguments, including those that it passes to its base classes."""
    names = list(section_of(kind).keys)
    if takes_more(kind):
        with contextlib.suppress(Exception):  # jsonargparse cannot read the class: the parser will report it
            names += ArgumentParser(exit_on_error=False).add_class_arguments(kind)
    return tuple(dict.fromkeys(names))
