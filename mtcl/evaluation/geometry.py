"""The geometry of vectors on the sphere: alignment and uniformity (Wang, Isola 2020, arXiv 2005.10242).

These are diagnostics. Uniformity near 0 and a mean cosine near 1 show a collapse that a ranking of few candidates may
hide. Lower is better for both alignment and uniformity, but neither is meaningful without the other.
"""

from __future__ import annotations

import numpy as np
import torch

from mtcl.arrays import every_nth
from mtcl.evaluation.pool import Pool, PoolVectors
from mtcl.task.kind import Kind

MOST_TEXTS = 2048
"""Number of texts, evenly spread over the pool, that are compared pairwise; cost grows with its square."""


def geometry_of(pool: Pool, vectors: PoolVectors) -> dict[str, float]:
    """`uniformity` log E exp(-2 |x - y|^2) and `mean_cosine` of any two texts, `alignment` E |x - y|^2 of positives.

    There is no alignment for judged pairs, nor if positives are drawn from a group.
    """
    table, texts = pool.store.pairs, vectors.texts
    sample_TD = vectors.of(every_nth(texts, MOST_TEXTS)).double()
    cosine_P = (sample_TD @ sample_TD.T)[~torch.eye(len(sample_TD), dtype=torch.bool)]
    figures = {}
    if len(cosine_P):
        figures["uniformity"] = float((4 * cosine_P - 4).exp().mean().log())
        figures["mean_cosine"] = float(cosine_P.mean())
    if table.kind in (Kind.POSITIVE, Kind.PARALLEL) and table.groups is None:
        embedded = np.isin(table.anchors, texts) & np.isin(table.positives, texts)
        sides = (vectors.of(np.asarray(side)[embedded]).double() for side in (table.anchors, table.positives))
        first_ND, second_ND = sides
        if len(first_ND):
            figures["alignment"] = float((first_ND - second_ND).square().sum(dim=1).mean())
    return figures
