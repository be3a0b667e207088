"""The small grammar of the demo corpus: templates with `{slots}`, filled at random from lists.

Templates rather than a language model, because the corpus must be the same on each machine, made in seconds and free of
copied text. All phrases lie in `phrases/` and were written for this project. A slot that is not in the mapping is a
mistake in the template and raises a `KeyError`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

_SLOT = re.compile(r"\{(\w+)\}")
_ARTICLE = re.compile(r"\b([Aa]) (?=(?!uni|one|use|U[A-Z])[aeiouAEIOU])")
_SENTENCE_START = re.compile(r"(^|[.!?] )([a-z])")
_MAX_PLACES = 4  # No template names one slot more often than this.
_MAX_TRIES = 400


def phrases(name: str) -> Any:
    """The content of `phrases/NAME.yaml`."""
    return yaml.safe_load((Path(__file__).parent / "phrases" / f"{name}.yaml").read_text(encoding="utf-8"))


def fill(template: str, slots: Mapping[str, Sequence[str]], rng: random.Random) -> str:
    """The template with its slots drawn; two places of one slot differ if they can. Values may hold slots."""
    drawn: set[str] = set()

    def draw(match: re.Match[str]) -> str:
        options = slots[match[1]]
        value = pick(options, rng)
        while value in drawn and len(options) > _MAX_PLACES:
            value = pick(options, rng)
        drawn.add(value)
        return value

    text = template
    while "{" in text:
        text = _SLOT.sub(draw, text)
    return text


def pick(options: Sequence[str], rng: random.Random) -> str:
    """One of the options; a third faster than `rng.choice`, and drawn for every slot."""
    return options[int(rng.random() * len(options))]


def polish(text: str) -> str:
    """English only: `a` before a vowel becomes `an`, and sentences begin with a capital letter."""
    text = _ARTICLE.sub(r"\1n ", text)
    return _SENTENCE_START.sub(lambda match: match[1] + match[2].upper(), text)


class Ledger:
    """Remembers every text handed out, so that no text occurs twice, in whichever task or split."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def add(self, text: str) -> bool:
        """Whether the text was new; it is known from now on."""
        if text in self._seen:
            return False
        self._seen.add(text)
        return True


def attempts(count: int) -> Iterator[int]:
    """The tries allowed for `count` new texts: a grammar without new texts gives fewer rows, not an endless loop."""
    return iter(range(count + _MAX_TRIES + count // 2))
