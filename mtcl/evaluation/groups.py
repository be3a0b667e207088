"""Measures of a pool's groups (labels, stories): few-shot classification, nearest neighbours and k-means.

Groups are queries with a judged subject in common: posts of one label or of one story, of any size. Posts with several
tags are connected through their tags: if that makes one group of most posts, there are no groups. The metrics are
scikit-learn's, with MTEB's settings.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from mtcl.arrays import FloatArray, IntArray, every_nth
from mtcl.errors import ConfigError
from mtcl.evaluation.pool import Pool, PoolVectors
from mtcl.task.pairs.shared_keys import components

log = logging.getLogger("mtcl")
EXAMPLES, DRAWS, NEIGHBOURS = 8, 10, 5
MOST_ITEMS = 4096
"""Number of items, evenly spread over the pool, that are compared pairwise; cost grows with its square."""


def check_installed() -> None:
    """Raise `ConfigError` if scikit-learn is missing."""
    if find_spec("sklearn") is None:
        raise ConfigError("groups needs scikit-learn: pip install 'mtcl[study]'")


def group_figures(pool: Pool, vectors: PoolVectors) -> dict[str, float]:
    """Metrics by name; empty for a pool without groups, with a warning if its posts are all in one.

    probe@8     accuracy of a logistic regression on 8 items per group, tested on all other items; mean of 10 draws.
                Groups of fewer than 16 items are left out
    knn@5       accuracy of a majority vote of each item's 5 nearest other items
    v_measure   of k-means with as many clusters as there are groups
    pair_ap     average precision of the cosine as a detector of two items in the same group
    """
    if (relevance := pool.store.pairs.relevance) is None:
        return {}
    numbers = every_nth(np.arange(len(relevance.queries)), MOST_ITEMS)
    items, wanted = np.asarray(relevance.queries)[numbers], relevance.wanted.take(numbers)
    groups = components(wanted)
    sizes = np.bincount(groups)
    in_group = sizes[groups] > 1
    if in_group.mean() < 0.5:
        return {}
    is_connected = bool((wanted.lengths() > 1).any())
    if np.count_nonzero(sizes > 1) < 2 or (is_connected and sizes.max() > len(items) / 2):
        _warn_of_one_group(pool.name, int(sizes.max()), len(items), is_connected=is_connected)
        return {}
    items_ND: FloatArray = vectors.of(items[in_group]).double().numpy()
    groups = np.unique(groups[in_group], return_inverse=True)[1]
    return {
        **probe(items_ND, groups),
        f"knn@{NEIGHBOURS}": knn_accuracy(items_ND, groups),
        "v_measure": v_measure(items_ND, groups),
        "pair_ap": pair_ap(items_ND, groups),
    }


@cache
def _warn_of_one_group(task: str, largest: int, num_items: int, *, is_connected: bool) -> None:
    """Once for each task."""
    log.warning(
        "task %s has no metrics of groups (eval_groups): %s of its %s posts are in one group%s",
        task,
        f"{largest:,}",
        f"{num_items:,}",
        ", because posts with several labels connect those" if is_connected else ", and no other has two",
    )


def probe(items_ND: FloatArray, groups: IntArray) -> dict[str, float]:
    """`probe@8`, or nothing if fewer than two groups are large enough."""
    large = np.flatnonzero(np.bincount(groups) >= 2 * EXAMPLES)
    if len(large) < 2:
        return {}
    from sklearn.linear_model import LogisticRegression

    kept = np.isin(groups, large)
    items_ND, groups = items_ND[kept], groups[kept]
    found = []
    for draw in range(DRAWS):
        order = np.random.default_rng(draw).permutation(len(groups))
        shown = np.concatenate([order[groups[order] == group][:EXAMPLES] for group in large])
        rest = np.setdiff1d(order, shown)
        classifier = LogisticRegression(max_iter=100).fit(items_ND[shown], groups[shown])
        found.append(classifier.score(items_ND[rest], groups[rest]))
    return {f"probe@{EXAMPLES}": float(np.mean(found))}


def knn_accuracy(items_ND: FloatArray, groups: IntArray) -> float:
    """Share of items whose nearest neighbours vote for the right group; in a tie, the lower group number wins."""
    from sklearn.neighbors import KNeighborsClassifier

    classifier = KNeighborsClassifier(min(NEIGHBOURS, len(groups) - 1), algorithm="brute").fit(items_ND, groups)
    neighbours = classifier.kneighbors(return_distance=False)  # without a query, items are not their own neighbours
    votes: npt.NDArray[Any] = np.zeros((len(groups), groups.max() + 1), dtype=np.int8)
    np.add.at(votes, (np.arange(len(groups))[:, None], groups[neighbours]), 1)
    return float((votes.argmax(axis=1) == groups).mean())


def v_measure(items_ND: FloatArray, groups: IntArray) -> float:
    """Harmonic mean of homogeneity and completeness of mini-batch k-means (MTEB's clustering, one draw)."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.metrics import v_measure_score

    means = MiniBatchKMeans(int(groups.max()) + 1, batch_size=512, n_init=1, random_state=0)
    return float(v_measure_score(groups, means.fit_predict(items_ND)))


def pair_ap(items_ND: FloatArray, groups: IntArray) -> float:
    """Average precision over all pairs of items."""
    from sklearn.metrics import average_precision_score

    one, other = np.triu_indices(len(groups), k=1)
    return float(average_precision_score(groups[one] == groups[other], (items_ND @ items_ND.T)[one, other]))
