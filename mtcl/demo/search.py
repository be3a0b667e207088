"""Search documents (job adverts, guides, meetups) and the short queries that people type to find them.

Queries use other words than the document: abbreviations, trade slang and everyday paraphrases. Each query
names the two facts that its document is about, and no two documents of a kind share both until all pairs are
used; from then on the queries name a third fact as well.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from mtcl.demo.grammar import fill, phrases, pick, polish
from mtcl.demo.lexicon import INDUSTRIES, OCCUPATIONS, PLACES, SHARED, company_name

_OWN_WORDS_SHARE = 0.45
_THIRD_FACT_SHARE = 0.3
_MAX_QUERY_WORDS = 6


@dataclass(frozen=True)
class Concept:
    """Something a document is about, and what people type instead."""

    name: str
    aliases: list[str]


@dataclass(frozen=True)
class Kind:
    """A kind of document: the two sorts of facts (of `FACTS`) that it is about, a third one, and its wording."""

    axes: list[str]
    third: str
    templates: list[str]
    intents: list[str]
    """Words that a query may add; an empty one for none."""


_ALL = phrases("search")
FACTS = {
    "role": [Concept(role.name, role.short) for role in OCCUPATIONS],
    "place": [Concept(place.name, place.short) for place in PLACES],
    "industry": [Concept(industry.name, industry.product) for industry in INDUSTRIES],
    **{name: [Concept(**fact) for fact in facts] for name, facts in _ALL["facts"].items()},
}
"""By sort, all that a document may be about."""
KINDS = [Kind(**kind) for kind in _ALL["kinds"]]
_SHARES = (50, 25, 25)

Pair = tuple[Concept, Concept]


@dataclass(frozen=True)
class Document:
    """A document's text and one to three queries that people might type to find it."""

    text: str
    queries: tuple[str, ...]


def make_documents(rng: random.Random) -> Iterator[Document]:
    """Documents without end; texts and queries may repeat in very large numbers."""
    facts = [_pairs(kind, rng) for kind in KINDS]
    while True:
        index = rng.choices(range(len(KINDS)), weights=_SHARES)[0]
        pair, is_first_round = next(facts[index])
        yield _make_document(KINDS[index], pair, is_first_round=is_first_round, rng=rng)


def _pairs(kind: Kind, rng: random.Random) -> Iterator[tuple[Pair, bool]]:
    """All pairs of facts in random order, round after round, and whether this is the first round."""
    first, second = kind.axes
    pairs = [(one, other) for one in FACTS[first] for other in FACTS[second]]
    is_first_round = True
    while True:
        rng.shuffle(pairs)
        for pair in pairs:
            yield pair, is_first_round
        is_first_round = False


def _make_document(kind: Kind, pair: Pair, *, is_first_round: bool, rng: random.Random) -> Document:
    third = rng.choice(FACTS[kind.third])
    slots = {
        **SHARED,
        **_ALL["slots"],
        "company": (company_name(rng, rng.choice(INDUSTRIES)),),
        "skill": (rng.choice(FACTS["skill"]).name,),
        kind.third: (third.name,),
        **{axis: (fact.name,) for axis, fact in zip(kind.axes, pair, strict=True)},
    }
    text = polish(fill(pick(kind.templates, rng), slots, rng))
    queries = []
    for _ in range(rng.choice((1, 2, 2, 3))):
        has_third = not is_first_round or rng.random() < _THIRD_FACT_SHARE
        queries.append(_make_query(kind, [*pair, third] if has_third else [*pair], rng))
    return Document(text, tuple(dict.fromkeys(queries)))


def _make_query(kind: Kind, facts: list[Concept], rng: random.Random) -> str:
    """The facts in random order and mostly in other words, such as `nyc swe sr`; two to six words."""
    rng.shuffle(facts)
    while True:
        words = [_say(fact, rng) for fact in facts]
        query = " ".join([*words, pick(kind.intents, rng)]).strip()
        if len(query.split()) <= _MAX_QUERY_WORDS:
            return query


def _say(fact: Concept, rng: random.Random) -> str:
    return fact.name.lower() if rng.random() < _OWN_WORDS_SHARE else pick(fact.aliases, rng)
