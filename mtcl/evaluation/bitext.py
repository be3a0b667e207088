"""Searches for translations in both directions, in pools of one size, so that languages of any size are comparable.

The right answers for a text are the texts it is paired with, in any row of the split; equal texts are the same answer.
Of equal cosines the first counts, as in MTEB.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch

from mtcl.arrays import FloatArray, IntArray
from mtcl.errors import DataError
from mtcl.evaluation.pool import Items, Pool, PoolVectors, Result
from mtcl.task.metrics import BitextAccuracy
from mtcl.task.pairs import PairTable

log = logging.getLogger("mtcl")
MEANS = re.compile(r"seen|unseen|dim\d+")
"""What follows a metric's name for a mean of several languages, or for cut vectors."""
HIT = "hit"
"""The column of the items with their hits: 0, a half or 1."""
SEED = 0
"""Seed of the shuffle that assigns pairs to pools, so that every run has the same pools."""


def evaluate(pool: Pool, vectors: PoolVectors) -> Result:
    """Top-1 accuracy: the macro mean over languages, each language's own, and the means of seen and unseen languages.

    The items have their hits, and values that studies compare (`item_values`).
    """
    table, metric = pool.store.pairs, pool.metric
    assert isinstance(metric, BitextAccuracy)
    languages = _pairs_by_language(table)
    if taken := [name for name in languages if MEANS.fullmatch(name)]:
        raise DataError(
            f"task {pool.name!r}: a language is named {taken[0]!r}, as {metric.name}_{taken[0]} is another figure: "
            "give the language another name"
        )
    if alone := tuple(name for name, pairs in languages.items() if len(pairs) < 2):
        _warn_of_single(pool.name, alone)
    pairs_P = np.unique(_codes(table, np.asarray(table.anchors), np.asarray(table.positives)))
    by_language: dict[str, FloatArray] = {}
    kept: list[IntArray] = []
    for name, pairs in languages.items():
        pools = _pools(pairs, metric.pool_size)
        if pools:
            by_language[name] = np.concatenate([_hits(p, vectors, table, pairs_P) for p in pools])
            kept += pools
    if not kept:
        raise DataError(f"task {pool.name!r}: no language of the pool has 2 pairs")
    items = np.concatenate(kept)
    means = {name: float(hits.mean()) for name, hits in by_language.items()}
    figures = {metric.name: float(np.mean(list(means.values())))}
    figures |= {f"{metric.name}_{name}": value for name, value in means.items()}
    for name, some in _seen_and_unseen(pool, means).items():
        figures[f"{metric.name}_{name}"] = float(np.mean([means[language] for language in some]))
    hits = list(by_language.values())
    columns = {metric.name: item_values(hits), HIT: np.concatenate(hits)}
    if table.languages is not None:
        columns["language"] = np.asarray(table.languages)[items].astype(np.float64)
    single = Items(items, np.asarray(table.anchors)[items], tuple(columns), np.stack(list(columns.values()), axis=1))
    return Result(pool.name, len(items), figures[metric.name], figures, single)


def item_values(hits_of_language: Sequence[FloatArray]) -> FloatArray:
    """(I,) values of all items, language by language, whose mean is the mean over languages of the hits' means.

        value = mean over languages + (hit - mean of its language) * items / languages / items of its language

    They vary as the hits vary within their languages. Without the centring, resampled items would also vary in how many
    of them each language has, and intervals of the mean would be several times too wide.
    """
    mean = float(np.mean([hits.mean() for hits in hits_of_language]))
    per_language = sum(map(len, hits_of_language)) / len(hits_of_language)
    return np.concatenate([mean + (hits - hits.mean()) * per_language / len(hits) for hits in hits_of_language])


@cache
def _warn_of_single(task: str, languages: tuple[str, ...]) -> None:
    """Once for each task."""
    log.warning(
        "task %s: of some languages the split has a single pair, with nothing to tell it from, so they are not in its "
        "metrics: %s",
        task,
        ", ".join(languages),
    )


def num_scored(table: PairTable, pool_size: int) -> int:
    """The number of pairs that are in some pool."""
    return sum(len(pool) for pairs in _pairs_by_language(table).values() for pool in _pools(pairs, pool_size))


def _pairs_by_language(table: PairTable) -> dict[str, IntArray]:
    if table.languages is None:
        return {"all": np.arange(len(table.anchors))}
    return {name: np.flatnonzero(table.languages == number) for number, name in enumerate(table.language_names)}


def _pools(pairs: IntArray, size: int) -> list[IntArray]:
    """Full pools. Left-over pairs are not used, unless there are too few for a full pool."""
    shuffled = np.random.default_rng(SEED).permutation(pairs)
    if len(shuffled) < size:
        return [shuffled] if len(shuffled) > 1 else []
    return list(shuffled[: len(shuffled) // size * size].reshape(-1, size))


def _codes(table: PairTable, anchors: IntArray, positives: IntArray) -> IntArray:
    """A number for each pair of texts."""
    codes: IntArray = anchors.astype(np.int64) * len(table.texts) + positives
    return codes


def _hits(pairs: IntArray, vectors: PoolVectors, table: PairTable, pairs_P: IntArray) -> FloatArray:
    """The mean of both directions for each pair: 1 if the nearest text is a translation. `pairs_P` are all pairs."""
    sides = [np.asarray(side)[pairs] for side in (table.anchors, table.positives)]
    first_ND, second_ND = (vectors.of(side) for side in sides)
    cosine_NN = first_ND @ second_ND.T
    right_NN = torch.from_numpy(np.isin(_codes(table, sides[0][:, None], sides[1]), pairs_P))
    forth = right_NN.gather(1, cosine_NN.argmax(dim=1, keepdim=True))[:, 0]
    back = right_NN.T.gather(1, cosine_NN.T.argmax(dim=1, keepdim=True))[:, 0]
    hits: FloatArray = ((forth.double() + back.double()) / 2).numpy()
    return hits


def _seen_and_unseen(pool: Pool, means: dict[str, float]) -> dict[str, list[str]]:
    if pool.seen_languages is None:
        return {}
    groups = {
        "seen": [name for name in means if name in pool.seen_languages],
        "unseen": [name for name in means if name not in pool.seen_languages],
    }
    return {name: languages for name, languages in groups.items() if languages}
