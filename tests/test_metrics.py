"""Retrieval metrics equal torchmetrics' own, query by query.

python -m pytest tests/test_metrics.py
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional import retrieval

from mtcl import MAP, MRR, NDCG, Accuracy, Metric, Recall, TaskError

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
