"""Suggest the right name for a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from mtcl.configuration.keys import Section, full_names, section_of
from mtcl.configuration.types import Members


def closest(name: str, known: Iterable[str]) -> list[str]:
    """Known names with a similar spelling, ignoring case: at most three, all about as close as the closest one."""
    by_lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)

    def ratio(other: str) -> float:
        return difflib.SequenceMatcher(None, name.lower(), other).ratio()

    return [by_lower[other] for other in near if ratio(other) > ratio(near[0]) - 0.1]


def closest_key(key: str, section: Section) -> list[str]:
    """Full names of the configuration keys that an unknown full name may mean.

    Tried in order: keys with the same last part elsewhere, similar keys in the same section, similar keys anywhere.
    """
    known = [name for name, _ in full_names(section)] + list(_named(section))
    place, _, last = key.rpartition(".")
    if elsewhere := [name for name in known if name.rpartition(".")[2] == last]:
        return elsewhere[:3]
    beside = {name.rpartition(".")[2]: name for name in known if name.rpartition(".")[0] == place}
    if near := closest(last, beside):
        return [beside[name] for name in near]
    near = closest(last, {name.rpartition(".")[2] for name in known})
    return [name for name in known if name.rpartition(".")[2] in near][:3]


def did_you_mean(names: list[str]) -> str:
    """A hint to append to a message."""
    return "; did you mean " + " or ".join(repr(name) for name in names) + "?" if names else ""


def _named(section: Section) -> Iterator[str]:
    """Keys of records in a dict, whose names the user chooses: `tasks.NAME.loss`."""
    for key, hint in section.keys.items():
        entry = None if isinstance(hint, Section) else Members.of(hint).entry
        record = Members.of(entry[1]).record if entry else None
        if record:
            yield from (f"{key}.NAME.{name}" for name in section_of(record).keys)
