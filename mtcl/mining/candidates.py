"""Selects hard negatives among nearest neighbours; works on arrays only.

A text near an anchor is a hard negative or an unmarked positive. Three rules tell them apart. A text that shares a key
with the anchor is never a negative. A text that scores nearly as high as the anchor's positive is not a negative either
(the positive-aware limit of NV-Retriever, arXiv 2407.15831, which halves false negatives there). And the nearest few
texts are skipped (`ranks`, as range_min and range_max in sentence-transformers). Letters: N anchors, D dimensions, S
positives of all anchors, K neighbours of an anchor, M negatives of an anchor.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtcl.arrays import BoolArray, Float32Array, IntArray, Ragged
from mtcl.errors import ConfigError
from mtcl.task.pairs.shared_keys import carriers_of, most_sharing, shares_key_with

RELATED, PASSED_OVER, TOO_NEAR = "shares a key", "nearer than the window", "too near the positive"
MAX_RELATED = 1024
"""Number of neighbours that may share a key with an anchor before its window shrinks; bounds the memory of a search."""


@dataclass(frozen=True)
class Limits:
    """Selects the neighbours that become negatives: the nearest `num` per anchor that meet two conditions.

    They have ranks `ranks[0]` to `ranks[1] - 1` (from 0) among the candidates that share no key with the anchor, and
    they score below `below` times the anchor's positive.
    """

    num: int = 4
    ranks: tuple[int, int] = (10, 100)
    below: float = 0.95

    def __post_init__(self) -> None:
        if self.num < 1:
            raise ConfigError(f"num is {self.num}: give at least 1")
        if not 0 <= self.ranks[0] < self.ranks[1]:
            raise ConfigError(
                f"ranks is {self.ranks[0]} {self.ranks[1]}: give a first rank from 0 and a later last one"
            )
        if self.ranks[1] - self.ranks[0] < self.num:
            raise ConfigError(
                f"ranks is {self.ranks[0]} {self.ranks[1]}, which is fewer than num ({self.num}): widen it"
            )
        if not 0 < self.below <= 1:
            raise ConfigError(f"below is {self.below}: give a share of the positive's score, above 0 and at most 1")


@dataclass(frozen=True)
class Mined:
    """Negatives of N anchors as candidate numbers, nearest first, padded with -1; and why neighbours were left out."""

    negatives_NM: IntArray
    scores_NM: Float32Array
    left_out: Counter[str]


class Candidates:
    """The texts to search: an index of their unit vectors, and their keys (one row per candidate)."""

    def __init__(self, index: Any, keys: Ragged) -> None:
        """`index` is a FAISS inner-product index of all candidates."""
        self.index, self.carriers = index, carriers_of(keys)

    def mine(self, anchors_ND: Float32Array, keys: Ragged, positive_N: Float32Array, limits: Limits) -> Mined:
        """The negatives of a block of anchors; `positive_N` has the score of each anchor's positive, NaN if none."""
        depth = min(len(self.carriers), limits.ranks[1] + min(MAX_RELATED, most_sharing(keys, self.carriers)))
        scores_NK, hits_NK = self.index.search(np.ascontiguousarray(anchors_ND), depth)
        related_NK = shares_key_with(keys, self.carriers, hits_NK)
        return select(scores_NK, hits_NK, related_NK, positive_N, limits)


def select(
    scores_NK: Float32Array, hits_NK: IntArray, related_NK: BoolArray, positive_N: Float32Array, limits: Limits
) -> Mined:
    """The first `limits.num` neighbours that may be negatives. They are sorted by falling score; -1 means none."""
    first, last = limits.ranks
    there_NK = hits_NK >= 0
    unrelated_NK = there_NK & ~related_NK
    seen_NK = unrelated_NK.cumsum(axis=1)
    rank_NK = seen_NK - 1  # among unrelated neighbours
    paired_N1 = ~np.isnan(positive_N)[:, None]
    before_NK = unrelated_NK & paired_N1 & (rank_NK < first)
    window_NK = unrelated_NK & paired_N1 & (rank_NK >= first) & (rank_NK < last)
    limit_N = np.minimum(positive_N, positive_N * limits.below)  # a share of a negative score would be above the score
    near_NK = window_NK & (scores_NK >= limit_N[:, None])
    free_NK = window_NK & ~near_NK
    taken_NK = free_NK & (free_NK.cumsum(axis=1) <= limits.num)
    left_out = {
        RELATED: there_NK & related_NK & paired_N1 & (seen_NK < last),
        PASSED_OVER: before_NK,
        TOO_NEAR: near_NK,
    }
    return Mined(
        _packed(hits_NK, taken_NK, limits.num, -1),
        _packed(scores_NK, taken_NK, limits.num, np.nan),
        Counter({reason: int(cells.sum()) for reason, cells in left_out.items()}),
    )


def positive_scores(anchors_ND: Float32Array, positives_SD: Float32Array, owners_S: IntArray) -> Float32Array:
    """(N,) the mean score of each anchor with its positives, NaN if none; `owners_S` has each positive's anchor."""
    scores_S = (anchors_ND[owners_S] * positives_SD).sum(axis=1)
    number_N = np.bincount(owners_S, minlength=len(anchors_ND))
    with np.errstate(invalid="ignore"):
        mean_N = np.bincount(owners_S, weights=scores_S, minlength=len(anchors_ND)) / number_N
    return mean_N.astype(np.float32)


def _packed(values_NK: Any, taken_NK: BoolArray, num: int, fill: float) -> Any:
    """(N, num): the taken values of each row moved to the left and padded with `fill`."""
    packed_NM = np.full((len(values_NK), num), fill, dtype=values_NK.dtype)
    rows, columns = np.nonzero(taken_NK)
    packed_NM[rows, taken_NK.cumsum(axis=1)[rows, columns] - 1] = values_NK[rows, columns]
    return packed_NM
