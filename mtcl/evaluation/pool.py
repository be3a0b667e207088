"""Inputs and results of an evaluation: pools, metrics, and the scores of single items, used to compare two runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from mtcl.arrays import FloatArray, IntArray
from mtcl.data.store import TokenStore
from mtcl.distributed import gather_varying, together, world
from mtcl.errors import DivergedError, TaskError, located
from mtcl.files import written_whole
from mtcl.task.kind import Kind
from mtcl.task.metrics import Metric

Embed = Callable[[IntArray], Tensor]
"""Maps text indices of a store to unit vectors (n, D), float32 on the CPU."""


@dataclass(frozen=True)
class Pool:
    """A task's split, ready for evaluation. `metric` is the task's primary metric.

    `seen_languages` are the languages of the training split, None if they are not known.
    """

    name: str
    store: TokenStore
    metric: Metric
    seen_languages: frozenset[str] | None = None

    @property
    def texts(self) -> IntArray:
        """The texts to embed, sorted."""
        table, search = self.store.pairs, self.store.pairs.search
        is_ranked = table.kind == Kind.POSITIVE
        sides = (search.queries, search.candidates) if is_ranked else (table.anchors, table.positives)
        return np.union1d(*sides)


@dataclass(frozen=True)
class Items:
    """Scores (I, M) of single items by metric name. `items` are the queries' text indices, or pair numbers. Items with
    the same value of `clusters` are not independent of each other.
    """

    items: IntArray
    clusters: IntArray
    names: tuple[str, ...]
    scores: FloatArray

    def column(self, name: str) -> FloatArray:
        """(I,) the scores of one metric."""
        return self.scores[:, self.names.index(name)]

    @property
    def languages(self) -> FloatArray:
        """(I,) the language of each item, as a number; all have the same one if the task has no languages."""
        return self.column("language") if "language" in self.names else np.zeros(len(self.items))

    def take(self, rows: IntArray) -> Items:
        return Items(self.items[rows], self.clusters[rows], self.names, self.scores[rows])

    def write(self, path: Path) -> None:
        """Write a Parquet file with the columns `item` and `cluster`, and one column per metric."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns: dict[str, npt.NDArray[Any]] = {"item": self.items, "cluster": self.clusters}
        columns |= {name: self.column(name) for name in self.names}
        with written_whole(path) as aside:
            pq.write_table(pa.table(columns), aside)


@dataclass(frozen=True)
class Result:
    """A pool's metrics by name; `primary` is the task's primary metric. `num_items` counts the scored items: queries if
    the pool is ranked, pairs otherwise.
    """

    name: str
    num_items: int
    primary: float
    metrics: dict[str, float]
    items: Items


def judge(metric: Any, *values: npt.NDArray[Any], by: str = "__call__") -> Any:
    """Call a metric's method. The metric may be a user's own class, so its errors are raised with file and line."""
    try:
        return getattr(metric, by)(*values)
    except Exception as error:
        raise TaskError(f"metric {metric.name}: {located(error, Path(inspect.getfile(type(metric))))}") from error


def primary_of(results: Mapping[str, Result]) -> dict[str, float]:
    """Primary metrics by task."""
    return {name: result.primary for name, result in results.items()}


@dataclass(frozen=True)
class PoolVectors:
    """Unit vectors (T, D) of a pool's `texts`, which are sorted indices into its store."""

    texts: IntArray
    vectors_TD: Tensor

    def of(self, texts: IntArray) -> Tensor:
        """(n, D) vectors of the given texts of the store."""
        return self.vectors_TD[torch.from_numpy(np.searchsorted(self.texts, texts))]

    def cut(self, dim: int) -> PoolVectors:
        """The first `dim` dimensions, normalised again."""
        return PoolVectors(self.texts, F.normalize(self.vectors_TD[:, :dim], dim=1))


def embed_shared(texts: IntArray, embed: Embed) -> PoolVectors:
    """Vectors of sorted distinct texts. Each text is embedded by one rank; all ranks get all vectors."""
    rank, ranks = world()
    with together():
        local_nD = embed(texts[rank::ranks])
        if not torch.isfinite(local_nD).all():
            raise DivergedError(f"embeddings are not finite: {DivergedError.advice}")
    if ranks == 1:
        return PoolVectors(texts, local_nD)
    places = np.concatenate([np.arange(rank, len(texts), ranks) for rank in range(ranks)])
    return PoolVectors(texts, gather_varying(local_nD)[torch.from_numpy(np.argsort(places))])
