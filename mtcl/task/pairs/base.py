"""What all ways to make pairs have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from mtcl.task.pairs.table import PairTable
from mtcl.task.roles import Role
from mtcl.types import Kind

if TYPE_CHECKING:
    import pyarrow as pa


def training_only(default: Any) -> Any:
    """A field of a way to make pairs that only training uses: a column that other splits need not have, a limit."""
    return field(default=default, metadata={"training_only": True})


class Pairs(ABC):
    """A way to make pairs from rows. Frozen dataclasses whose fields name columns.

    A subclass of your own (`kind` other than positives, several tasks that pair alike) marks what only training uses
    with `training_only(default)`. It gets all columns of the rows, with the types that the files give them, unless it
    says in `columns` which ones it reads.
    """

    kind: ClassVar[Kind] = Kind.POSITIVE
    corpus: str | None = None

    @abstractmethod
    def __call__(self, rows: pa.Table, corpus: pa.Table | None = None) -> PairTable:
        """The pairs of `rows`. Raises `DataError` for missing or wrongly typed columns."""

    def columns(self) -> dict[str, Role] | None:
        """The columns that are read from the rows, and the role of each; None for all of them, as they are."""
        return None

    def corpus_columns(self) -> dict[str, Role] | None:
        """The same for the corpus."""
        return None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__call__" in vars(cls):  # it may read other columns than the class that it derives from
            for name in ("columns", "corpus_columns"):
                if name not in vars(cls):
                    setattr(cls, name, getattr(Pairs, name))

    def for_evaluation(self) -> Pairs:
        """With the defaults of what only training uses."""
        itself: Any = self
        unused = {one.name: one.default for one in fields(itself) if one.metadata.get("training_only")}
        return replace(itself, **unused)  # type: ignore[no-any-return]
