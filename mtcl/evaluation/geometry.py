"""How vectors lie on the sphere, whatever they are for: alignment and uniformity (Wang, Isola 2020, arXiv 2005.10242).

Diagnostics: uniformity near 0 and a mean cosine near 1 tell of a collapse that a ranking of few candidates may hide.
Lower is better of both alignment and uniformity; neither alone says anything.
"""

from __future__ import annotations

import numpy as np
import torch

from mtcl.evaluation.pool import Pool, Vectors
from mtcl.types import Kind

MOST_TEXTS = 2048
"""Texts, evenly spread over the pool, whose couples are looked at: time and memory grow with their square."""


def geometry_of(pool: Pool, vectors: Vectors) -> dict[str, float]:
    """`uniformity` log E exp(-2 |x - y|^2) and `mean_cosine` of couples of texts, `alignment` E |x - y|^2 of positives.

    No alignment for judged pairs, and none where positives are drawn from a group.
    """
    store, texts = pool.store, vectors.texts
    sample_TD = vectors.of(texts[:: -(-len(texts) // MOST_TEXTS)]).double()
    cosine_P = (sample_TD @ sample_TD.T)[~torch.eye(len(sample_TD), dtype=torch.bool)]
    figures = {}
    if len(cosine_P):
        figures["uniformity"] = float((4 * cosine_P - 4).exp().mean().log())
        figures["mean_cosine"] = float(cosine_P.mean())
    if store.kind in (Kind.POSITIVE, Kind.PARALLEL) and store.groups is None:
        embedded = np.isin(store.anchors, texts) & np.isin(store.positives, texts)
        sides = (vectors.of(np.asarray(side)[embedded]).double() for side in (store.anchors, store.positives))
        first_ND, second_ND = sides
        if len(first_ND):
            figures["alignment"] = float((first_ND - second_ND).square().sum(dim=1).mean())
    return figures
