"""How far positives are from the hardest negatives: cosines on a task's validation pool, for histograms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mtcl.arrays import FloatArray
from mtcl.evaluation.pool import PoolVectors, Result
from mtcl.task.kind import Kind
from mtcl.training.board.judging import Judging

MOST_QUERIES = 512
BINS = np.linspace(-1.0, 1.0, 81)
"""Edges for cosines, the same for all tasks and steps, so that histograms can be compared."""
DRIFT_BINS = np.linspace(0.0, 2.0, 161)


@dataclass(frozen=True)
class Spread:
    """Cosines by what they are of, and for pairs labelled 0 or 1 the labels (P,) and cosines (P,) of a PR curve."""

    cosines: dict[str, FloatArray]
    labels_P: FloatArray | None = None
    cosines_P: FloatArray | None = None


def spread_of(judging: Judging, vectors: PoolVectors, result: Result) -> Spread:
    """The cosine of each sampled query with its nearest relevant candidate (`positives`) and with its nearest
    negative (`hardest_negatives`). For judged pairs, the cosines of the pairs, apart for the labels 0 and 1.

    A graded score of at least half the highest one counts as a 1 in the PR curve, but not in the histograms.
    """
    kind = judging.pool.store.pairs.kind
    if not judging.is_searched:
        cosines_P, scores_P = (result.items.column(name) for name in ("cosine", "score"))
        ones_P = (scores_P >= scores_P.max() / 2).astype(np.float64) if kind is Kind.GRADED else scores_P
        parts = {"pairs": cosines_P}
        if kind is Kind.BINARY:
            parts = {"positives": cosines_P[scores_P == 1], "negatives": cosines_P[scores_P != 1]}
        return Spread(parts, ones_P, cosines_P)
    positives, negatives = [np.empty(0)], [np.empty(0)]
    for block in judging.blocks(vectors, most=MOST_QUERIES):
        nearest = [
            block.cosines_NC.masked_fill(~torch.from_numpy(mask_NC), -torch.inf).amax(dim=1).double().numpy()
            for mask_NC in (block.relevant_NC, block.negative_NC)
        ]
        for kept, found in zip((positives, negatives), nearest, strict=True):
            kept.append(found[np.isfinite(found)])
    return Spread({"positives": np.concatenate(positives), "hardest_negatives": np.concatenate(negatives)})
