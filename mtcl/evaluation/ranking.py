"""Ranks the whole pool of candidates (a corpus, all labels, all posts) for each query. Candidates that share a key with
the query are relevant.

A text that is both query and candidate does not find itself, unless it is the only relevant candidate (a post with the
same text as its label). Each query is evaluated on one rank. Letters: N queries of a block, C candidates, D dimensions,
K ranks.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mtcl.data.store import TokenStore
from mtcl.distributed import gather_varying, together, world
from mtcl.errors import DataError, MtclError, TaskError, at
from mtcl.evaluation.pool import Items, Pool, Result, Vectors, judge
from mtcl.task.metrics import MRR, NDCG, Accuracy, RankingMetric, Recall
from mtcl.task.pairs.shared_keys import carriers_of, components, shares_key
from mtcl.types import BoolArray, FloatArray, IntArray

BLOCK, SCORES = 512, 1 << 24
"""Maximum number of queries and of scores in a block, so that memory is bounded for any pool."""
log = logging.getLogger("mtcl")
COMMON: tuple[RankingMetric, ...] = (MRR(), NDCG(k=10), Recall(k=10), Accuracy(k=1))
"""Reported for every task in addition to its primary metric."""


def evaluate(pool: Pool, vectors: Vectors) -> Result:
    """Rank the pool for each query and score the rankings."""
    store, primary = pool.store, pool.metric
    assert isinstance(primary, RankingMetric)
    metrics = {metric.name: metric for metric in (*COMMON, primary)}
    rank, ranks = world()
    local = np.asarray(store.queries)[rank::ranks]
    with together(), at(f"task {pool.name!r}, ", MtclError):
        scores = _scores(vectors, local, store, list(metrics.values()))
    scores = gather_varying(torch.from_numpy(scores)).numpy()
    items = gather_varying(torch.from_numpy(local.astype(np.int64))).numpy()
    order = np.argsort(items)
    found = order[~np.isnan(scores[order, 0])]
    if not len(found):
        raise DataError(f"task {pool.name!r}: no query of the pool has a relevant candidate")
    if len(found) < len(order) and rank == 0:
        lost = len(order) - len(found)
        log.warning(
            "%s: %d of %d queries have no relevant candidate in the pool and are skipped", pool.name, lost, len(order)
        )
    order = found
    items, scores = items[order], scores[order]
    means = dict(zip(metrics, scores.mean(axis=0).tolist(), strict=True))
    clusters = components(store.keys.take(items)) if store.tied else items
    return Result(pool.name, len(items), means[primary.name], means, Items(items, clusters, tuple(metrics), scores))


def _scores(
    vectors: Vectors, queries: IntArray, store: TokenStore, metrics: list[RankingMetric]
) -> npt.NDArray[np.float64]:
    """(queries, metrics); a row of NaN for a query without a relevant candidate."""
    candidates = np.asarray(store.candidates)
    candidates_CD = vectors.of(candidates)
    carriers, originals = carriers_of(store.keys.take(candidates)), store.originals(candidates)
    depth = _depth(metrics, len(candidates))
    found: list[npt.NDArray[Any]] = [np.empty((0, len(metrics)))]
    size = max(1, min(BLOCK, SCORES // len(candidates)))
    for block in np.array_split(queries, max(1, -(-len(queries) // size))):
        relevant_NC = shares_key(store.keys.take(block), carriers)
        cosine_NC = vectors.of(block) @ candidates_CD.T
        itself_NC = store.originals(block)[:, None] == originals
        if not store.exclude_self:
            itself_NC &= (relevant_NC & ~itself_NC).any(axis=1, keepdims=True)
        relevant_NC &= ~itself_NC
        cosine_NC[torch.from_numpy(itself_NC)] = -torch.inf
        ranking_NK = cosine_NC.topk(depth, dim=1).indices.numpy()
        hits_NK = np.take_along_axis(relevant_NC, ranking_NK, axis=1)
        num_relevant_N = relevant_NC.sum(axis=1)
        scores = np.stack([_judge(metric, hits_NK, num_relevant_N.clip(min=1)) for metric in metrics], axis=1)
        scores[num_relevant_N == 0] = np.nan
        found.append(scores)
    return np.concatenate(found)


def _judge(metric: RankingMetric, hits_NK: BoolArray, num_relevant_N: npt.NDArray[np.int64]) -> FloatArray:
    """(N,) scores."""
    scores_N: FloatArray = judge(metric, hits_NK[:, : metric.depth], num_relevant_N)
    if np.shape(scores_N) != num_relevant_N.shape:
        raise TaskError(f"metric {metric.name} returned {np.shape(scores_N)} scores for {len(num_relevant_N)} queries")
    return scores_N


def _depth(metrics: list[RankingMetric], num_candidates: int) -> int:
    depths = [num_candidates if metric.depth is None else metric.depth for metric in metrics]
    return min(num_candidates, max(depths))
