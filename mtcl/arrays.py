"""Arrays that several layers share: the names of their types, and ragged arrays.

Shape letters used across the package: N anchors, C candidates, D dimensions, L tokens of a text, T distinct texts,
K keys, P pairs, S total of a ragged array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.integer[Any]]
FloatArray = npt.NDArray[np.floating[Any]]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
TAKEN = 1 << 20
"""Rows of a ragged array that are copied at a time."""


@dataclass(frozen=True)
class Ragged:
    """Rows of varying length, one after the other: row i is `values[offsets[i]:offsets[i + 1]]`.

    `offsets` is (rows + 1,) int64 and starts at 0; both arrays may be memory-mapped.
    """

    offsets: IntArray
    values: IntArray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> IntArray:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def lengths(self) -> IntArray:
        """(rows,) the number of values in each row."""
        return np.diff(self.offsets)

    def owners(self) -> IntArray:
        """(values,) the row of each value."""
        return np.repeat(np.arange(len(self)), self.lengths())

    def take(self, rows: IntArray) -> Ragged:
        """The given rows in the given order, copied into a new ragged array in vectorised reads."""
        starts, ends = self.offsets[rows], self.offsets[rows + 1]
        offsets = offsets_of(ends - starts)
        values = np.empty(offsets[-1], dtype=self.values.dtype)
        for first in range(0, len(rows), TAKEN):
            some = slice(first, first + TAKEN)
            lengths, places = (ends - starts)[some], offsets[first : first + TAKEN + 1]
            within = np.arange(places[-1] - places[0]) - np.repeat(places[:-1] - places[0], lengths)
            values[places[0] : places[-1]] = self.values[np.repeat(starts[some], lengths) + within]
        return Ragged(offsets, values)

    @classmethod
    def join(cls, pieces: Sequence[Ragged]) -> Ragged:
        """The rows of all pieces, one piece after the other, as int64."""
        lengths = np.concatenate([piece.lengths() for piece in pieces])
        return cls(offsets_of(lengths), np.concatenate([piece.values.astype(np.int64) for piece in pieces]))

    def padded(self, width: int, fill: int) -> npt.NDArray[np.int64]:
        """(rows, width) int64 with `fill` after each row's values; no row may be longer than `width`."""
        lengths = self.lengths()
        dense = np.full((len(self), width), fill, dtype=np.int64)
        dense[np.arange(width) < lengths[:, None]] = self.values
        return dense


def offsets_of(lengths: IntArray) -> npt.NDArray[np.int64]:
    """Offsets (n + 1,) from row lengths (n,)."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def group(rows: IntArray, values: IntArray, *, num_rows: int) -> Ragged:
    """Ragged array of each row's distinct `values`, sorted, from (row, value) pairs in any order."""
    order = np.lexsort((values, rows))
    rows, values = rows[order], values[order]
    keep = np.ones(len(rows), dtype=bool)
    keep[1:] = (rows[1:] != rows[:-1]) | (values[1:] != values[:-1])
    return Ragged(offsets_of(np.bincount(rows[keep], minlength=num_rows)), values[keep])


def every_nth(items: IntArray, most: int) -> IntArray:
    """Every n-th item from the first on, with the smallest n that gives at most `most`."""
    return items[:: -(-len(items) // most)] if len(items) else items


def evenly(total: int, count: int) -> IntArray:
    """`count` numbers below `total` (all if there are fewer), evenly spread from the first to the last."""
    return np.unique(np.linspace(0, total - 1, min(total, count)).astype(np.int64))
