"""Metrics of judged pairs: cosines against scores or labels, by scipy and torchmetrics."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mtcl.task.metrics.base import Metric
from mtcl.types import FloatArray, Kind

if TYPE_CHECKING:
    from torch import Tensor


class PairMetric(Metric):
    """Scores all pairs of a split (or of one language of it) together."""

    @abstractmethod
    def __call__(self, cosine_P: FloatArray, scores_P: FloatArray) -> float:
        """One figure from each pair's cosine and its score or label. NaN where the scores are all alike."""


@dataclass(frozen=True)
class Spearman(PairMetric):
    """Rank correlation of cosines and scores, the figure of the STS benchmark."""

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
    """Average precision of finding the pairs labelled 1 by their cosine."""

    kinds = frozenset({Kind.BINARY})

    @property
    def name(self) -> str:
        return "average_precision"

    def __call__(self, cosine_P: FloatArray, scores_P: FloatArray) -> float:
        import torch
        from torchmetrics.functional.classification import binary_average_precision

        if np.ptp(scores_P) == 0:
            return float("nan")
        return float(binary_average_precision(*_as_probabilities(torch.from_numpy(cosine_P), scores_P)))


@dataclass(frozen=True)
class RocAuc(PairMetric):
    """Share of (1, 0) couples of pairs in which the one labelled 1 has the higher cosine."""

    kinds = frozenset({Kind.BINARY})

    @property
    def name(self) -> str:
        return "roc_auc"

    def __call__(self, cosine_P: FloatArray, scores_P: FloatArray) -> float:
        import torch
        from torchmetrics.functional.classification import binary_auroc

        if np.ptp(scores_P) == 0:
            return float("nan")
        return float(binary_auroc(*_as_probabilities(torch.from_numpy(cosine_P), scores_P)))


def _as_probabilities(cosine_P: Tensor, scores_P: FloatArray) -> tuple[Tensor, Tensor]:
    """Torchmetrics would squash what is outside of 0 to 1, and lose the order of nearly equal cosines."""
    import torch

    return (cosine_P.double() + 1) / 2 * 0.999999 + 5e-7, torch.from_numpy(scores_P).long()
