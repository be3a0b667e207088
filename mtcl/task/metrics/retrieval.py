"""Retrieval metrics of each query over its whole pool, vectorised over queries. Higher is better.

The definitions are those of trec_eval (`tests/test_judgements.py` compares each to 1e-9) and of torchmetrics
(`tests/test_metrics.py`), which scores one query at a time and takes about 80 times as long. Letters: N queries,
K ranks, B best grades.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mtcl.arrays import BoolArray, FloatArray
from mtcl.errors import TaskError
from mtcl.task.kind import Kind
from mtcl.task.metrics.base import Metric


class RankingMetric(Metric):
    """Scores the ranking of the pool for each query.

    `hits_NK` is True where the candidate at rank k (0 is the best) is relevant to query n. `num_relevant_N` is the
    number of relevant documents, including any that are missing from the pool. `depth` is the number of ranks the
    metric needs, None for all. Where relevance is graded, every grade above 0 is a hit, unless `of_grades` is
    overridden.

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
        """(N,) scores in [0, 1] from hits by rank and the number of relevant documents (at least 1)."""

    def of_grades(
        self, grades_NK: FloatArray, best_NB: FloatArray, num_relevant_N: npt.NDArray[np.int64]
    ) -> FloatArray:
        """(N,) scores in [0, 1] from grades by rank, 0 where the candidate is not relevant.

        `best_NB` are the highest grades of each query's relevant documents, from the highest, padded with 0; B is
        `depth`, or enough for all of them.
        """
        return self(grades_NK > 0, num_relevant_N)


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
    """Normalised discounted cumulative gain; the gain of a document is its grade.

    With the grade `g_i` of the candidate at rank i (1 is the best), 1 or 0 where relevance is not graded, and the
    grades `b_i` of all relevant documents from the highest:

        ndcg = sum over i <= k of g_i / log2(i + 1)  /  sum over i <= k of b_i / log2(i + 1)

    Shapes: hits (N, K) with K up to k or more, numbers of relevant documents (N,); scores (N,) from 0 to 1.
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
        best = int(num_relevant_N.max(initial=0))
        best_NB = (np.arange(min(self.k, best)) < num_relevant_N[:, None]).astype(np.float64)
        return self.of_grades(hits_NK.astype(np.float64), best_NB, num_relevant_N)

    def of_grades(
        self, grades_NK: FloatArray, best_NB: FloatArray, num_relevant_N: npt.NDArray[np.int64]
    ) -> FloatArray:
        gain_N, ideal_N = (self._gain(grades) for grades in (grades_NK, best_NB))
        return np.divide(gain_N, ideal_N, out=np.zeros(len(gain_N)), where=ideal_N > 0)

    def _gain(self, grades_NK: FloatArray) -> FloatArray:
        grades_NK = grades_NK[:, : self.k]
        gain_N: FloatArray = (grades_NK / np.log2(np.arange(2, grades_NK.shape[1] + 2))).sum(axis=1)
        return gain_N


@dataclass(frozen=True)
class Recall(AtK):
    """Share of the relevant candidates that are among the first `k`.

        recall = (relevant candidates among the first k) / (relevant documents)

    Shapes: hits (N, K) with K up to k or more, numbers of relevant documents (N,); scores (N,) from 0 to 1.
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

    Shapes: hits (N, K) with K up to k or more, numbers of relevant documents (N,), which are not used; scores (N,).
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

    Shapes: hits (N, K) over the whole pool, numbers of relevant documents (N,), which are not used; scores (N,).
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

    With the hit `h_i` at rank i, 0 or 1, and R relevant documents:

        map = 1 / R * sum over i of h_i * (hits up to rank i) / i;   the mean over queries is MAP

    Shapes: hits (N, K) over the whole pool, numbers of relevant documents (N,); scores (N,) from 0 to 1.
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
