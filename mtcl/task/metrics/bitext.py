"""Finding translations: top-1 accuracy in pools of one size, so that languages compare (Artetxe and Schwenk 2019)."""

from __future__ import annotations

from dataclasses import dataclass

from mtcl.errors import TaskError
from mtcl.task.metrics.base import Metric
from mtcl.types import Kind


@dataclass(frozen=True)
class BitextAccuracy(Metric):
    """Share of texts whose nearest neighbour in the other language is their translation, both ways, mean over
    languages. A language's pairs are dealt to pools of `pool_size`; one with fewer pairs is one smaller pool.
    """

    kinds = frozenset({Kind.PARALLEL})
    pool_size: int = 100

    def __post_init__(self) -> None:
        if self.pool_size < 2:
            raise TaskError(f"BitextAccuracy(pool_size={self.pool_size}): a pool needs at least 2 pairs")

    @property
    def name(self) -> str:
        return "bitext_accuracy"
