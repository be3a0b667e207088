"""Sorting of large numbers of pairs, a part at a time: a part has the rows of a range of texts.

The results are those of sorting everything at once. Only the part being sorted needs memory for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from mtcl.arrays import IntArray, Ragged, group, offsets_of

PART = 1 << 23
"""Entries that are sorted at a time; more, if a single row has more."""


class Entries(NamedTuple):
    """Row `rows[i]` has the value `values[items[i]]`, or `values[i]` if `items` is None."""

    rows: IntArray
    values: IntArray
    items: IntArray | None = None


def grouped(entries: Sequence[Entries], *, num_rows: int) -> Ragged:
    """Each row's distinct values, sorted."""
    counts = sum((np.bincount(one.rows, minlength=num_rows) for one in entries), np.zeros(num_rows, dtype=np.int64))
    values: IntArray = np.empty(counts.sum(), dtype=np.int64)
    lengths, end = np.zeros(num_rows, dtype=np.int64), 0
    for first, last in _ranges(counts):
        rows, found = [], []
        for one in entries:
            here = _within(one.rows, first, last)
            rows.append(one.rows[here] - first)
            found.append(one.values[here if one.items is None else one.items[here]])
        part = group(np.concatenate(rows), np.concatenate(found), num_rows=last - first)
        lengths[first:last] = part.lengths()
        values[end : end + len(part.values)] = part.values
        end += len(part.values)
    return Ragged(offsets_of(lengths), values[:end])


def first_of_equals(*columns: IntArray) -> IntArray:
    """For each row, the first row with the same values in all columns. The last column has numbers from 0."""
    first_of = np.arange(len(columns[-1]))
    for first, last in _ranges(np.bincount(columns[-1])):
        here = _within(columns[-1], first, last)
        first_of[here] = here[_by_sorting(*(column[here] for column in columns))]
    return first_of


def _by_sorting(*columns: IntArray) -> IntArray:
    order = np.lexsort(columns)
    is_new = np.zeros(len(order), dtype=bool)
    is_new[:1] = True
    for column in columns:
        is_new[1:] |= np.diff(column[order]) != 0
    first_of = np.empty(len(order), dtype=np.int64)
    first_of[order] = order[is_new][np.cumsum(is_new) - 1]  # lexsort is stable: the first of equals is the earliest
    return first_of


def _ranges(counts: IntArray) -> Iterator[tuple[int, int]]:
    """Ranges of rows with about `PART` entries each; `counts` has the entries of each row."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.searchsorted(ends, np.arange(PART, total, PART))
    bounds = np.unique(np.concatenate([[0], cuts, [len(counts)]])).tolist()
    yield from pairwise(bounds)


def _within(rows: IntArray, first: int, last: int) -> IntArray:
    return np.flatnonzero((rows >= first) & (rows < last))
