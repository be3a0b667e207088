"""Retrieval metrics equal torchmetrics' own, query by query; those of judged pairs equal scikit-learn's.

python -m pytest tests/test_metrics.py
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional import retrieval

from mtcl import MAP, MRR, NDCG, Accuracy, AveragePrecision, Metric, Recall, RocAuc, TaskError
from mtcl.task.metrics import PairMetric

CASES = [
    (NDCG(k=10), lambda p, t: retrieval.retrieval_normalized_dcg(p, t, top_k=10)),
    (NDCG(k=3), lambda p, t: retrieval.retrieval_normalized_dcg(p, t, top_k=3)),
    (Recall(k=5), lambda p, t: retrieval.retrieval_recall(p, t, top_k=5)),
    (Accuracy(k=1), lambda p, t: retrieval.retrieval_hit_rate(p, t, top_k=1)),
    (Accuracy(k=4), lambda p, t: retrieval.retrieval_hit_rate(p, t, top_k=4)),
    (MRR(), retrieval.retrieval_reciprocal_rank),
    (MAP(), retrieval.retrieval_average_precision),
]


@pytest.mark.parametrize(("metric", "reference"), CASES, ids=lambda c: c.name if isinstance(c, Metric) else "")
@pytest.mark.parametrize("num_candidates", [3, 40])
def test_equal_to_torchmetrics(metric: Metric, reference, num_candidates: int) -> None:  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(50, num_candidates, generator=generator, dtype=torch.float64)
    relevant = torch.rand(50, num_candidates, generator=generator) < 0.2
    relevant[torch.arange(50), torch.randint(num_candidates, (50,), generator=generator)] = True
    depth = num_candidates if metric.depth is None else min(metric.depth, num_candidates)
    hits = relevant.gather(1, scores.topk(depth, dim=1).indices).numpy()
    expected = [float(reference(s, t)) for s, t in zip(scores, relevant, strict=True)]
    np.testing.assert_allclose(metric(hits, relevant.sum(dim=1).numpy()), expected, atol=1e-6)


def test_the_first_hit_is_looked_for_in_the_whole_ranking() -> None:
    with pytest.raises(TypeError, match="depth"):
        MRR(depth=1)  # type: ignore[call-arg]


def test_k_must_be_positive() -> None:
    with pytest.raises(TaskError, match="k=0"):
        NDCG(k=0)


JUDGED = [(AveragePrecision(), "average_precision_score"), (RocAuc(), "roc_auc_score")]


@pytest.mark.parametrize(("metric", "name"), JUDGED)
@pytest.mark.parametrize("num_values", [1, 2, 7, 10_000])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_equal_to_scikit_learn_with_ties(metric: PairMetric, name: str, num_values: int, share: float) -> None:
    """Random labels, cosines of few values and of many."""
    reference = getattr(pytest.importorskip("sklearn.metrics", reason="extra `study` is not installed"), name)
    for seed in range(20):
        generator = np.random.default_rng(seed)
        labels = (generator.random(300) < share).astype(np.float64)
        labels[:2] = 0, 1
        cosine = generator.choice(np.linspace(-1, 1, num_values), size=300)
        assert metric(cosine, labels) == pytest.approx(reference(labels, cosine), abs=1e-12)


@pytest.mark.parametrize("metric", [AveragePrecision(), RocAuc()])
def test_the_smallest_difference_counts(metric: PairMetric) -> None:
    """Cosines are taken as they are: a rounding error apart they are in order, beyond 1 too; equal ones are tied."""
    labels, low = np.array([0.0, 1.0]), 0.999
    above = np.nextafter(low, 2)
    assert metric(np.array([low, above]), labels) == 1.0
    assert metric(np.array([above, low]), labels) == metric(np.array([2.0, -2.0]), labels) < 1.0
    assert metric(np.array([low, low]), labels) == 0.5


@pytest.mark.parametrize("metric", [AveragePrecision(), RocAuc()])
def test_equal_labels_have_no_figure(metric: PairMetric) -> None:
    assert np.isnan(metric(np.array([0.1, 0.2]), np.array([1.0, 1.0])))
