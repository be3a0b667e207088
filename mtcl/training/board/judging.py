"""The cosines and judgements of a sample of queries in an evaluated pool, as the evaluation uses them.

Letters: N queries, C candidates, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtcl.arrays import BoolArray, IntArray, every_nth
from mtcl.evaluation.pool import Pool, PoolVectors
from mtcl.evaluation.relevant import Judged
from mtcl.task.kind import Kind
from mtcl.task.pairs.shared_keys import carriers_of, shares_key

MOST_SCORES = 1 << 24
"""Scores in memory at a time."""
MOST_CANDIDATES = 4096
"""Translations that a text is compared with; other pools are compared as a whole, as in their evaluation."""


@dataclass(frozen=True)
class Block:
    """A block of queries: text indices (N,), cosines (N, C), and which candidates are relevant and which are negatives
    (N, C). A candidate that shares a key with the query without being judged relevant is neither.

    A query's own text, where the evaluation leaves it out, has the cosine -inf.
    """

    queries: IntArray
    cosines_NC: Tensor
    relevant_NC: BoolArray
    negative_NC: BoolArray


class Judging:
    """A pool's queries and candidates. In pools of judged pairs there is nothing to search: `is_searched` is False."""

    def __init__(self, pool: Pool) -> None:
        self.pool, table = pool, pool.store.pairs
        self.is_searched = table.kind in (Kind.POSITIVE, Kind.PARALLEL)
        self.queries: IntArray = np.asarray(table.search.queries)
        self.candidates: IntArray = np.asarray(table.search.candidates)
        if table.kind is Kind.PARALLEL:
            pairs = every_nth(np.arange(len(table.anchors)), MOST_CANDIDATES)
            self.queries = np.unique(np.asarray(table.anchors)[pairs])
            self.candidates = np.unique(np.asarray(table.positives)[pairs])
        self._carriers = carriers_of(table.keys.take(self.candidates)) if self.is_searched else None
        self._judged = Judged(table) if table.kind is Kind.POSITIVE else None

    def blocks(self, vectors: PoolVectors, *, most: int | None = None) -> Iterator[Block]:
        """At most `most` queries, evenly spread, or all, in blocks of bounded memory."""
        places: IntArray = np.arange(len(self.queries))
        places = places if most is None else every_nth(places, most)
        candidates_CD = vectors.of(self.candidates)
        size = max(1, MOST_SCORES // max(1, len(self.candidates)))
        for start in range(0, len(places), size):
            yield self._block(vectors, places[start : start + size], candidates_CD)

    def _block(self, vectors: PoolVectors, places: IntArray, candidates_CD: Tensor) -> Block:
        table, queries = self.pool.store.pairs, self.queries[places]
        assert self._carriers is not None
        shared_NC = shares_key(table.keys.take(queries), self._carriers)
        relevant_NC = shared_NC
        if self._judged is not None:
            relevant = self._judged.of(places)
            relevant_NC = np.zeros_like(shared_NC)
            relevant_NC[relevant.rows, relevant.candidates.values] = True
        cosine_NC = vectors.of(queries) @ candidates_CD.T
        if table.exclude_self:
            itself_NC = queries[:, None] == self.candidates
            cosine_NC[torch.from_numpy(itself_NC)] = -torch.inf
            relevant_NC = relevant_NC & ~itself_NC
        return Block(queries, cosine_NC, relevant_NC, ~shared_NC & ~relevant_NC)
