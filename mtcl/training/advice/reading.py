"""How an encoder reads a task's texts: lengths, what is cut off, tokens that it does not know, scripts.

A sample of the texts is tokenised without a limit. Lengths are tokens with the prompt and special tokens.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass

from mtcl.arrays import IntArray
from mtcl.data.tokenizer import WHOLE, Tokenizer
from mtcl.task.prompt import Prompt

CUT, MUCH = 0.05, 0.1
"""From these shares of cut texts and of lost tokens on, cutting is worth a warning."""
UNKNOWN = 0.01
"""A share of unknown tokens that is worth a warning."""
PROMPT = 0.5
"""A share of max_length that a prompt should not take."""


@dataclass(frozen=True)
class Reading:
    """Texts as an encoder reads them. `lengths` (n,) are their whole lengths in tokens."""

    lengths: IntArray
    max_length: int
    num_unknown: int
    num_characters: int

    @property
    def share_cut(self) -> float:
        """The share of the texts that are longer than max_length."""
        return float((self.lengths > self.max_length).mean())

    @property
    def share_lost(self) -> float:
        """The share of all tokens that is cut off."""
        return float((self.lengths - self.max_length).clip(min=0).sum() / self.lengths.sum())

    @property
    def share_unknown(self) -> float:
        return self.num_unknown / max(1, int(self.lengths.sum()))

    def lines(self, split: str) -> list[str]:
        """Warnings about texts that are cut and tokens that are unknown."""
        found = []
        if (self.share_cut >= CUT and self.share_lost >= CUT) or self.share_lost >= MUCH:
            found.append(
                f"{self.share_cut:.0%} of the texts of {split} are longer than max_length {self.max_length}, and "
                f"{self.share_lost:.0%} of all tokens are cut off: raise max_length (the longest text has "
                f"{self.lengths.max():,}), or put what matters first"
            )
        if self.share_unknown >= UNKNOWN:
            found.append(
                f"{self.share_unknown:.1%} of the tokens of {split} are unknown to the encoder: choose one that reads "
                "these scripts"
            )
        return found


def read(texts: list[str], sides: IntArray, tokenizer: Tokenizer, prompt: Prompt, max_length: int) -> Reading:
    """Tokenise texts without a limit; `sides` (n,) says which prompt is before each."""
    cut = [tokenizer.shortened(text) for text in texts]
    tokens = tokenizer([prompt[side] + text for side, text in zip(sides.tolist(), cut, strict=True)], WHOLE)
    unknown = tokenizer.backend.unk_token_id
    num_unknown = 0 if unknown is None else int((tokens.values == unknown).sum())
    return Reading(tokens.lengths(), max_length, num_unknown, sum(map(len, cut)))


def long_prompt(num_tokens: int, max_length: int) -> list[str]:
    """A warning about a prompt of so many tokens, special tokens included."""
    if num_tokens <= PROMPT * max_length:
        return []
    return [
        f"the prompt takes {num_tokens} of {max_length} tokens (max_length): raise max_length or shorten the prompt"
    ]


def unseparated(prompt: Prompt) -> list[str]:
    """A warning about a prompt that ends in the middle of a word, in a script with spaces between words."""
    for words in dict.fromkeys((prompt.query, prompt.document)):
        if words[-1:].isascii() and words[-1:].isalnum():
            return [
                f"the prompt {words!r:.60} ends without a space, so it is joined to a text's first word: end it with a "
                "space"
            ]
    return []


def scripts_of(texts: list[str]) -> dict[str, float]:
    """The share of the letters in each script, the most frequent first: `{"Latin": 0.97, "Cyrillic": 0.03}`."""
    counts: Counter[str] = Counter()
    for character, count in Counter("".join(texts)).items():
        if character.isalpha():
            counts[unicodedata.name(character, "other").split()[0].capitalize()] += count
    total = max(1, counts.total())
    return {script: count / total for script, count in counts.most_common()}
