"""What all ways to make pairs have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from mtcl.task.pairs.table import PairTable
from mtcl.types import Kind

if TYPE_CHECKING:
    import pyarrow as pa


def training_only(default: Any) -> Any:
    """A field of a way to make pairs that only training uses: a column that other splits need not have, a limit."""
    return field(default=default, metadata={"training_only": True})


class Pairs(ABC):
    """A way to make pairs from rows. Frozen dataclasses whose fields name columns.

    A subclass of your own (`kind` other than positives, several tasks that pair alike) marks what only training uses
    with `training_only(default)`.
    """

    kind: ClassVar[Kind] = Kind.POSITIVE
    corpus: str | None = None

    @abstractmethod
    def __call__(self, rows: pa.Table, corpus: pa.Table | None = None) -> PairTable:
        """The pairs of `rows`. Raises `DataError` for missing or wrongly typed columns."""

    def for_evaluation(self) -> Pairs:
        """With the defaults of what only training uses."""
        itself: Any = self
        unused = {one.name: one.default for one in fields(itself) if one.metadata.get("training_only")}
        return replace(itself, **unused)  # type: ignore[no-any-return]
