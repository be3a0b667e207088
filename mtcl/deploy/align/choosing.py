"""Chooses a map on rows that it was not fitted on, and measures what is lost by not embedding all texts again.

The sample is divided into rows to fit on, to choose by, and to report on. Each row is a query that searches all other
rows of the sample. The better map is the one with which more of the target encoder's neighbours are found, by mapped
queries among the target's vectors and by the target's queries among mapped vectors.

Letters: N queries, C candidates, D dimensions, K neighbours.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mtcl.arrays import Float32Array, IntArray
from mtcl.console import markdown_table
from mtcl.deploy.align.alignment import About, Alignment, Direction, MapKind
from mtcl.deploy.align.fitting import STRENGTHS, Fit, Moments
from mtcl.deploy.align.pairs import VectorPairs
from mtcl.deploy.space import Space, unit
from mtcl.errors import ConfigError, DataError

NUM = 10
"""Neighbours that are compared."""
QUERIES = 256
"""Queries that are compared at once."""
FEWEST = 100
"""Common rows that a map needs."""
ENOUGH = 5
"""Rows to fit on for each dimension; with fewer, the report asks for more, which helped (docs/vectors.md)."""
LEAST_RECALL = 0.2
"""A map that finds a smaller share of neighbours gets a warning."""
MOST_QUERIES = 2000
MOST_CHOOSING = 500
log = logging.getLogger("mtcl")


@dataclass(frozen=True)
class Figure:
    """Queries and vectors of two spaces, and the shares of the old and the new encoder's neighbours that they find."""

    queries: str
    vectors: str
    of_old: float
    of_new: float


@dataclass(frozen=True)
class Candidate:
    """A map that was tried. `recall` is measured on the rows to report on."""

    kind: MapKind
    strength: float | None
    fit: Fit
    recall: float


@dataclass(frozen=True)
class Chosen:
    """The better map, the best of each kind, and the figures of the rows to report on."""

    alignment: Alignment
    candidates: tuple[Candidate, ...]
    figures: tuple[Figure, ...]
    num_common: int

    def text(self) -> str:
        """A report in Markdown."""
        about = self.alignment.about
        rows = [[one.queries, one.vectors, f"{one.of_old:.4f}", f"{one.of_new:.4f}"] for one in self.figures]
        head = ["queries", "vectors", f"recall@{NUM} of the old neighbours", f"recall@{NUM} of the new neighbours"]
        other = ", ".join(f"{one.kind} {one.recall:.4f}" for one in self.candidates)
        strength = "" if about.strength is None else f", strength {about.strength:g}"
        dim = self.alignment.source.dim
        more = "" if about.rows >= ENOUGH * dim else f"More than {about.rows:,} rows would make a better map.\n"
        return (
            f"map {about.direction}: {self.alignment.source} -> {self.alignment.target}\n"
            f"{self.num_common:,} common rows; fitted on {about.rows:,}, judged by {about.held_out:,} others\n\n"
            f"{markdown_table(head, rows, numbers={2, 3})}\n"
            f"use {about.kind}{strength}: with it, {about.recall:.1%} of the target encoder's {NUM} nearest are found "
            f"({other}).\n"
            f"The two encoders themselves agree on {self.figures[0].of_new:.1%} of their {NUM} nearest.\n"
            f"{more}"
        )


@dataclass(frozen=True)
class Split:
    """The rows of a sample: to fit on, to choose by, to report on."""

    fit: slice
    choose: IntArray
    judge: IntArray

    @classmethod
    def of(cls, num: int, held_out: float) -> Split:
        """Divide rows that are already in random order. Raises `ConfigError` or `DataError` if there are too few."""
        if not 0 < held_out < 1:
            raise ConfigError(f"held_out is {held_out}: give a share of the common rows, above 0 and below 1")
        if num < FEWEST:
            raise DataError(f"{num} common rows are too few for a map: embed at least {FEWEST} rows with both encoders")
        kept = num - max(2 * NUM, round(num * held_out))
        if kept < NUM:
            raise ConfigError(f"held_out is {held_out}, which leaves {max(kept, 0)} rows to fit on: give less")
        middle = kept + (num - kept) // 2
        choose, judge = np.arange(kept, middle)[:MOST_CHOOSING], np.arange(middle, num)[:MOST_QUERIES]
        return cls(slice(0, kept), choose, judge)


