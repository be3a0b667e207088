"""What all ways to make pairs have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from mtcl.pairs.table import PairTable
from mtcl.types import Kind

if TYPE_CHECKING:
    import pyarrow as pa


class Pairs(ABC):
    """A way to make pairs from rows. Frozen dataclasses whose fields name columns."""

    kind: ClassVar[Kind] = Kind.POSITIVE
    corpus: str | None = None

    @abstractmethod
    def __call__(self, rows: pa.Table, corpus: pa.Table | None = None) -> PairTable:
        """The pairs of `rows`. Raises `DataError` for missing or wrongly typed columns."""

    def for_evaluation(self) -> Pairs:
        """Without what only training uses: hard negatives (other splits need not have the column), limits, examples."""
        unused: dict[str, Any] = {"negatives": (), "max_pairs": None, "by": "label"}
        itself: Any = self
        return replace(itself, **{name: value for name, value in unused.items() if hasattr(self, name)})  # type: ignore[no-any-return]
