"""Metrics of judged pairs, which compare the ranks of cosines with scores or labels (scipy).

Only the order of the cosines counts, so they need not be probabilities. Equal cosines are one threshold, as in
scikit-learn. Letter: P pairs.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from mtcl.arrays import FloatArray
from mtcl.task.kind import Kind
from mtcl.task.metrics.base import Metric


class PairMetric(Metric):
    """Scores all pairs of a split (or of one language of it) together.

    Example:
        >>> import numpy as np
        >>> from mtcl import Kind
        >>> from mtcl.task.metrics import PairMetric
        >>> class Agreement(PairMetric):
        ...     kinds = frozenset({Kind.BINARY})
        ...     name = "agreement"
        ...     def __call__(self, cosine_P, scores_P):
        ...         return float(np.mean((cosine_P > 0.5) == scores_P))
        >>> Agreement()(np.array([0.9, 0.6, 0.1, 0.2]), np.array([1, 0, 0, 0]))
        0.75
    """

    @abstractmethod
    def __call__(self, cosine_P: FloatArray, scores_P: FloatArray) -> float:
        """The metric's value from the cosine and the score or label of each pair, both (P,).

        NaN if all scores are equal.
        """


@dataclass(frozen=True)
class Spearman(PairMetric):
    """Rank correlation of cosines and scores, as the STS benchmark reports it.

    With the ranks `r` of cosines and `s` of scores, where equal values get the mean of their ranks:

        spearman = cov(r, s) / (std(r) * std(s))

    Shapes: cosines and scores (P,); a number from -1 to 1, and 0 if all cosines are equal.
    Source: Spearman 1904; computed by `scipy.stats.spearmanr`.

    Example:
        >>> import numpy as np
        >>> from mtcl import Spearman
        >>> round(Spearman()(np.array([0.1, 0.5, 0.4, 0.9]), np.array([0.0, 0.4, 0.8, 1.0])), 3)
        0.8
    """

    kinds = frozenset({Kind.GRADED, Kind.BINARY})

    @property
    def name(self) -> str:
        return "spearman"

    def __call__(self, cosine_P: FloatArray, scores_P: FloatArray) -> float:
        from scipy.stats import spearmanr

        if len(scores_P) < 2 or np.ptp(scores_P) == 0:
            return float("nan")
        if np.ptp(cosine_P) == 0:
            return 0.0
        return float(spearmanr(cosine_P, scores_P).statistic)


@dataclass(frozen=True)
class AveragePrecision(PairMetric):
    """Average precision of the cosine as a detector of the pairs labelled 1.

        average_precision = mean over pairs p labelled 1 of (1s with cosine >= cos_p) / (pairs with cosine >= cos_p)

    This equals `average_precision_score` of scikit-learn: the sum over thresholds of the gain in recall times the
    precision at that threshold.

    Shapes: cosines and labels 0 or 1, both (P,); a number from 0 to 1.
    Source: Zhu 2004, Recall, precision and average precision.

    Example:
        >>> import numpy as np
        >>> from mtcl import AveragePrecision
        >>> round(AveragePrecision()(np.array([0.9, 0.8, 0.3, 0.1]), np.array([1, 0, 1, 0])), 3)
        0.833
    """

    kinds = frozenset({Kind.BINARY})

    @property
    def name(self) -> str:
        return "average_precision"

    def __call__(self, cosine_P: FloatArray, scores_P: FloatArray) -> float:
        from scipy.stats import rankdata

        if np.ptp(scores_P) == 0:
            return float("nan")
        is_one_P = scores_P == 1
        num_above = rankdata(-cosine_P, method="max")[is_one_P]
        num_ones_above = rankdata(-cosine_P[is_one_P], method="max")
        return float(np.mean(num_ones_above / num_above))


@dataclass(frozen=True)
class RocAuc(PairMetric):
    """The probability that a pair labelled 1 has a higher cosine than a pair labelled 0; equal cosines count half.

    With the ranks `r` of all cosines, where equal ones get the mean of their ranks, and P1 pairs labelled 1 and P0
    labelled 0 (the Mann-Whitney statistic):

        roc_auc = (sum of r over pairs labelled 1 - P1 * (P1 + 1) / 2) / (P1 * P0)

    Shapes: cosines and labels 0 or 1, both (P,); a number from 0 to 1.
    Source: Hanley and McNeil 1982, The meaning and use of the area under a receiver operating characteristic (ROC)
    curve.

    Example:
        >>> import numpy as np
        >>> from mtcl import RocAuc
        >>> RocAuc()(np.array([0.9, 0.8, 0.3, 0.1]), np.array([1, 0, 1, 0]))
        0.75
    """

    kinds = frozenset({Kind.BINARY})

    @property
    def name(self) -> str:
        return "roc_auc"

    def __call__(self, cosine_P: FloatArray, scores_P: FloatArray) -> float:
        from scipy.stats import rankdata

        if np.ptp(scores_P) == 0:
            return float("nan")
        is_one_P = scores_P == 1
        num_ones, num_zeros = int(is_one_P.sum()), int((~is_one_P).sum())
        rank_sum = rankdata(cosine_P)[is_one_P].sum()
        return float((rank_sum - num_ones * (num_ones + 1) / 2) / (num_ones * num_zeros))
