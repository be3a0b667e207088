"""Scores of single items, as an evaluation wrote them, in the form that arms are compared in.

Ranking and translation metrics are means over items. Those of judged pairs (Spearman, average precision) are not: each
item's score is its jackknife pseudo-value there, n * metric - (n - 1) * metric without it (Tukey 1958), whose mean and
spread are the metric's to first order; the metric of several languages is their mean. Many items are left out in
blocks, which stand as clusters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from mtcl.errors import DataError, nearest
from mtcl.evaluation import Items
from mtcl.metrics import Metric
from mtcl.metrics.judged import PairMetric
from mtcl.types import FloatArray, IntArray

MOST_BLOCKS = 500
"""Times that a metric of judged pairs is computed for its pseudo-values."""


@dataclass(frozen=True)
class ItemScores:
    """Scores of one encoder on one task: of the items (I,), which may come in clusters."""

    items_I: IntArray
    clusters_I: IntArray | None
    scores_I: npt.NDArray[np.float64]


def read_scores(path: Path, metric: Metric) -> ItemScores:
    """A file with the columns `item`, `cluster` where items come in clusters, and one a metric."""
    try:
        table = pq.read_table(path)
    except (OSError, ValueError) as error:
        raise DataError(f"no scores can be read from {path}: {error}") from error
    return _scores_of({name: table[name].to_numpy() for name in table.schema.names}, metric, where=str(path))


def scores_of(items: Items, metric: Metric, *, where: str) -> ItemScores:
    """The same of an evaluation that was just made."""
    columns: dict[str, npt.NDArray[Any]] = {"item": items.items, "cluster": items.clusters}
    columns |= dict(zip(items.names, items.scores.T, strict=True))
    return _scores_of(columns, metric, where=where)


def _scores_of(columns: Mapping[str, npt.NDArray[Any]], metric: Metric, *, where: str) -> ItemScores:
    if metric.name in columns:
        return ItemScores(columns["item"], columns.get("cluster"), columns[metric.name].astype(np.float64))
    if isinstance(metric, PairMetric) and {"cosine", "score"} <= columns.keys():
        language_I = columns.get("language", np.zeros(len(columns["item"])))
        clusters_I, scores_I = _pseudo_values(metric, columns["cosine"], columns["score"], language_I)
        return ItemScores(columns["item"], clusters_I, scores_I)
    raise DataError(f"{where} has no scores of {metric.name!r}{nearest(metric.name, columns)}")


def _pseudo_values(
    metric: PairMetric, cosine_I: FloatArray, score_I: FloatArray, language_I: FloatArray
) -> tuple[IntArray, npt.NDArray[np.float64]]:
    """Each item's block, and the pseudo-value of that block; the metric is the mean over languages."""
    blocks_I = np.arange(len(cosine_I)) % min(MOST_BLOCKS, len(cosine_I))
    num_blocks = int(blocks_I.max()) + 1

    def of(kept_I: npt.NDArray[np.bool_]) -> float:
        rows_of_languages = [kept_I & (language_I == language) for language in np.unique(language_I)]
        found = np.array([metric(cosine_I[rows], score_I[rows]) for rows in rows_of_languages])
        return float(found[~np.isnan(found)].mean()) if not np.isnan(found).all() else float("nan")

    whole = of(np.ones(len(blocks_I), dtype=np.bool_))
    without_B = np.array([of(blocks_I != block) for block in range(num_blocks)])
    return blocks_I, (num_blocks * whole - (num_blocks - 1) * without_B)[blocks_I]
