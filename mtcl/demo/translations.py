"""Short posts in English, Spanish, French and German at once, from parallel templates and a parallel lexicon.

Agreement needs no rules because the slots are chosen for it: German noun phrases are feminine, neuter or
plural (nominative and accusative look alike) and follow only verbs and prepositions with the accusative;
French ones never follow `de` or `à`, and Spanish ones follow `a` only in the plural, so nothing contracts;
roles are stored with their article as objects of a verb. The speaker of a sentence is `we` or a firm, so that
no participle depends on a person's gender.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from mtcl.demo.grammar import fill, phrases
from mtcl.demo.lexicon import INDUSTRIES, company_name

LANGUAGES = ("es", "fr", "de")

Parallel = dict[str, str]
"""One phrase in English (`en`) and each of `LANGUAGES`."""

_ALL = phrases("translations")
SLOTS: dict[str, list[Parallel]] = _ALL["slots"]
SENTENCES: list[Parallel] = _ALL["sentences"]
CLOSERS: list[Parallel] = _ALL["closers"]
_NUM_CLOSERS = (0, 1, 1, 2)


@dataclass(frozen=True)
class Translated:
    """An English sentence or two, and the same in each of `LANGUAGES`."""

    english: str
    others: dict[str, str]


def make_translated(rng: random.Random) -> Translated:
    """A short post in four languages; the slots of all four hold the same things."""
    parts = [rng.choice(SENTENCES), *rng.sample(CLOSERS, rng.choice(_NUM_CLOSERS))]
    drawn = {slot: rng.choice(options) for slot, options in SLOTS.items()}
    name = company_name(rng, rng.choice(INDUSTRIES))
    number = str(rng.randint(3, 95))
    texts = {}
    for language in ("en", *LANGUAGES):
        slots = {slot: (phrase[language],) for slot, phrase in drawn.items()}
        slots |= {"company": (name,), "n": (number,)}
        sentences = [fill(part[language], slots, rng) for part in parts]
        texts[language] = " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)
    return Translated(texts.pop("en"), texts)
