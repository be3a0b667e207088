"""Convert the per-item scores of an evaluation to the form that studies use to compare arms.

Ranking and translation metrics are means over items. Metrics of judged pairs (Spearman, average precision) are not, so
an item's score is its jackknife pseudo-value, metric + (n - 1) * (metric - metric without the item) (Tukey 1958). The
spread of these values equals the metric's to first order. Their mean is an estimate without the metric's own bias, so
all are shifted by one number to the metric itself: tables of studies and `mtcl test` then show the same value. With
several languages the metric is the mean over languages. The items of a cluster are left out together. Many clusters are
grouped into blocks, which then count as the clusters; for a block of m items the factor is (n - m) / m.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from mtcl.arrays import Float64Array, FloatArray, IntArray
from mtcl.errors import DataError, nearest
from mtcl.evaluation import Items
from mtcl.task.metrics import Metric
from mtcl.task.metrics.judged import PairMetric

MOST_BLOCKS = 500
"""How often a metric of judged pairs is computed, at most, for its pseudo-values."""


@dataclass(frozen=True)
class ItemScores:
    """Scores of one encoder on one task, (I,), and the ids and optional clusters of the items.

    The mean of the scores is the task's metric.
    """

    items_I: IntArray
    clusters_I: IntArray | None
    scores_I: Float64Array


def read_scores(path: Path, metric: Metric) -> ItemScores:
    """Read a file with the columns `item`, `cluster` if items come in clusters, and one column per metric."""
    try:
        table = pq.read_table(path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read scores from {path}: {error}") from error
    return _scores_of({name: table[name].to_numpy() for name in table.schema.names}, metric, where=str(path))


def scores_of(items: Items, metric: Metric, *, where: str) -> ItemScores:
    """The scores of an evaluation in memory."""
    columns: dict[str, npt.NDArray[Any]] = {"item": items.items, "cluster": items.clusters}
    columns |= dict(zip(items.names, items.scores.T, strict=True))
    return _scores_of(columns, metric, where=where)


def _scores_of(columns: Mapping[str, npt.NDArray[Any]], metric: Metric, *, where: str) -> ItemScores:
    if metric.name in columns:
        return ItemScores(columns["item"], columns.get("cluster"), columns[metric.name].astype(np.float64))
    if isinstance(metric, PairMetric) and {"cosine", "score"} <= columns.keys():
        language_I = columns.get("language", np.zeros(len(columns["item"])))
        units_I = np.unique(columns.get("cluster", columns["item"]), return_inverse=True)[1]
        blocks_I = units_I % MOST_BLOCKS
        scores_I = _pseudo_values(metric, columns["cosine"], columns["score"], language_I, blocks_I)
        return ItemScores(columns["item"], blocks_I, scores_I)
    raise DataError(f"{where} has no scores of {metric.name!r}{nearest(metric.name, columns)}")


def _pseudo_values(
    metric: PairMetric, cosine_I: FloatArray, score_I: FloatArray, language_I: FloatArray, blocks_I: IntArray
) -> Float64Array:
    """The pseudo-value of each item's block, shifted so that the mean over items is the metric: the mean over the
    languages in which it has a value.

    If leaving out a block leaves a language without a value, that language keeps its value with the block.
    """
    num_items, sizes_B = len(blocks_I), np.bincount(blocks_I)
    places = [np.flatnonzero(language_I == language) for language in np.unique(language_I)]
    whole_L = np.array([metric(cosine_I[rows], score_I[rows]) for rows in places])
    places = [rows for rows, value in zip(places, whole_L, strict=True) if not np.isnan(value)]
    whole_L = whole_L[~np.isnan(whole_L)]
    if not places:
        return np.full(num_items, np.nan)
    without_BL = np.tile(whole_L, (len(sizes_B), 1))
    for number, rows in enumerate(places):
        for block in np.unique(blocks_I[rows]):
            kept = rows[blocks_I[rows] != block]
            value = metric(cosine_I[kept], score_I[kept]) if len(kept) else float("nan")
            if not np.isnan(value):
                without_BL[block, number] = value
    factor_B = (num_items - sizes_B) / np.maximum(sizes_B, 1)
    influence_I: Float64Array = (factor_B * (whole_L - without_BL).mean(axis=1))[blocks_I]
    return float(whole_L.mean()) + influence_I - float(influence_I.mean())
