"""Retrieval metrics of each query over its whole pool, vectorised over queries; higher is better.

Definitions as in torchmetrics (`tests/test_metrics.py` compares each to 1e-6), which scores one query at a time
and takes about 80 times as long. Letters: N queries, K ranks looked at.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mtcl.errors import TaskError
from mtcl.task.metrics.base import Metric
from mtcl.types import FloatArray, Kind

BoolArray = npt.NDArray[np.bool_]


class RankingMetric(Metric):
    """Scores a ranking. `depth` is how many ranks it looks at; None is all of them."""

    kinds = frozenset({Kind.POSITIVE})
    depth: int | None

    @abstractmethod
    def __call__(self, hits_NK: BoolArray, num_relevant_N: npt.NDArray[np.int64]) -> FloatArray:
        """(N,) scores in [0, 1] from hits by rank and the number of relevant candidates in the pool (at least 1)."""


@dataclass(frozen=True)
class AtK(RankingMetric):
    """A metric of the first `k` ranks."""

    k: int = 10

    def __post_init__(self) -> None:
        if not isinstance(self.k, int) or self.k < 1:
            raise TaskError(f"{type(self).__name__}(k={self.k!r}): k must be an integer of at least 1")

    @property
    def name(self) -> str:
        return f"{type(self).__name__.lower()}@{self.k}"

    @property
    def depth(self) -> int | None:  # type: ignore[override]
        return self.k


@dataclass(frozen=True)
class NDCG(AtK):
    """Normalised discounted cumulative gain with binary relevance (Jarvelin and Kekalainen 2002)."""

    def __call__(self, hits_NK: BoolArray, num_relevant_N: npt.NDArray[np.int64]) -> FloatArray:
        hits_NK = hits_NK[:, : self.k]
        discount_K = 1 / np.log2(np.arange(2, hits_NK.shape[1] + 2))
        ideal_K = np.cumsum(discount_K)
        best_N = ideal_K[np.minimum(num_relevant_N, len(ideal_K)) - 1]
        gain_N: FloatArray = (hits_NK * discount_K).sum(axis=1) / best_N
        return gain_N


@dataclass(frozen=True)
class Recall(AtK):
    """Share of the relevant candidates found in the first `k`."""

    def __call__(self, hits_NK: BoolArray, num_relevant_N: npt.NDArray[np.int64]) -> FloatArray:
        return np.asarray(hits_NK[:, : self.k].sum(axis=1) / num_relevant_N)


@dataclass(frozen=True)
class Accuracy(AtK):
    """1 if any of the first `k` is relevant (hit rate); with `k=1` the accuracy of nearest-label classification."""

    k: int = 1

    def __call__(self, hits_NK: BoolArray, num_relevant_N: npt.NDArray[np.int64]) -> FloatArray:
        return np.asarray(hits_NK[:, : self.k].any(axis=1), dtype=np.float64)


@dataclass(frozen=True)
class MRR(RankingMetric):
    """Reciprocal rank of the first relevant candidate, over the whole ranking."""

    depth: int | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        return "mrr"

    def __call__(self, hits_NK: BoolArray, num_relevant_N: npt.NDArray[np.int64]) -> FloatArray:
        first_N = hits_NK.argmax(axis=1)
        return np.asarray(np.where(hits_NK.any(axis=1), 1 / (first_N + 1), 0.0))


@dataclass(frozen=True)
class MAP(RankingMetric):
    """Mean over the relevant candidates of the precision at their rank (average precision), over the whole ranking."""

    depth: int | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        return "map"

    def __call__(self, hits_NK: BoolArray, num_relevant_N: npt.NDArray[np.int64]) -> FloatArray:
        ranks_K = np.arange(1, hits_NK.shape[1] + 1)
        precision_NK = np.cumsum(hits_NK, axis=1) / ranks_K
        average_N: FloatArray = (precision_NK * hits_NK).sum(axis=1) / num_relevant_N
        return average_N
