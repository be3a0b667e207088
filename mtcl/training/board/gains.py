"""A task's gain on the run's start, with a 95 % interval over its validation items.

Items are paired: the same queries, or the same judged pairs, scored with the weights of the start and of now. Items of
one cluster are not independent, so clusters are the units. The interval says nothing about other seeds; `mtcl transfer`
does, with several of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtcl.arrays import FloatArray, IntArray
from mtcl.evaluation.pool import Items, Pool, judge
from mtcl.task.metrics import PairMetric

NORMAL = 1.959964
DRAWS = 100
"""Bootstrap draws for metrics of a whole pool, such as a rank correlation."""
MOST_PAIRS = 4000


@dataclass(frozen=True)
class Gain:
    """A difference, and half the width of its interval; None if it is not known."""

    gain: float
    half_width: float | None = None


def gain_of(pool: Pool, start: Items, now: Items) -> Gain | None:
    """The gain of a pool's primary metric over the items that both have; None if there are none, or if the start was
    evaluated by another metric.
    """
    of_start = of_now = np.arange(len(now.items))
    if not np.array_equal(start.items, now.items):  # items may repeat: queries with an id of their own and equal texts
        _, of_start, of_now = np.intersect1d(start.items, now.items, return_indices=True)
    if not len(of_now):
        return None
    start, now = start.take(of_start), now.take(of_now)
    clusters = np.unique(now.clusters, return_inverse=True)[1]
    if isinstance(pool.metric, PairMetric):
        return _of_pairs(pool.metric, start, now, clusters)
    name = pool.metric.name
    if name not in start.names:
        return None
    differences = now.column(name) - start.column(name)
    return Gain(float(differences.mean()), _half_width(differences, clusters))


def _half_width(differences: FloatArray, clusters: IntArray) -> float | None:
    """Half the interval's width, from the spread of the clusters' sums (the sandwich estimate of a mean's variance)."""
    units = int(clusters.max()) + 1
    if units < 2:
        return None
    sums = np.bincount(clusters, weights=differences - differences.mean())
    return float(NORMAL * np.sqrt(units / (units - 1) * np.square(sums).sum()) / len(differences))


def _of_pairs(metric: PairMetric, start: Items, now: Items, clusters: IntArray) -> Gain | None:
    """The gain by a bootstrap of clusters; the start and now get the same draws."""
    languages = now.languages

    def figure(of: Items, rows: IntArray) -> float:
        values = [
            judge(metric, of.column("cosine")[some], of.column("score")[some])
            for language in np.unique(languages)
            if len(some := rows[languages[rows] == language])
        ]
        known = [value for value in values if not np.isnan(value)]
        return float(np.mean(known)) if known else float("nan")

    everything = np.arange(len(clusters))
    gain = figure(now, everything) - figure(start, everything)
    if np.isnan(gain):
        return None
    if len(clusters) > MOST_PAIRS:
        return Gain(gain)
    order = np.argsort(clusters, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(clusters))[:-1])
    generator = np.random.default_rng(0)
    draws = []
    for _ in range(DRAWS):
        rows = np.concatenate([members[one] for one in generator.integers(len(members), size=len(members))])
        draws.append(figure(now, rows) - figure(start, rows))
    return Gain(gain, float(NORMAL * np.nanstd(draws)) if len(members) > 1 else None)
