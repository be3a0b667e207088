"""Evaluation on fixed pools, by kind of pairs. Every text of a split is embedded once, and all ranks get the same
results.

Positives are searched for among all candidates (`ranking`), translations in pools of one size (`bitext`), and the
cosines of judged pairs are compared with their scores (`judged`). Measures of the vectors' geometry are always added
(`geometry`), and measures of their groups on request (`groups`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from mtcl.evaluation import bitext, judged, ranking
from mtcl.evaluation.geometry import geometry_of
from mtcl.evaluation.groups import group_figures
from mtcl.evaluation.pool import Embed, Items, Pool, PoolVectors, Result, embed_shared, primary_of
from mtcl.task.kind import Kind
from mtcl.task.metrics import BitextAccuracy

__all__ = ["Embed", "Items", "Pool", "Result", "embed_shared", "evaluate", "evaluated_on", "primary_of", "score"]

PROTOCOLS = {
    Kind.POSITIVE: ranking.evaluate,
    Kind.PARALLEL: bitext.evaluate,
    Kind.GRADED: judged.evaluate,
    Kind.BINARY: judged.evaluate,
}


def evaluate(pool: Pool, embed: Embed, *, dims: Sequence[int] = (), groups: bool = False) -> Result:
    """Embed the pool's texts and compute its metrics, as `score` does."""
    return score(pool, embed_shared(pool.texts, embed), dims=dims, groups=groups)


def score(pool: Pool, vectors: PoolVectors, *, dims: Sequence[int] = (), groups: bool = False) -> Result:
    """The metrics of a pool by the vectors of its texts. Raises `DataError` if the pool has nothing to find.

    The vectors are also scored when cut to each of `dims`, with names such as `mrr_dim50`. `groups` adds the metrics
    of `group_figures`.
    """
    result = _score(pool, vectors)
    for dim in dims:
        cut = _score(pool, vectors.cut(dim)).metrics
        result = replace(result, metrics=result.metrics | {f"{name}_dim{dim}": value for name, value in cut.items()})
    if groups:
        result = replace(result, metrics=result.metrics | group_figures(pool, vectors))
    return result


def evaluated_on(pool: Pool) -> str:
    """What the pool's metrics are means over: `1,200 queries` or `1,200 pairs`. A query may have several pairs."""
    if pool.store.pairs.kind is Kind.POSITIVE:
        return f"{len(pool.store.pairs.search.queries):,} queries"
    if isinstance(pool.metric, BitextAccuracy):
        return f"{bitext.num_scored(pool.store.pairs, pool.metric.pool_size):,} pairs"
    return f"{len(pool.store):,} pairs"


def _score(pool: Pool, vectors: PoolVectors) -> Result:
    with torch.autocast("cpu", enabled=False):  # bfloat16 has 8 bits: most near neighbours would have equal cosines
        result = PROTOCOLS[pool.store.pairs.kind](pool, vectors)
        return replace(result, metrics=result.metrics | geometry_of(pool, vectors))
