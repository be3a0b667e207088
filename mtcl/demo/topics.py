"""The sixteen topics of the demo corpus: what people post about, in plain words and in insider words.

Each label is a little more abstract than the posts below it, and every topic has insider words (`insider`)
whose meaning can only be learned from the labelled posts. They recur in all splits in other combinations;
this is what separates a trained encoder from an untrained one here.
"""

from __future__ import annotations

from dataclasses import dataclass

from mtcl.demo.grammar import phrases


@dataclass(frozen=True)
class Topic:
    """One topic and the phrases that speak of it."""

    label: str
    """The readable name that the interest task must find."""
    subjects: list[str]
    """Noun phrases in plain words; a post of another topic may mention one in passing."""
    insider: list[str]
    """Noun phrases in insider words; never used outside of the topic."""
    acts: list[str]
    """Verb phrases in the past tense that follow I, we or they."""
    views: list[str]
    """Opinions, each a whole sentence."""
    lessons: list[str]
    """Advice in the imperative, without a capital or a full stop."""
    tags: list[str]
    """Four hashtags: the common one, a second one, and two of insiders."""


TOPICS = [Topic(**topic) for topic in phrases("topics")]
