"""Storylines: several posts about one event by different authors, for the task `storyline`.

Stories come in clusters that are hard to tell apart: two or three events at one company, and each kind of
event recurs at other companies. A cluster stays in one split, so its distractors are in the same pool. Some
angles leave the company's name out, and the post must then be known by the product, the place or the kind of
event.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from mtcl.demo.grammar import Ledger, fill, phrases, pick, polish
from mtcl.demo.lexicon import FIRST_NAMES, INDUSTRIES, OCCUPATIONS, PLACES, SHARED, SURNAMES, Industry, company_name

_MIN_POSTS, _MAX_POSTS = 4, 15


@dataclass(frozen=True)
class EventKind:
    """A kind of event: how insiders, outsiders and the firm itself speak of it."""

    official: list[str]
    staff: list[str]
    outside: list[str]
    details: list[str]


_ALL = phrases("stories")
EVENTS = [EventKind(**kind) for kind in _ALL["events"]]
_ASIDES: list[str] = _ALL["asides"]
_LEADS: list[str] = _ALL["leads"]
_LEAD_SHARE = 0.4

Facts = dict[str, Sequence[str]]
"""What fills the slots in one story."""


@dataclass(frozen=True)
class Story:
    """The distinct texts about one event."""

    posts: tuple[str, ...]


def make_cluster(rng: random.Random, ledger: Ledger) -> list[Story]:
    """Two or three stories about one company, each about another kind of event."""
    industry = rng.choice(INDUSTRIES)
    company = company_name(rng, industry)
    kinds = rng.sample(EVENTS, rng.choice((2, 2, 3)))
    return [_make_story(kind, _facts(industry, company, rng), rng, ledger) for kind in kinds]


def _make_story(kind: EventKind, slots: Facts, rng: random.Random, ledger: Ledger) -> Story:
    wanted = min(_MAX_POSTS, _MIN_POSTS + int(rng.expovariate(1 / 3.5)))
    posts: list[str] = []
    templates: list[str] = []
    while len(posts) < wanted:
        templates = templates or _angles(kind, rng)
        text = _compose(templates.pop(), kind, slots, rng)
        if ledger.add(text):
            posts.append(text)
    return Story(tuple(posts))


def _facts(industry: Industry, company: str, rng: random.Random) -> Facts:
    """What is fixed in one story; roles, moods and the like still vary from post to post."""
    money = rng.randint(3, 400)
    return dict(
        SHARED,
        company=(company, company, company.split()[0]),
        rival=(company_name(rng, industry),),
        industry=(industry.name,),
        product=(rng.choice(industry.product),),
        place=(rng.choice(PLACES).name,),
        person=(f"{rng.choice(FIRST_NAMES)} {rng.choice(SURNAMES)}",),
        money=(str(money),),
        num=(str(rng.randint(12, 96)),),
        price=(f"{rng.randint(2, 90)}9 euros",),
        weeks=(str(rng.randint(4, 30)),),
        pct=(f"{rng.randint(2, 9)}.{rng.randint(1, 9)}",),
        role=tuple(role.name for role in OCCUPATIONS),
        year_ahead=("2027", "2028", "2030"),
    )


def _angles(kind: EventKind, rng: random.Random) -> list[str]:
    """All sentences about the event in random order."""
    templates = [*kind.official, *kind.staff, *kind.outside]
    rng.shuffle(templates)
    return templates


def _compose(template: str, kind: EventKind, slots: Facts, rng: random.Random) -> str:
    templates = [template]
    if rng.random() < 0.6:
        templates.append(pick(kind.details, rng))
    templates += rng.sample(_ASIDES, rng.choice((0, 0, 1, 1, 2)))
    if rng.random() < 0.25:
        rng.shuffle(templates)
    if rng.random() < _LEAD_SHARE:
        templates.insert(0, pick(_LEADS, rng))
    return polish(" ".join(fill(part, slots, rng) for part in dict.fromkeys(templates)))
