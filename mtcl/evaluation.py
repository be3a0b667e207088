"""Evaluation on fixed pools: each text of a split is embedded once, each query ranks the whole pool.

Queries are the anchors of the split, candidates the texts its pairs name as such (a corpus, all labels, all
posts); relevant is what shares a key. Texts and queries are split over ranks, each once; every rank ends with the
same figures. Letters: N queries of a block, C candidates, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor

from mtcl.distributed import gather_varying, world
from mtcl.errors import DataError
from mtcl.metrics import MRR, NDCG, Accuracy, Metric, Recall
from mtcl.store import TokenStore
from mtcl.types import IntArray, Ragged

BLOCK = 512
COMMON: tuple[Metric, ...] = (MRR(), NDCG(k=10), Recall(k=10), Accuracy(k=1))
"""Reported for every task beside its primary metric."""
Embed = Callable[[Ragged], Tensor]


@dataclass(frozen=True)
class Pool:
    """A task's split made ready for evaluation. `metric` is the task's primary one."""

    name: str
    store: TokenStore
    metric: Metric


@dataclass(frozen=True)
class Result:
    """A pool's figures by metric name; `primary` is the task's own. `num_queries` had something relevant to find."""

    name: str
    num_queries: int
    primary: float
    metrics: dict[str, float]


def evaluate(pool: Pool, embed: Embed) -> Result:
    """Embed the pool's texts and score it. Raises `DataError` if no query has a relevant candidate."""
    store = pool.store
    used = np.union1d(store.anchors, store.candidates)
    rank, ranks = world()
    embeddings_TD = _in_order(embed(store.tokens.take(used[rank::ranks])), len(used))
    metrics = {metric.name: metric for metric in (*COMMON, pool.metric)}
    queries, candidates = np.unique(store.anchors), np.asarray(store.candidates)
    scores = _scores(embeddings_TD, used, queries[rank::ranks], candidates, store, list(metrics.values()))
    scores = gather_varying(torch.from_numpy(scores)).numpy()
    scores = scores[~np.isnan(scores[:, 0])]
    if not len(scores):
        raise DataError(f"task {pool.name!r}: no query of the pool has a relevant candidate")
    means = dict(zip(metrics, scores.mean(axis=0).tolist(), strict=True))
    return Result(pool.name, len(scores), means[pool.metric.name], means)


def macro_mean(results: dict[str, Result]) -> float:
    """`val/mean`: the mean over tasks of their primary metrics."""
    return sum(result.primary for result in results.values()) / len(results)


def _in_order(mine_TD: Tensor, total: int) -> Tensor:
    """Embeddings of all ranks, text t from rank t % ranks, back in the order of texts."""
    ranks = world()[1]
    if ranks == 1:
        return mine_TD
    places = np.concatenate([np.arange(rank, total, ranks) for rank in range(ranks)])
    return gather_varying(mine_TD)[torch.from_numpy(np.argsort(places))]


def _scores(
    embeddings_TD: Tensor,
    used: IntArray,
    queries: IntArray,
    candidates: IntArray,
    store: TokenStore,
    metrics: list[Metric],
) -> npt.NDArray[np.float64]:
    """(queries, metrics); a row of NaN for a query without a relevant candidate."""
    candidates_CD = embeddings_TD[torch.from_numpy(np.searchsorted(used, candidates))]
    carried = _incidence(store.keys.take(candidates))
    depth = _depth(metrics, len(candidates))
    found: list[npt.NDArray[Any]] = [np.empty((0, len(metrics)))]
    for block in np.array_split(queries, max(1, -(-len(queries) // BLOCK))):
        queries_ND = embeddings_TD[torch.from_numpy(np.searchsorted(used, block))]
        relevant_NC = _relevant(store.keys.take(block), carried)
        cosine_NC = queries_ND @ candidates_CD.T
        if store.exclude_self:
            itself_NC = block[:, None] == candidates
            relevant_NC &= ~itself_NC
            cosine_NC[torch.from_numpy(itself_NC)] = -torch.inf
        ranking_NK = cosine_NC.topk(depth, dim=1).indices.numpy()
        hits_NK = np.take_along_axis(relevant_NC, ranking_NK, axis=1)
        num_relevant_N = relevant_NC.sum(axis=1)
        scores = np.stack([metric(hits_NK, num_relevant_N.clip(min=1)) for metric in metrics], axis=1)
        scores[num_relevant_N == 0] = np.nan
        found.append(scores)
    return np.concatenate(found)


def _depth(metrics: list[Metric], num_candidates: int) -> int:
    depths = [num_candidates if metric.depth is None else metric.depth for metric in metrics]
    return min(num_candidates, max(depths))


@dataclass(frozen=True)
class _Carried:
    """Which candidate carries which key: columns of a sparse matrix are the sorted distinct keys."""

    keys: IntArray
    by_candidate: csr_array


def _incidence(keys: Ragged) -> _Carried:
    distinct, columns = np.unique(keys.values, return_inverse=True)
    data = np.ones(len(columns), dtype=np.int32)
    return _Carried(distinct, csr_array((data, columns, keys.offsets), shape=(len(keys), len(distinct))))


def _relevant(query_keys: Ragged, carried: _Carried) -> npt.NDArray[np.bool_]:
    """(N, C): whether query and candidate share a key."""
    columns = np.searchsorted(carried.keys, query_keys.values).clip(max=len(carried.keys) - 1)
    known = (carried.keys[columns] == query_keys.values).astype(np.int32)
    shape = (len(query_keys), len(carried.keys))
    queries = csr_array((known, columns, query_keys.offsets), shape=shape)
    shared: npt.NDArray[np.bool_] = (queries @ carried.by_candidate.T).toarray() > 0
    return shared
