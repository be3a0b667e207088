"""Which candidates a sample of queries finds in an evaluated pool, as the evaluation itself would judge them.

Letters: N queries, C candidates, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtcl.evaluation.pool import Pool, Vectors
from mtcl.task.pairs.shared_keys import Carriers, carriers_of, shares_key
from mtcl.types import BoolArray, IntArray, Kind

MOST_SCORES = 1 << 24
"""Scores in memory at a time."""
MOST_CANDIDATES = 4096
"""Translations that a text is compared with; other pools are compared as a whole, as in their evaluation."""


@dataclass(frozen=True)
class Judged:
    """A block of queries: text indices (N,), cosines (N, C), and which candidates are relevant (N, C).

    A query's own text, if it is also a candidate that does not count, has the cosine -inf.
    """

    queries: IntArray
    cosines_NC: Tensor
    relevant_NC: BoolArray


class Judging:
    """A pool's candidates. For pools of judged pairs there is nothing to find: `is_searched` is False."""

    def __init__(self, pool: Pool) -> None:
        self.pool, store = pool, pool.store
        self.is_searched = store.kind in (Kind.POSITIVE, Kind.PARALLEL)
        self.queries: IntArray = np.asarray(store.queries)
        self.candidates: IntArray = np.asarray(store.candidates)
        if store.kind is Kind.PARALLEL:
            pairs = evenly(np.arange(len(store.anchors)), MOST_CANDIDATES)
            self.queries = np.unique(np.asarray(store.anchors)[pairs])
            self.candidates = np.unique(np.asarray(store.positives)[pairs])
        self._carriers: Carriers | None = None

    def blocks(self, vectors: Vectors, queries: IntArray) -> Iterator[Judged]:
        """The given queries in blocks of bounded memory."""
        if self._carriers is None:
            self._carriers = carriers_of(self.pool.store.keys.take(self.candidates))
        candidates_CD = vectors.of(self.candidates)
        size = max(1, MOST_SCORES // max(1, len(self.candidates)))
        for start in range(0, len(queries), size):
            yield self._judge(vectors, queries[start : start + size], candidates_CD, self._carriers)

    def _judge(self, vectors: Vectors, queries: IntArray, candidates_CD: Tensor, carriers: Carriers) -> Judged:
        store = self.pool.store
        relevant_NC = shares_key(store.keys.take(queries), carriers)
        cosine_NC = vectors.of(queries) @ candidates_CD.T
        itself_NC = store.originals(queries)[:, None] == store.originals(self.candidates)
        if not store.exclude_self:
            itself_NC &= (relevant_NC & ~itself_NC).any(axis=1, keepdims=True)
        cosine_NC[torch.from_numpy(itself_NC)] = -torch.inf
        return Judged(queries, cosine_NC, relevant_NC & ~itself_NC)


def evenly(items: IntArray, most: int) -> IntArray:
    """At most `most` of the items, evenly spread over them."""
    return items[:: -(-len(items) // most)] if len(items) else items
