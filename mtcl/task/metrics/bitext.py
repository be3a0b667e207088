"""Finding translations: top-1 accuracy in pools of one size, so that languages compare (Artetxe and Schwenk 2019)."""

from __future__ import annotations

from dataclasses import dataclass

from mtcl.errors import TaskError
from mtcl.task.metrics.base import Metric
from mtcl.types import Kind


@dataclass(frozen=True)
class BitextAccuracy(Metric):
    """Share of texts whose nearest neighbour in the other language is their translation, both ways.

        accuracy = mean over languages of the mean over texts of (the nearest neighbour is the translation, 0 or 1)

    A language's pairs are dealt to pools of `pool_size`, and a text looks for its translation in its pool, so that
    languages compare; a language with fewer pairs is one smaller pool.

    Shapes: no arrays, `mtcl.evaluation` ranks the pools with vectors (pool_size, D) of either language; from 0 to 1.
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
