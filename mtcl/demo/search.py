"""Search documents (job adverts, guides, meetups) and the short queries that people type to find them.

Queries use other words than the document: abbreviations, trade slang and everyday paraphrases. Each query
names the two facts that its document is about, and no two documents of a kind share both until all pairs are
used; from then on the queries name a third fact as well.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from mtcl.demo.grammar import fill, pick, polish
from mtcl.demo.lexicon import INDUSTRIES, OCCUPATIONS, PLACES, SHARED, company_name

_OWN_WORDS_SHARE = 0.45
_THIRD_FACT_SHARE = 0.3
_MAX_QUERY_WORDS = 6


@dataclass(frozen=True)
class Concept:
    """Something a document is about, and what people type instead."""

    name: str
    aliases: tuple[str, ...]


LEVELS: tuple[Concept, ...] = (
    Concept("senior", ("sr", "experienced", "ten years in")),
    Concept("junior", ("jr", "entry level", "first job")),
    Concept("lead", ("head", "principal", "in charge")),
    Concept("part-time", ("pt", "reduced hours", "three days a week")),
    Concept("freelance", ("contract", "day rate", "gig")),
    Concept("trainee", ("apprentice", "no experience", "earn and learn")),
    Concept("interim", ("cover", "fixed term", "stopgap")),
    Concept("remote-friendly", ("wfh", "from anywhere", "no commute")),
)

SKILLS: tuple[Concept, ...] = (
    Concept("machine learning", ("ml", "model training")),
    Concept("Kubernetes", ("k8s", "container clusters")),
    Concept("spreadsheets", ("excel", "pivot tables")),
    Concept("French", ("francophone", "bonjour skills")),
    Concept("German", ("deutsch", "german speaking")),
    Concept("negotiation", ("haggling", "deal making")),
    Concept("public speaking", ("stage", "keynotes")),
    Concept("databases", ("sql", "postgres")),
    Concept("first aid", ("cpr", "emergency skills")),
    Concept("forklift driving", ("lift truck", "counterbalance licence")),
    Concept("bookkeeping", ("ledgers", "double entry")),
    Concept("user research", ("interviews with users", "usability")),
)

TITLES = tuple(Concept(role.name, role.short) for role in OCCUPATIONS)
CITIES = tuple(Concept(place.name, place.short) for place in PLACES)
TRADES = tuple(Concept(industry.name, industry.product) for industry in INDUSTRIES)

ACTIONS: tuple[Concept, ...] = (
    Concept("ask for a pay rise", ("comp talk", "get paid more", "salary bump")),
    Concept("write a CV", ("resume help", "one-page profile", "vitae tips")),
    Concept("prepare for a job interview", ("panel prep", "hiring manager chat", "star method")),
    Concept("resign politely", ("two weeks notice", "quitting gracefully", "leaving letter")),
    Concept("build a professional network", ("making contacts", "coffee chats", "schmoozing")),
    Concept("give a presentation", ("deck tips", "slides nerves", "public talk")),
    Concept("run a shorter meeting", ("standup timeboxing", "calendar diet", "agenda hacks")),
    Concept("recover from burnout", ("fried", "running on empty", "exhaustion comeback")),
    Concept("manage a remote team", ("distributed crew", "zoom boss", "leading async")),
    Concept("give critical feedback", ("radical candour", "tough talk", "sandwich method")),
    Concept("switch careers", ("pivot", "new field", "reinvent yourself")),
    Concept("start a company", ("go solo", "founder basics", "zero to one")),
    Concept("raise money from investors", ("vc pitch", "seed deck", "term sheet")),
    Concept("file taxes as self-employed", ("1099", "vat return", "tax man")),
    Concept("save for retirement", ("pension pot", "401k", "nest egg")),
    Concept("set up two-factor login", ("2fa", "authenticator", "passkey")),
    Concept("learn programming", ("coding bootcamp", "hello world", "python from scratch")),
    Concept("read a balance sheet", ("assets liabilities", "accounting basics", "annual report decode")),
    Concept("return from parental leave", ("mat leave comeback", "back after baby", "pumping at work")),
    Concept("handle a toxic boss", ("bad manager", "bullying upstairs", "micromanager")),
    Concept("onboard a new hire", ("first day checklist", "welcome buddy", "ramp up")),
    Concept("plan a product launch", ("gtm", "go live", "release party")),
    Concept("reduce business travel", ("fewer flights", "train not plane", "carbon trips")),
    Concept("write better emails", ("inbox zero", "subject lines", "clear writing")),
)

AUDIENCES: tuple[Concept, ...] = (
    Concept("recent graduates", ("fresh out of uni", "new grads", "after college")),
    Concept("working parents", ("mums and dads", "with kids", "school run crowd")),
    Concept("veterans", ("ex military", "after the army", "ex forces")),
    Concept("introverts", ("quiet people", "shy", "not a people person")),
    Concept("people over fifty", ("50+", "silver workers", "late career")),
    Concept("immigrants", ("newcomers", "work visa", "moved abroad")),
    Concept("first-time managers", ("newly promoted", "rookie boss", "just became lead")),
    Concept("freelancers", ("self employed", "solopreneur", "1099 crowd")),
    Concept("executives", ("c-suite", "vp level", "top brass")),
    Concept("students", ("campus", "undergrads", "still studying")),
    Concept("career changers", ("switchers", "second act", "from another field")),
    Concept("small business owners", ("mom and pop", "sme", "shopkeepers")),
    Concept("people with disabilities", ("accessible", "wheelchair users", "accommodations")),
    Concept("shift workers", ("nights and weekends", "rota", "on shifts")),
    Concept("non-native speakers", ("esl", "second language", "accent")),
)

_EXTRAS = {
    "perk": (
        *("Lunch is on us.", "Thirty days of leave.", "Bring your dog.", "No puzzles, one conversation."),
        *(
            "We answer within a week.",
            "Bikes and trains are paid for.",
            "The range is in the advert.",
            "Start in spring.",
        ),
    ),
    "tip": (
        *(
            "Start small.",
            "Write it down first.",
            "Practise aloud with a friend.",
            "Give it {n} days.",
            "Ask early.",
        ),
        *(
            "Leave out what you would skip yourself.",
            "The first attempt is allowed to be bad.",
            "Sleep on it.",
        ),
        *("Most of it is preparation.", "I got this wrong {n} times.", "Begin with the part that you fear."),
    ),
}


@dataclass(frozen=True)
class Kind:
    """A kind of document: the two axes of facts that it is about, a third one, and its wording."""

    axes: dict[str, tuple[Concept, ...]]
    third: tuple[str, tuple[Concept, ...]]
    templates: tuple[str, ...]
    intents: tuple[str, ...]
    """Words that a query may add; an empty one for none."""


KINDS: tuple[Kind, ...] = (
    Kind(
        axes={"role": TITLES, "place": CITIES},
        third=("level", LEVELS),
        templates=(
            "{company} is looking for a {level} {role} in {place}. You bring {skill} and {thing}. {perk}",
            "Join us as a {level} {role}! Our {place} office needs someone with {skill}. {perk}",
            "Open position: {role} ({level}), {place}. You need {skill}; {company} offers the rest. {perk}",
            "My group at {company} is growing. If you are a {level} {role} near {place}, write to me. {perk}",
        ),
        intents=("", "", "jobs", "vacancy", "openings", "hiring"),
    ),
    Kind(
        axes={"action": ACTIONS, "audience": AUDIENCES},
        third=("industry", TRADES),
        templates=(
            "How to {action}: a guide for {audience} in {industry}. {tip} {tip} Written with {who}.",
            "{audience} in {industry} often ask me how to {action}. My answer in {n} points is below. {tip}",
            "I have helped {n} {audience} to {action}, mostly in {industry}. {tip} {tip}",
            "Can {audience} {action} without losing sleep? In {industry}, yes. {tip} {tip}",
        ),
        intents=("", "", "help", "tips", "advice", "guide"),
    ),
    Kind(
        axes={"skill": SKILLS, "place": CITIES},
        third=("audience", AUDIENCES),
        templates=(
            "Workshop on {skill} in {place}, for {audience} and friends. {tip} {company} hosts, for free.",
            "An evening on {skill} for {audience}: {place}, {n} seats. {perk}",
            "Next month at {event} in {place}, {audience} can try {skill}. {tip}",
        ),
        intents=("meetup", "class", "course", "evening"),
    ),
)
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
    first, second = kind.axes.values()
    pairs = [(one, other) for one in first for other in second]
    is_first_round = True
    while True:
        rng.shuffle(pairs)
        for pair in pairs:
            yield pair, is_first_round
        is_first_round = False


def _make_document(kind: Kind, pair: Pair, *, is_first_round: bool, rng: random.Random) -> Document:
    third_name, third_options = kind.third
    third = rng.choice(third_options)
    slots = {
        **SHARED,
        **_EXTRAS,
        "company": (company_name(rng, rng.choice(INDUSTRIES)),),
        "skill": (rng.choice(SKILLS).name,),
        third_name: (third.name,),
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
