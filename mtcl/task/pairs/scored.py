"""Judged pairs: with a graded score, or labelled 0 or 1 (as in LiPost, arXiv 2405.11344)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from mtcl.arrays import FloatArray
from mtcl.errors import DataError, TaskError
from mtcl.task.kind import Kind
from mtcl.task.pairs.base import Pairs
from mtcl.task.pairs.columns import clean, id_column, number_column, text_column
from mtcl.task.pairs.keys import Links
from mtcl.task.pairs.table import PairTable, pair_table
from mtcl.task.roles import Role

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Scored(Pairs):
    """Two texts and a graded score between `low` and `high`; evaluation compares the ranks of scores and cosines.

    With `language`, the name of a column, each language is evaluated separately. `group` names a column of ids for
    rows that belong together, such as a pair and its translations: confidence intervals count them as one observation.
    """

    kind: ClassVar[Kind] = Kind.GRADED
    first: str = "first"
    second: str = "second"
    score: str = "score"
    low: float = 0.0
    high: float = 1.0
    language: str | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise TaskError(f"Scored(low={self.low}, high={self.high}): low must be less than high")

    def columns(self) -> dict[str, Role]:
        ids = {name: Role.ID for name in (self.language, self.group) if name}
        return {self.first: Role.TEXT, self.second: Role.TEXT, self.score: Role.NUMBER} | ids

    def __call__(self, rows: pa.Table, corpus: pa.Table | None = None) -> PairTable:
        rows, skipped = clean(rows, self.first, self.second)
        scores = number_column(rows, self.score)
        outside = scores[(scores < self.low) | (scores > self.high)]
        if len(outside):
            raise DataError(
                f"column {self.score!r}: {len(outside):,} of {len(scores):,} scores are outside of {self.low:g} to "
                f"{self.high:g} (the first is {outside[0]:g}): give low and high, or leave those rows out"
            )
        return _judged(self, rows, (scores - self.low) / (self.high - self.low), skipped)


@dataclass(frozen=True)
class Labelled(Pairs):
    """Two texts and whether they belong together (1) or not (0); evaluation is that of a classifier.

    `group` is as in `Scored`.
    """

    kind: ClassVar[Kind] = Kind.BINARY
    first: str = "first"
    second: str = "second"
    label: str = "label"
    group: str | None = None

    def columns(self) -> dict[str, Role]:
        group = {self.group: Role.ID} if self.group else {}
        return {self.first: Role.TEXT, self.second: Role.TEXT, self.label: Role.NUMBER} | group

    def __call__(self, rows: pa.Table, corpus: pa.Table | None = None) -> PairTable:
        rows, skipped = clean(rows, self.first, self.second)
        labels = number_column(rows, self.label)
        other = labels[(labels != 0) & (labels != 1)]
        if len(other):
            raise DataError(
                f"column {self.label!r}: {len(other):,} of {len(labels):,} labels are neither 0 nor 1 (the first is "
                f"{other[0]:g}): for degrees use Scored"
            )
        return _judged(self, rows, labels, skipped)


def _judged(pairs: Scored | Labelled, rows: pa.Table, scores: FloatArray, skipped: dict[str, int]) -> PairTable:
    first, second = text_column(rows, pairs.first), text_column(rows, pairs.second)
    language = getattr(pairs, "language", None)
    links: list[Links] = []
    if pairs.group:
        groups = id_column(rows, pairs.group)
        links = [Links(first, groups), Links(second, groups)]
    table = pair_table(
        first,
        second,
        candidates=second,
        links=links,
        scores=scores,
        languages=id_column(rows, language) if language else None,
        skipped=skipped,
    )
    return replace(table, kind=pairs.kind, tied=bool(links))
