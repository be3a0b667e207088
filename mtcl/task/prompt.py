"""The prompt that is put before a text, which can differ between queries and documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from mtcl.errors import ConfigError

SideName = Literal["query", "document"]
"""A side as users name it, in the parameter `role` of what embeds texts."""


class PromptSide(IntEnum):
    """The side of a pair that a text is on."""

    QUERY = 0
    DOCUMENT = 1
    EITHER = 2
    """Both sides of the pairs have the same kind of text: posts of a story, translations, scored sentences."""


SIDES_BY_NAME: dict[SideName, PromptSide] = {"query": PromptSide.QUERY, "document": PromptSide.DOCUMENT}


@dataclass(frozen=True)
class Prompt:
    """The prompt of each side.

    Texts of symmetric pairs (`PromptSide.EITHER`) get the query's prompt if documents have a prompt too, as E5's
    authors advise, and no prompt if documents have none, as with BGE.
    """

    query: str = ""
    document: str = ""

    @classmethod
    def of(cls, given: Prompt | str | Mapping[str, str]) -> Prompt:
        """From one string for both sides, or from a mapping with `query`, `document` or both.

        Raises `ConfigError` for anything else.
        """
        if isinstance(given, Prompt):
            return given
        if isinstance(given, str):
            return cls(given, given)
        if (
            not isinstance(given, Mapping)
            or set(given) - {"query", "document"}
            or not all(isinstance(text, str) for text in given.values())
        ):
            raise ConfigError(f"prompt is {given!r:.80}: give one text, or {{query: a text, document: a text}}")
        return cls(**given)

    def __getitem__(self, side: PromptSide) -> str:
        return (self.query, self.document, self.query if self.document else "")[side]

    @property
    def differs(self) -> bool:
        """Whether queries and documents have different prompts."""
        return self.query != self.document

    def plain(self) -> str | dict[str, str]:
        """As in a configuration."""
        return {"query": self.query, "document": self.document} if self.differs else self.query


NO_PROMPT = Prompt()
