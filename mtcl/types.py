"""Values that several layers share: arrays, ragged arrays, kinds of pairs, names of checkpoints.

Shape letters used across the package: N anchors, C candidates, D dimensions, L tokens of a text, T distinct texts,
K keys, P pairs, S total of a ragged array.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.integer[Any]]
FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]
BEST, LAST = "best.ckpt", "last.ckpt"
"""Checkpoints of a run, in its folder `checkpoints/`: the best by `val/mean`, and the one to go on from."""


class Kind(StrEnum):
    """What a pair says about its two texts: decides which losses fit and how a split is evaluated."""

    POSITIVE = "positive"
    """They belong together; every unrelated text is a negative."""
    PARALLEL = "parallel"
    """They are translations of each other: as `POSITIVE`, evaluated language by language."""
    GRADED = "graded"
    """They are alike to a degree of 0 to 1."""
    BINARY = "binary"
    """They belong together (1) or not (0)."""


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
        return np.diff(self.offsets)

    def take(self, rows: IntArray) -> Ragged:
        """The given rows, in that order, copied into a new ragged array in one vectorised read."""
        starts, ends = self.offsets[rows], self.offsets[rows + 1]
        offsets = offsets_of(ends - starts)
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], ends - starts)
        return Ragged(offsets, self.values[np.repeat(starts, ends - starts) + within])

    def padded(self, width: int, fill: int) -> npt.NDArray[np.int64]:
        """(rows, width) int64 with `fill` behind each row; no row may be longer than `width`."""
        lengths = self.lengths()
        dense = np.full((len(self), width), fill, dtype=np.int64)
        dense[np.arange(width) < lengths[:, None]] = self.values
        return dense


def offsets_of(lengths: IntArray) -> npt.NDArray[np.int64]:
    """Row lengths (n,) to offsets (n + 1,)."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def group(rows: IntArray, values: IntArray, *, num_rows: int) -> Ragged:
    """Ragged array of the distinct `values` of each row, sorted, from (row, value) links in any order."""
    order = np.lexsort((values, rows))
    rows, values = rows[order], values[order]
    keep = np.ones(len(rows), dtype=bool)
    keep[1:] = (rows[1:] != rows[:-1]) | (values[1:] != values[:-1])
    return Ragged(offsets_of(np.bincount(rows[keep], minlength=num_rows)), values[keep])
