"""Finding translations: top-1 accuracy in equal pools, so that languages are comparable (Artetxe and Schwenk 2019)."""

from __future__ import annotations

from dataclasses import dataclass

from mtcl.errors import TaskError
from mtcl.task.kind import Kind
from mtcl.task.metrics.base import Metric


@dataclass(frozen=True)
class BitextAccuracy(Metric):
    """Share of texts whose nearest neighbour in the other language is their translation, in both directions.

        accuracy = mean over languages of the mean over texts of (the nearest neighbour is the translation, 0 or 1)

    Each language's pairs are split into pools of `pool_size`, and each text is searched for in its own pool, so that
    languages are comparable. A language with fewer pairs than that gets one smaller pool.

    Shapes: none here; `mtcl.evaluation` ranks each pool from (pool_size, D) vectors per language. From 0 to 1.
    Source: the Tatoeba test of Artetxe and Schwenk 2019, arXiv 1812.10464.

    Args:
        pool_size: Pairs per pool, at least 2.

    Example:
        >>> from mtcl import BitextAccuracy
        >>> BitextAccuracy(pool_size=50).name
        'bitext_accuracy'
    """

    kinds = frozenset({Kind.PARALLEL})
    pool_size: int = 100

    def __post_init__(self) -> None:
        if self.pool_size < 2:
            raise TaskError(f"BitextAccuracy(pool_size={self.pool_size}): a pool needs at least 2 pairs")

    @property
    def name(self) -> str:
        return "bitext_accuracy"
