"""The kinds of pairs."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """The kind of a pair determines which losses fit and how a split is evaluated."""

    POSITIVE = "positive"
    """The two texts belong together; every unrelated text is a negative."""
    PARALLEL = "parallel"
    """The texts are translations of each other: as `POSITIVE`, but evaluated language by language."""
    GRADED = "graded"
    """The texts are similar to a degree of 0 to 1."""
    BINARY = "binary"
    """The texts belong together (1) or not (0)."""
