"""Retrieval metrics of each query over its whole pool, vectorised over queries. Higher is better.

The definitions are those of torchmetrics (`tests/test_metrics.py` compares each to 1e-6), which scores one query at a
time and takes about 80 times as long. Letters: N queries, K ranks.
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
    """Scores the ranking of the pool for each query.

    `hits_NK` is True where the candidate at rank k (0 is the best) is relevant to query n. `num_relevant_N` is the
    number of relevant candidates in the whole pool. `depth` is the number of ranks the metric needs, None for all.

    Example:
        >>> import numpy as np
        >>> from mtcl.task.metrics import RankingMetric
        >>> class FirstIsRight(RankingMetric):
        ...     depth = 1
        ...     name = "first_is_right"
        ...     def __call__(self, hits_NK, num_relevant_N):
        ...         return hits_NK[:, 0].astype(float)
        >>> FirstIsRight()(np.array([[True, False], [False, True]]), np.array([1, 2])).tolist()
        [1.0, 0.0]
    """

    kinds = frozenset({Kind.POSITIVE})
    depth: int | None

    @abstractmethod
    def __call__(self, hits_NK: BoolArray, num_relevant_N: npt.NDArray[np.int64]) -> FloatArray:
        """(N,) scores in [0, 1] from hits by rank and the number of relevant candidates in the pool (at least 1)."""


@dataclass(frozen=True)
class AtK(RankingMetric):
    """Base class of metrics that look at the first `k` ranks.

    Args:
        k: Ranks that count, at least 1.

    Example:
        >>> from mtcl import Recall
        >>> from mtcl.task.metrics.retrieval import AtK
        >>> issubclass(Recall, AtK), Recall(k=5).name, Recall(k=5).depth
        (True, 'recall@5', 5)
    """

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
    """Normalised discounted cumulative gain with binary relevance.

    With the hit `h_i` at rank i (1 is the best), 0 or 1, and R relevant candidates in the pool:

        ndcg = sum over i <= k of h_i / log2(i + 1)  /  sum over i <= min(k, R) of 1 / log2(i + 1)

    Shapes: hits (N, K) with K up to k or more, numbers of relevant candidates (N,); scores (N,) from 0 to 1.
    Source: Järvelin and Kekäläinen 2002, Cumulated gain-based evaluation of IR techniques.

    Args:
        k: Ranks that count, at least 1.

    Example:
        >>> import numpy as np
        >>> from mtcl import NDCG
        >>> hits = np.array([[True, False, False], [False, True, False]])
        >>> NDCG(k=3)(hits, np.array([1, 1])).round(3).tolist()
        [1.0, 0.631]
    """

    def __call__(self, hits_NK: BoolArray, num_relevant_N: npt.NDArray[np.int64]) -> FloatArray:
        hits_NK = hits_NK[:, : self.k]
        discount_K = 1 / np.log2(np.arange(2, hits_NK.shape[1] + 2))
        ideal_K = np.cumsum(discount_K)
        best_N = ideal_K[np.minimum(num_relevant_N, len(ideal_K)) - 1]
        gain_N: FloatArray = (hits_NK * discount_K).sum(axis=1) / best_N
        return gain_N


@dataclass(frozen=True)
class Recall(AtK):
    """Share of the relevant candidates that are among the first `k`.

        recall = (relevant candidates among the first k) / (relevant candidates in the pool)

    Shapes: hits (N, K) with K up to k or more, numbers of relevant candidates (N,); scores (N,) from 0 to 1.
    Source: Manning, Raghavan and Schütze 2008, Introduction to Information Retrieval, chapter 8.

    Args:
        k: Ranks that count, at least 1.

    Example:
        >>> import numpy as np
        >>> from mtcl import Recall
        >>> Recall(k=2)(np.array([[True, False, True], [True, True, False]]), np.array([2, 2])).tolist()
        [0.5, 1.0]
    """

    def __call__(self, hits_NK: BoolArray, num_relevant_N: npt.NDArray[np.int64]) -> FloatArray:
        return np.asarray(hits_NK[:, : self.k].sum(axis=1) / num_relevant_N)


@dataclass(frozen=True)
class Accuracy(AtK):
    """1 if any of the first `k` is relevant (hit rate); with `k=1`, the accuracy of nearest-label classification.

        accuracy = max over i <= k of h_i,   with the hit h_i at rank i, 0 or 1

    Shapes: hits (N, K) with K up to k or more, numbers of relevant candidates (N,), which are not used; scores (N,).
    Source: the hit rate of torchmetrics, `retrieval_hit_rate`.

    Args:
        k: Ranks that count, at least 1.

    Example:
        >>> import numpy as np
        >>> from mtcl import Accuracy
        >>> Accuracy(k=1)(np.array([[True, False], [False, True]]), np.array([1, 1])).tolist()
        [1.0, 0.0]
    """

    k: int = 1

    def __call__(self, hits_NK: BoolArray, num_relevant_N: npt.NDArray[np.int64]) -> FloatArray:
        return np.asarray(hits_NK[:, : self.k].any(axis=1), dtype=np.float64)


@dataclass(frozen=True)
class MRR(RankingMetric):
    """Reciprocal rank of the first relevant candidate, over the whole ranking.

        mrr = 1 / (rank of the first relevant candidate, 1 for the best); the mean over queries is MRR

    Shapes: hits (N, K) over the whole pool, numbers of relevant candidates (N,), which are not used; scores (N,).
    Source: Voorhees 1999, The TREC-8 question answering track report.

    Example:
        >>> import numpy as np
        >>> from mtcl import MRR
        >>> MRR()(np.array([[True, False], [False, True]]), np.array([1, 1])).tolist()
        [1.0, 0.5]
    """

    depth: int | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        return "mrr"

    def __call__(self, hits_NK: BoolArray, num_relevant_N: npt.NDArray[np.int64]) -> FloatArray:
        first_N = hits_NK.argmax(axis=1)
        return np.asarray(np.where(hits_NK.any(axis=1), 1 / (first_N + 1), 0.0))


@dataclass(frozen=True)
class MAP(RankingMetric):
    """Mean over the relevant candidates of the precision at their rank (average precision), over the whole ranking.

    With the hit `h_i` at rank i, 0 or 1, and R relevant candidates in the pool:

        map = 1 / R * sum over i of h_i * (hits up to rank i) / i;   the mean over queries is MAP

    Shapes: hits (N, K) over the whole pool, numbers of relevant candidates (N,); scores (N,) from 0 to 1.
    Source: Manning, Raghavan and Schütze 2008, Introduction to Information Retrieval, chapter 8.

    Example:
        >>> import numpy as np
        >>> from mtcl import MAP
        >>> MAP()(np.array([[True, False, True], [False, True, False]]), np.array([2, 1])).round(3).tolist()
        [0.833, 0.5]
    """

    depth: int | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        return "map"

    def __call__(self, hits_NK: BoolArray, num_relevant_N: npt.NDArray[np.int64]) -> FloatArray:
        ranks_K = np.arange(1, hits_NK.shape[1] + 1)
        precision_NK = np.cumsum(hits_NK, axis=1) / ranks_K
        average_N: FloatArray = (precision_NK * hits_NK).sum(axis=1) / num_relevant_N
        return average_N
