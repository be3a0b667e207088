"""A sample of validation texts whose vectors are kept: for the drift from the start, the similarity of tasks, and the
projector.

The sample is stratified by task and, within a task of several languages, by language. It depends only on the pools, so
runs on the same data show the same points. Letters: T texts of a task, K tasks, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtcl.arrays import FloatArray, IntArray, every_nth
from mtcl.console import one_line
from mtcl.evaluation.pool import Pool
from mtcl.task.kind import Kind
from mtcl.task.pairs import PairTable

MOST_POINTS = 5000
"""The most points that TensorBoard's UMAP reads."""
COLUMNS = ("task", "label", "language", "text")
WIDTH = 80


@dataclass(frozen=True)
class Point:
    """What the projector shows for a text."""

    task: str
    label: str
    language: str
    text: str


def sample(pools: Iterable[Pool], most: int = MOST_POINTS) -> dict[str, IntArray]:
    """Text indices of each pool's store by task, at most `most` of all tasks together, in equal shares."""
    texts = {pool.name: pool for pool in pools}
    share = max(1, most // max(1, len(texts)))
    return {name: _of_pool(pool, share) for name, pool in texts.items()}


def _of_pool(pool: Pool, share: int) -> IntArray:
    languages = languages_of(pool.store.pairs, pool.texts)
    strata = [pool.texts[languages == one] for one in np.unique(languages)]
    if len(strata) > share:
        strata = strata[:share]
    each = max(1, share // len(strata))
    return np.sort(np.concatenate([every_nth(stratum, each) for stratum in strata]))


def languages_of(table: PairTable, texts: IntArray) -> IntArray:
    """(T,) the number of each text's language, -1 if it is not known: a translation has that of its pair, a judged
    text that of its first pair. The source of a translation has none.
    """
    of_text = np.full(len(table.texts), -1, dtype=np.int64)
    if table.languages is not None:
        sides = [table.positives] if table.kind is Kind.PARALLEL else [table.positives, table.anchors]
        for side in sides:
            of_text[np.asarray(side)] = np.asarray(table.languages)
    return of_text[texts]


def described(pool: Pool, texts: IntArray) -> list[Point]:
    """A point for each text. Its label is the text that belongs to it (its topic, tag or document), or its cluster."""
    table = pool.store.pairs
    strings = table.texts
    languages = languages_of(table, texts)
    anchors, positives = np.asarray(table.anchors), np.asarray(table.positives)
    first = np.full(len(table.texts), -1, dtype=np.int64)
    pairs = np.flatnonzero(anchors >= 0)[::-1]  # the first pair of an anchor is assigned last
    first[anchors[pairs]] = pairs
    found = []
    for text, language in zip(texts.tolist(), languages.tolist(), strict=True):
        pair = int(first[text])
        label = ""
        if pair >= 0 and table.kind is Kind.POSITIVE:
            of_group = table.groups is not None
            label = f"cluster {positives[pair]}" if of_group else strings[int(positives[pair])].as_py()
        name = table.language_names[language] if language >= 0 else ""
        found.append(Point(pool.name, _plain(label or "none"), _plain(name or "none"), _plain(strings[text].as_py())))
    return found


def drift(start_TD: Tensor, now_TD: Tensor) -> FloatArray:
    """(T,) 1 - cosine of each text's vector at the start and now: 0 for no movement, 1 for a right angle."""
    moved: FloatArray = (1 - (start_TD * now_TD).sum(dim=1)).double().numpy()
    return moved.clip(0.0, 2.0)


def similarity(vectors: Mapping[str, Tensor]) -> FloatArray:
    """(K, K) the mean cosine of a text of one task and a text of another; on the diagonal, of two texts of one task."""
    sums = torch.stack([of_task.double().sum(dim=0) for of_task in vectors.values()])
    counts = torch.tensor([len(of_task) for of_task in vectors.values()], dtype=torch.float64)
    own = (sums.square().sum(dim=1) - counts) / (counts * (counts - 1)).clamp(min=1)
    means_KK = (sums @ sums.T) / (counts[:, None] * counts)
    means_KK[range(len(counts)), range(len(counts))] = torch.where(counts > 1, own, torch.nan)
    found: FloatArray = means_KK.numpy()
    return found


def _plain(text: str) -> str:
    """One line without tabs, which separate the projector's columns."""
    return one_line(text, WIDTH, end="…")
