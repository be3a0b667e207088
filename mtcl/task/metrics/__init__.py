"""Metrics, declared by tasks: `metric = NDCG(k=10)`."""

from mtcl.task.kind import Kind
from mtcl.task.metrics.base import Metric
from mtcl.task.metrics.bitext import BitextAccuracy
from mtcl.task.metrics.judged import AveragePrecision, PairMetric, RocAuc, Spearman
from mtcl.task.metrics.retrieval import MAP, MRR, NDCG, Accuracy, RankingMetric, Recall

ALL = (NDCG, MRR, MAP, Recall, Accuracy, Spearman, AveragePrecision, RocAuc, BitextAccuracy)

BASES: dict[Kind, type] = {
    Kind.POSITIVE: RankingMetric,
    Kind.PARALLEL: BitextAccuracy,
    Kind.GRADED: PairMetric,
    Kind.BINARY: PairMetric,
}
"""The base class of a task's own metric, by the kind of its pairs."""


def suited(kind: Kind) -> list[str]:
    """Names of the metrics for pairs of this kind."""
    return [metric.__name__ for metric in ALL if kind in metric.kinds]


__all__ = [
    "BASES",
    "MAP",
    "MRR",
    "NDCG",
    "Accuracy",
    "AveragePrecision",
    "BitextAccuracy",
    "Metric",
    "PairMetric",
    "RankingMetric",
    "Recall",
    "RocAuc",
    "Spearman",
    "suited",
]