def choose_map(
    pairs: VectorPairs,
    spaces: tuple[Space, Space],
    *,
    direction: Direction = "new_to_old",
    kind: MapKind | None = None,
    held_out: float = 0.2,
    seed: int = 0,
) -> Chosen:
    """Fit a map and measure it.

    Args:
        pairs: Vectors of the same texts.
        spaces: The spaces of the old and the new vectors.
        direction: From the new encoder's space to the old one's, or the other way round.
        kind: Which kind to use; None for the better one.
        held_out: The share of the rows that the map is not fitted on: half to choose by, half to report on.
        seed: The seed that chose the pairs; it is recorded with the map.
    """
    split = Split.of(len(pairs), held_out)
    is_to_old = direction == "new_to_old"
    source_NS, target_NT = (pairs.new_NW, pairs.old_NO) if is_to_old else (pairs.old_NO, pairs.new_NW)
    moments = Moments.of(source_NS[split.fit], target_NT[split.fit])
    trial = _Trial(source_NS, target_NT)
    candidates = tuple(_best_of(one, moments, trial, split) for one in ("orthogonal", "linear") if kind in (None, one))
    best = max(candidates, key=lambda one: trial.recall(one.fit, split.choose))
    about = About(direction, best.kind, best.strength, split.fit.stop, len(split.judge), best.recall, seed)
    source, target = (spaces[1], spaces[0]) if is_to_old else spaces
    alignment = Alignment(
        best.fit.weight_ST.astype(np.float32), best.fit.bias_T.astype(np.float32), source, target, about
    )
    if best.recall < LEAST_RECALL:
        log.warning(
            "the map finds only %.1f %% of the target encoder's %d nearest: are rows of equal id the same text in both "
            "folders?",
            100 * best.recall,
            NUM,
        )
    figures = tuple(_figures(pairs, candidates, split.judge, is_to_old=is_to_old))
    return Chosen(alignment, candidates, figures, pairs.num_common)


def _best_of(kind: MapKind, moments: Moments, trial: _Trial, split: Split) -> Candidate:
    """The kind's best strength by the rows to choose by."""
    if kind == "orthogonal":
        fit = moments.orthogonal()
        return Candidate(kind, None, fit, trial.recall(fit, split.judge))
    fits = {strength: moments.linear(strength) for strength in STRENGTHS}
    best = max(fits, key=lambda strength: trial.recall(fits[strength], split.choose))
    return Candidate(kind, best, fits[best], trial.recall(fits[best], split.judge))


@dataclass(frozen=True)
class _Trial:
    """Vectors of the same texts in the two spaces."""

    source_NS: Float32Array
    target_NT: Float32Array

    def recall(self, fit: Fit, rows: IntArray) -> float:
        """Mean over both uses of a map: for queries, and for the vectors that are searched."""
        mapped_NT = unit(fit(self.source_NS))
        truth = nearest(self.target_NT[rows], self.target_NT, rows)
        found = [
            nearest(mapped_NT[rows], self.target_NT, rows),
            nearest(self.target_NT[rows], mapped_NT, rows),
        ]
        return float(np.mean([overlap(one, truth) for one in found]))


def _figures(
    pairs: VectorPairs, candidates: tuple[Candidate, ...], rows: IntArray, *, is_to_old: bool
) -> Iterator[Figure]:
    old, new = pairs.old_NO, pairs.new_NW
    of_old, of_new = nearest(old[rows], old, rows), nearest(new[rows], new, rows)

    def figure(queries: str, vectors: str, queries_CD: Float32Array, vectors_CD: Float32Array) -> Figure:
        found = nearest(queries_CD[rows], vectors_CD, rows)
        return Figure(queries, vectors, overlap(found, of_old), overlap(found, of_new))

    yield figure("old", "old", old, old)
    if old.shape == new.shape:
        yield figure("old", "new, not mapped", old, new)
        yield figure("new, not mapped", "old", new, old)
    for one in candidates:
        mapped = unit(one.fit(new if is_to_old else old))
        if is_to_old:
            yield figure(f"new, {one.kind} map", "old", mapped, old)
            yield figure("old", f"new, {one.kind} map", old, mapped)
        else:
            yield figure("new", f"old, {one.kind} map", new, mapped)
            yield figure(f"old, {one.kind} map", "new", mapped, new)
    yield figure("new", "new (all embedded again)", new, new)


def nearest(
    queries_ND: Float32Array, vectors_CD: Float32Array, itself_N: IntArray | None = None, num: int = NUM
) -> IntArray:
    """(N, K) the nearest candidates in no particular order, without `itself_N`, each query's own candidate."""
    num = min(num, len(vectors_CD) - (itself_N is not None))
    found_NK = np.empty((len(queries_ND), num), dtype=np.int64)
    for start in range(0, len(queries_ND), QUERIES):
        scores_NC = queries_ND[start : start + QUERIES] @ vectors_CD.T
        if itself_N is not None:
            scores_NC[np.arange(len(scores_NC)), itself_N[start : start + QUERIES]] = -np.inf
        found_NK[start : start + QUERIES] = np.argpartition(-scores_NC, num - 1, axis=1)[:, :num]
    return found_NK


def overlap(found_NK: IntArray, truth_NK: IntArray) -> float:
    """The mean share of the true neighbours that were found."""
    return float((truth_NK[:, :, None] == found_NK[:, None, :]).any(axis=2).mean())
