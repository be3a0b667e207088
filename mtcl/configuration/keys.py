"""The keys that a configuration can have and their types, read from signatures."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any


@dataclass(frozen=True)
class Section:
    """Keys that belong together, such as the arguments of a class.

    Attributes:
        keys: The type of each key, or a section for a key with keys of its own.
        required: Keys without a default.
        set_by: Keys that are derived from another key, with the full name of that key.
    """

    keys: Mapping[str, Any]
    required: frozenset[str] = frozenset()
    set_by: Mapping[str, str] = field(default_factory=dict)


@cache
def section_of(kind: Any) -> Section:
    """The arguments of a class; an argument whose type is a dataclass is a section of its own."""
    hints = _hints(kind)
    keys: dict[str, Any] = {}
    required = set()
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        hint = hints.get(name, Any)
        keys[name] = section_of(hint) if dataclasses.is_dataclass(hint) and isinstance(hint, type) else hint
        if parameter.default is parameter.empty:
            required.add(name)
    return Section(keys, frozenset(required))


def takes_more(kind: type) -> bool:
    """Whether a class takes keyword arguments that its signature does not name."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(kind).parameters.values())


def full_names(section: Section, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The full name of every key below a section, with its type or section."""
    for name, hint in section.keys.items():
        yield f"{prefix}{name}", hint
        if isinstance(hint, Section):
            yield from full_names(hint, f"{prefix}{name}.")


def set_by(section: Section, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The full name of every derived key below a section, with the key that it is derived from."""
    yield from ((f"{prefix}{name}", other) for name, other in section.set_by.items())
    for name, hint in section.keys.items():
        if isinstance(hint, Section):
            yield from set_by(hint, f"{prefix}{name}.")


def _hints(kind: type) -> dict[str, Any]:
    """Types by argument; the annotations of a foreign class may not be resolvable."""
    try:
        return typing.get_type_hints(kind.__init__)  # type: ignore[misc]
    except (NameError, TypeError, AttributeError):
        return {}
