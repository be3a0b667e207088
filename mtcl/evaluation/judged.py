"""Evaluates judged pairs: compares the cosine of each pair with its score or label, language by language."""

from __future__ import annotations

import math

import numpy as np

from mtcl.arrays import FloatArray
from mtcl.distributed import together
from mtcl.errors import DataError, MtclError, at
from mtcl.evaluation.pool import Items, Pool, PoolVectors, Result, judge
from mtcl.task.kind import Kind
from mtcl.task.metrics import AveragePrecision, PairMetric, RocAuc, Spearman
from mtcl.task.pairs.shared_keys import components

COMMON: dict[Kind, tuple[PairMetric, ...]] = {Kind.GRADED: (Spearman(),), Kind.BINARY: (AveragePrecision(), RocAuc())}
"""Reported in addition to the primary metric."""


def evaluate(pool: Pool, vectors: PoolVectors) -> Result:
    """Metrics of the pool's pairs; with several languages, the mean over them and each language's own value."""
    table, primary = pool.store.pairs, pool.metric
    assert isinstance(primary, PairMetric)
    assert table.scores is not None
    scores_P = np.asarray(table.scores, dtype=np.float64)
    first_PD, second_PD = vectors.of(table.anchors), vectors.of(table.positives)
    cosine_P: FloatArray = (first_PD * second_PD).sum(dim=1).double().numpy()
    metrics = {metric.name: metric for metric in (*COMMON[table.kind], primary)}
    groups = {"": np.arange(len(scores_P))}
    if table.languages is not None:
        groups = {name: np.flatnonzero(table.languages == n) for n, name in enumerate(table.language_names)}
    figures: dict[str, float] = {}
    for name, metric in metrics.items():
        with together(), at(f"task {pool.name!r}, ", MtclError):
            of_group = {g: float(judge(metric, cosine_P[rows], scores_P[rows])) for g, rows in groups.items()}
        known = {g: value for g, value in of_group.items() if not math.isnan(value)}
        if not known:
            raise DataError(f"task {pool.name!r}: all scores in the pool are equal, so {name} is undefined")
        figures[name] = sum(known.values()) / len(known)
        figures |= {f"{name}_{g}": value for g, value in known.items() if g}
    columns = {"cosine": cosine_P, "score": scores_P}
    if table.languages is not None:
        columns["language"] = np.asarray(table.languages, dtype=np.float64)
    items = np.arange(len(scores_P))
    clusters = components(table.keys.take(table.anchors)) if table.tied else items
    single = Items(items, clusters, tuple(columns), np.stack(list(columns.values()), axis=1))
    return Result(pool.name, len(items), figures[primary.name], figures, single)
