"""The base class of all pair constructions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from mtcl.task.kind import Kind
from mtcl.task.pairs.table import PairTable
from mtcl.task.roles import Role

if TYPE_CHECKING:
    import pyarrow as pa


def training_only(default: Any) -> Any:
    """A field of a pair construction that only training uses: a column that other splits may lack, or a limit."""
    return field(default=default, metadata={"training_only": True})


class Pairs(ABC):
    """A pair construction: makes pairs from rows. Subclasses are frozen dataclasses whose fields name columns.

    Write your own subclass for a `kind` other than positives, or to share a construction between tasks. Mark fields
    that only training uses with `training_only(default)`. The subclass gets all columns of the rows, with the types
    they have in the files, unless its `columns` lists those it reads.
    """

    kind: ClassVar[Kind] = Kind.POSITIVE
    has_labels: ClassVar[bool] = False
    """Whether many anchors share a positive or a group, the label, so that `pairs_per_label` can count examples."""
    corpus: str | None = None

    @abstractmethod
    def __call__(self, rows: pa.Table, corpus: pa.Table | None = None) -> PairTable:
        """The pairs of `rows`. Raises `DataError` for missing or wrongly typed columns."""

    def columns(self) -> dict[str, Role] | None:
        """The columns to read and the role of each; None for all columns, with the types they have."""
        return None

    def corpus_columns(self) -> dict[str, Role] | None:
        """The same for the corpus."""
        return None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__call__" in vars(cls):  # it may read other columns than its base class
            for name in ("columns", "corpus_columns"):
                if name not in vars(cls):
                    setattr(cls, name, getattr(Pairs, name))

    def for_evaluation(self) -> Pairs:
        """A copy in which training-only fields have their defaults."""
        itself: Any = self
        unused = {one.name: one.default for one in fields(itself) if one.metadata.get("training_only")}
        return replace(itself, **unused)  # type: ignore[no-any-return]
