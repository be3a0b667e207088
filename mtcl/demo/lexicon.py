"""Words that all topics share: industries, roles, places, companies, and the sentences that say little.

Company names are built from invented syllables, so that no real firm is meant; places are real cities. Surnames are
invented, too.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from mtcl.demo.grammar import phrases


@dataclass(frozen=True)
class Industry:
    """A branch of business, its words and the hashtags its people use."""

    name: str
    firms: list[str]
    """Second words of company names."""
    product: list[str]
    """What such a company makes or sells; noun phrases in the singular without an article."""
    tags: list[str]
    """The plain hashtag and the one of the community, whose meaning is to be learned."""


@dataclass(frozen=True)
class Occupation:
    """A job title, how people shorten it in a search box, and a hashtag of the profession."""

    name: str
    short: list[str]
    tag: str


@dataclass(frozen=True)
class Place:
    """A city and the names that people type instead."""

    name: str
    short: list[str]


_ALL = phrases("lexicon")
INDUSTRIES = [Industry(**industry) for industry in _ALL["industries"]]
OCCUPATIONS = [Occupation(**role) for role in _ALL["occupations"]]
PLACES = [Place(**place) for place in _ALL["places"]]
FIRST_NAMES: list[str] = _ALL["first_names"]
SURNAMES: list[str] = _ALL["surnames"]
FILLERS: list[str] = _ALL["fillers"]
"""Sentences that say little and go with every topic."""
PASSING: list[str] = _ALL["passing"]
"""Sentences that mention another topic."""
_NUMBERS = (*range(3, 40), 45, 50, 60, 75, 80, 90, 120, 150, 200, 250, 300, 400, 500)
SHARED: dict[str, list[str]] = {"n": [str(n) for n in _NUMBERS], **_ALL["slots"]}
"""Slots that mean the same in every template."""


def company_name(rng: random.Random, industry: Industry) -> str:
    """An invented firm of that industry, such as `Vorlano Freight`."""
    return f"{rng.choice(_ALL['stems'])}{rng.choice(_ALL['endings'])} {rng.choice(industry.firms)}"
