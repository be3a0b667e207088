"""Posts of one topic each, for the tasks `interest` and `hashtag`.

A post has one or two sentences that carry its topic, and fillers; some mention another topic in passing. Its
voice, industry, role and insider words decide the hashtags, so that these can be learned from the text.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from mtcl.demo.grammar import fill, phrases, pick, polish
from mtcl.demo.lexicon import (
    FILLERS,
    INDUSTRIES,
    OCCUPATIONS,
    PASSING,
    PLACES,
    SHARED,
    Industry,
    Occupation,
    company_name,
)
from mtcl.demo.topics import TOPICS, Topic

_MAX_WORDS = 82
_INSIDER_SHARE = 0.3
_PASSING_SHARE = 0.15
_SECOND_CORE_SHARE = 0.9


@dataclass(frozen=True)
class Voice:
    """A manner of posting: its sentences about the topic, and its hashtag."""

    tag: str
    openers: list[str]


_ALL = phrases("posts")
VOICES = [Voice(**voice) for voice in _ALL["voices"]]
MUSING = Voice(**_ALL["musing"])
"""The voice of many posts of one sentence."""
CORE: list[str] = _ALL["core"]
"""More sentences that carry the topic."""

_ODDS_OF_ANOTHER = (0.75, 0.5, 0.25)
_CIRCLE_TAGS = ("#DawnDesk", "#PlainSpeak", "#TuesdayTable", "#LanternNotes")


@dataclass(frozen=True)
class Post:
    """A text and what it was made from."""

    text: str
    topic: Topic
    voice: Voice
    industry: Industry
    role: Occupation
    company: str


def make_post(rng: random.Random) -> Post:
    """A random post of 5 to 82 words, about 27 in the median."""
    while True:
        post = _compose(rng)
        if 4 < len(post.text.split()) <= _MAX_WORDS:
            return post


def _compose(rng: random.Random) -> Post:
    length = min(7, max(1, round(rng.lognormvariate(0.76, 0.5))))
    voice = MUSING if length == 1 and rng.random() < 0.6 else rng.choice(VOICES)
    topic = rng.choice(TOPICS)
    industry, role = rng.choice(INDUSTRIES), rng.choice(OCCUPATIONS)
    company = company_name(rng, industry)
    slots = dict(
        SHARED,
        company=(company,),
        industry=(industry.name,),
        role=(role.name,),
        place=(rng.choice(PLACES).name,),
        subject=topic.insider if rng.random() < _INSIDER_SHARE else topic.subjects,
        plain=topic.subjects,
        act=topic.acts,
        view=topic.views,
        lesson=topic.lessons,
        other=rng.choice([other for other in TOPICS if other is not topic]).subjects,
    )
    sentences = [fill(template, slots, rng) for template in _outline(voice, length, rng)]
    return Post(polish(" ".join(dict.fromkeys(sentences))), topic, voice, industry, role, company)


def _outline(voice: Voice, length: int, rng: random.Random) -> list[str]:
    """Templates in order: an opener, at most one more about the topic, fillers and passing mentions."""
    num_core = int(length > 1 and rng.random() < _SECOND_CORE_SHARE)
    num_passing = sum(rng.random() < _PASSING_SHARE for _ in range(length - 1 - num_core))
    num_fillers = length - 1 - num_core - num_passing
    rest = [*rng.sample(CORE, num_core), *rng.sample(PASSING, num_passing), *rng.sample(FILLERS, num_fillers)]
    rng.shuffle(rest)
    where = 0 if rng.random() < 0.7 else rng.randrange(len(rest) + 1)
    return [*rest[:where], pick(voice.openers, rng), *rest[where:]]


def hashtags(post: Post, rng: random.Random) -> list[str]:
    """One to four hashtags that fit the text; common ones occur far more often than rare ones."""
    weighted = _reasons(post)
    count = 1 + sum(rng.random() < odds for odds in _ODDS_OF_ANOTHER)
    ranked = sorted(weighted, key=lambda tag: rng.random() ** (1 / weighted[tag]), reverse=True)
    return ranked[:count]


def _reasons(post: Post) -> dict[str, float]:
    """Hashtags with weights (expected odds of being chosen)."""
    common, second, first_insider, second_insider = post.topic.tags
    lowered = post.text.lower()
    spoken = [index for index, phrase in enumerate(post.topic.insider) if phrase.lower() in lowered]
    weights = {common: 6.0, second: 1.5}
    for index in spoken:
        weights[first_insider if index % 2 == 0 else second_insider] = 6.0
    if post.company in post.text or post.industry.name in post.text:
        plain, community = post.industry.tags
        weights[plain], weights[community] = 2.0, 1.0
    if post.role.name in lowered or post.role.name in post.text:
        weights[post.role.tag] = 1.5
    weights[post.voice.tag] = 2.0 if post.voice.tag == "#HiringNow" else 0.7
    weights[_CIRCLE_TAGS[TOPICS.index(post.topic) % len(_CIRCLE_TAGS)]] = 0.5
    return weights
