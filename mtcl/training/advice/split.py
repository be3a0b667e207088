"""A split as the findings see it: columns of its table of pairs.

Letters: P pairs, T distinct texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mtcl.arrays import FloatArray, IntArray, Ragged, evenly
from mtcl.task.kind import Kind
from mtcl.task.pairs.table import DRAWN, PairTable

if TYPE_CHECKING:
    import pyarrow as pa

MOST_PAIRS = 1_000_000
"""Pairs that a run looks at before its first step: the first ones of each task."""
SAMPLE = 10_000
"""Texts or pairs that findings read as text."""


@dataclass(frozen=True)
class Split:
    """The pairs of a task's split. `positives` are groups if there are `groups`; `queries` are those of its evaluation.

    `skipped` counts the rows that make no pair, by reason; `num_rows` counts these and all pairs, also those that `of`
    does not read. A post with several tags has a pair for each. With `is_symmetric`, both sides have the same kind of
    text.
    """

    name: str
    kind: Kind
    texts: pa.LargeStringArray
    anchors: IntArray
    positives: IntArray
    keys: Ragged
    queries: IntArray
    candidates: IntArray
    groups: Ragged | None
    scores: FloatArray | None
    skipped: dict[str, int]
    num_rows: int
    is_symmetric: bool

    @classmethod
    def of(cls, name: str, table: PairTable, *, num_whole: int | None = None, most: int | None = None) -> Split:
        """The split `name` of a task; its first `most` pairs, all if None. A table with fewer pairs than the split
        comes with the number of all of them, `num_whole`.
        """
        num_pairs = len(table.anchors) if num_whole is None else num_whole
        return cls(
            name=name,
            kind=table.kind,
            texts=table.texts,
            anchors=np.asarray(table.anchors[:most]),
            positives=np.asarray(table.positives[:most]),
            keys=table.keys,
            queries=np.asarray(table.search.queries),
            candidates=np.asarray(table.search.candidates),
            groups=table.groups,
            scores=None if table.scores is None else np.asarray(table.scores[:most]),
            skipped=table.skipped,
            num_rows=num_pairs + sum(table.skipped.values()),
            is_symmetric=table.is_symmetric,
        )

    def __len__(self) -> int:
        return len(self.anchors)

    @property
    def asked(self) -> IntArray:
        """The distinct texts that the split searches with: its queries, or both sides of judged pairs."""
        if self.kind is Kind.POSITIVE:
            return np.unique(self.queries)
        return np.unique(np.concatenate([self.anchors, self.positives]))

    @property
    def learned(self) -> IntArray:
        """The distinct texts whose partner training shows: anchors, and the other side if it is of the same kind."""
        known = [self.anchors[self.anchors != DRAWN]]
        if self.groups is not None:
            known.append(np.asarray(self.groups.values) if self.is_symmetric else known[0])
        elif self.is_symmetric:
            known.append(self.positives)
        return np.unique(np.concatenate(known))

    def words(self, indices: IntArray) -> list[str]:
        """The texts with these indices."""
        import pyarrow as pa

        found: list[str] = self.texts.take(pa.array(indices)).to_pylist()
        return found

    def sample(self, count: int = SAMPLE) -> IntArray:
        """The indices of about `count` texts, evenly spread over all."""
        return evenly(len(self.texts), count)

    def read_pairs(self, count: int = SAMPLE) -> list[tuple[str, str]]:
        """The texts of about `count` pairs, evenly spread; the partner in a group is its first other member."""
        chosen = evenly(len(self), count)
        anchors, positives = self.anchors[chosen], self.positives[chosen]
        if self.groups is not None:
            couples = [_couple(int(a), self.groups[int(g)]) for a, g in zip(anchors, positives, strict=True)]
            anchors, positives = np.array(couples).reshape(-1, 2).T
        return list(zip(self.words(anchors), self.words(positives), strict=True))


def _couple(anchor: int, members: IntArray) -> tuple[int, int]:
    first = int(members[0]) if anchor == DRAWN else anchor
    return first, next((int(member) for member in members if member != first), first)
