"""Ranks the whole pool of candidates (a corpus, all labels, all posts) for each query, and scores the ranks of the
relevant ones.

Only judgements make a candidate relevant (`mtcl.task.pairs.relevance`), as in trec_eval; keys don't. Every judged query
counts: if nothing relevant can be found, it scores 0. If all texts are of one kind (stories, duplicates), a query does
not find itself. Each query is evaluated on one rank. Letters: N queries of a block, C candidates, T distinct texts of
candidates, K ranks.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mtcl.arrays import BoolArray, FloatArray, IntArray
from mtcl.console import track
from mtcl.distributed import gather_varying, together, world
from mtcl.errors import DataError, MtclError, TaskError, at
from mtcl.evaluation.pool import Items, Pool, PoolVectors, Result, judge
from mtcl.evaluation.ranks import ranks_of
from mtcl.evaluation.relevant import Judged, Relevant
from mtcl.task.metrics import MRR, NDCG, Accuracy, RankingMetric, Recall
from mtcl.task.pairs.relevance import Relevance
from mtcl.task.pairs.shared_keys import components

BLOCK, SCORES = 512, 1 << 24
"""Maximum number of queries and of scores in a block, so that memory is bounded for any pool."""
log = logging.getLogger("mtcl")
COMMON: tuple[RankingMetric, ...] = (MRR(), NDCG(k=10), Recall(k=10), Accuracy(k=1))
"""Reported for every task in addition to its primary metric."""
_warned: set[Path] = set()
"""Stores whose problems this process has reported."""


def evaluate(pool: Pool, vectors: PoolVectors) -> Result:
    """Rank the pool for each query and score the rankings."""
    table, primary = pool.store.pairs, pool.metric
    assert isinstance(primary, RankingMetric)
    judged = Judged(table)
    relevance = judged.relevance
    if not judged.can_be_found:
        raise DataError(f"task {pool.name!r}: no query of the pool has a relevant candidate" + _because(relevance))
    metrics = {metric.name: metric for metric in (*COMMON, primary)}
    rank, ranks = world()
    if rank == 0:
        _warn(pool, relevance)
    local = np.arange(len(relevance.queries))[rank::ranks]
    with together(), at(f"task {pool.name!r}, ", MtclError):
        scores = _scores(vectors, local, judged, list(metrics.values()), title=f"rank {pool.name}")
    order = np.argsort(gather_varying(torch.from_numpy(local)).numpy())
    scores = gather_varying(torch.from_numpy(scores)).numpy()[order]
    items = np.asarray(relevance.queries).astype(np.int64)
    means = dict(zip(metrics, scores.mean(axis=0).tolist(), strict=True))
    clusters = components(table.keys.take(items)) if table.tied else items
    return Result(pool.name, len(items), means[primary.name], means, Items(items, clusters, tuple(metrics), scores))


def _because(relevance: Relevance) -> str:
    return f": {'; '.join(relevance.problems)}" if relevance.problems else ""


def _warn(pool: Pool, relevance: Relevance) -> None:
    """Report the problems of a store's judgements, once per process."""
    if pool.store.folder not in _warned:
        _warned.add(pool.store.folder)
        for problem in relevance.problems:
            log.warning("%s: %s", pool.name, problem)


def _scores(
    vectors: PoolVectors, queries: IntArray, judged: Judged, metrics: Sequence[RankingMetric], *, title: str
) -> npt.NDArray[np.float64]:
    """(queries, metrics)."""
    relevance = judged.relevance
    candidates = np.asarray(relevance.candidates)
    texts_T, text_C = np.unique(candidates, return_inverse=True)  # candidates with one text have equal cosines
    is_distinct = bool(len(texts_T) == len(candidates))
    texts_TD = vectors.of(candidates if is_distinct else texts_T)
    scores = np.empty((len(queries), len(metrics)))
    size = max(1, min(BLOCK, SCORES // len(candidates)))
    for start in track(range(0, len(queries), size), title):
        block = queries[start : start + size]
        asked = np.asarray(relevance.queries)[block]
        cosine_NT: FloatArray = (vectors.of(asked) @ texts_TD.T).numpy()
        cosine_NC = cosine_NT if is_distinct else cosine_NT[:, text_C]
        if judged.exclude_self:
            cosine_NC[asked[:, None] == candidates] = -np.inf
        relevant = judged.of(block)
        ranks_R = ranks_of(cosine_NC, relevant.candidates)
        for number, metric in enumerate(metrics):
            scores[start : start + size, number] = _judge(metric, relevant, ranks_R, relevance)
    return scores


def _judge(metric: RankingMetric, relevant: Relevant, ranks_R: IntArray, relevance: Relevance) -> FloatArray:
    """(N,) scores; 0 for a query without relevant documents."""
    num_candidates = len(relevance.candidates)
    depth = num_candidates if metric.depth is None else min(metric.depth, num_candidates)
    num_N, rows_R = relevant.num_relevant, relevant.rows
    kept = ranks_R <= depth
    cells = rows_R[kept], ranks_R[kept] - 1
    if relevance.grades is None:
        hits_NK: BoolArray = np.zeros((len(num_N), depth), dtype=np.bool_)
        hits_NK[cells] = True
        scores_N: FloatArray = judge(metric, hits_NK, num_N.clip(min=1))
    else:
        grades_NK = np.zeros((len(num_N), depth))
        grades_NK[cells] = relevant.grades_R[kept]
        best_NB = relevant.best_grades(metric.depth)
        scores_N = judge(metric, grades_NK, best_NB, num_N.clip(min=1), by="of_grades")
    if np.shape(scores_N) != num_N.shape:
        raise TaskError(f"metric {metric.name} returned {np.shape(scores_N)} scores for {len(num_N)} queries")
    return np.where(num_N > 0, scores_N, 0.0)
