"""The nearest rows of queries by exact scores, over rows that come block by block.

Letters: N queries, n rows of a block, K neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mtcl.arrays import Float32Array, IntArray


@dataclass(frozen=True)
class Hits:
    """The nearest rows of each query, nearest first; where there are fewer than K, the score is -inf and the row -1.

    Attributes:
        scores_NK: Cosines; those of an index of codes are approximate.
        rows_NK: Numbers of rows, in the order in which they came.
    """

    scores_NK: Float32Array
    rows_NK: IntArray


@dataclass
class Top:
    """The nearest K so far of N queries, over candidates that come block by block."""

    num_queries: int
    num: int
    scores_NK: Float32Array = field(init=False)
    rows_NK: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.scores_NK = np.full((self.num_queries, self.num), -np.inf, dtype=np.float32)
        self.rows_NK = np.full((self.num_queries, self.num), -1, dtype=np.int64)

    def add(self, queries: slice, scores_Nn: Float32Array, first_row: int) -> None:
        """Take the scores of some of the queries with the rows from `first_row` on. Of equal scores, the earlier row
        comes first.
        """
        width = scores_Nn.shape[1]
        if width > self.num:
            nearest_NK = _nearest(scores_Nn, self.num)
        else:
            nearest_NK = np.broadcast_to(np.arange(width), scores_Nn.shape)
        scores = np.concatenate([self.scores_NK[queries], np.take_along_axis(scores_Nn, nearest_NK, axis=1)], axis=1)
        rows = np.concatenate([self.rows_NK[queries], nearest_NK + first_row], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, : self.num]
        self.scores_NK[queries] = np.take_along_axis(scores, order, axis=1)
        self.rows_NK[queries] = np.take_along_axis(rows, order, axis=1)

    @property
    def hits(self) -> Hits:
        return Hits(self.scores_NK, self.rows_NK)


def _nearest(scores_Nn: Float32Array, num: int) -> IntArray:
    """(N, num) columns of the highest scores, in their order; of equal scores, the earlier ones."""
    nearest_NK: IntArray = np.argpartition(-scores_Nn, num - 1, axis=1)[:, :num]
    last_N1 = np.take_along_axis(scores_Nn, nearest_NK, axis=1).min(axis=1, keepdims=True)
    for row in np.flatnonzero((scores_Nn >= last_N1).sum(axis=1) > num):  # several have the last score
        scores_n, last = scores_Nn[row], last_N1[row, 0]
        above = np.flatnonzero(scores_n > last)
        nearest_NK[row] = [*above, *np.flatnonzero(scores_n == last)[: num - len(above)]]
    nearest_NK.sort(axis=1)
    return nearest_NK
