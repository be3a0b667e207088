"""Evaluation on fixed pools, by kind of pairs: every text of a split is embedded once, all ranks end with the same
figures.

Positives are searched for among all candidates (`ranking`), translations in pools of one size (`bitext`), judged pairs
compared with their scores (`judged`); beside each the geometry of the vectors, and on request what its groups look like
(`groups`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mtcl.evaluation import bitext, judged, ranking
from mtcl.evaluation.geometry import geometry_of
from mtcl.evaluation.groups import group_figures
from mtcl.evaluation.pool import Embed, Items, Pool, Result, Vectors, embed_shared, primary_of
from mtcl.types import Kind

__all__ = ["Embed", "Items", "Pool", "Result", "evaluate", "primary_of"]

PROTOCOLS = {
    Kind.POSITIVE: ranking.evaluate,
    Kind.PARALLEL: bitext.evaluate,
    Kind.GRADED: judged.evaluate,
    Kind.BINARY: judged.evaluate,
}


def evaluate(pool: Pool, embed: Embed, *, dims: Sequence[int] = (), groups: bool = False) -> Result:
    """Embed the pool's texts and score it. Raises `DataError` if there is nothing to find in it.

    The same vectors are also scored cut to each of `dims`: figures by names such as `mrr_dim50`. `groups` adds
    the figures of `group_figures`.
    """
    vectors = embed_shared(pool.texts, embed)
    result = _score(pool, vectors)
    for dim in dims:
        cut = _score(pool, vectors.cut(dim)).metrics
        result = replace(result, metrics=result.metrics | {f"{name}_dim{dim}": value for name, value in cut.items()})
    if groups:
        result = replace(result, metrics=result.metrics | group_figures(pool, vectors))
    return result


def _score(pool: Pool, vectors: Vectors) -> Result:
    result = PROTOCOLS[pool.store.kind](pool, vectors)
    return replace(result, metrics=result.metrics | geometry_of(pool, vectors))
