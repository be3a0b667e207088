"""Which rows share a key: pure functions on plain arrays, for every part of mtcl that asks on the host.

Two texts that share a key are never negatives of each other (`keys.py` makes the keys). Evaluation asks about every
query and candidate, mining about each anchor and its nearest neighbours, leaks about single keys; duplicates and the
units of an interval are the components that shared keys tie together. In a training step the same question is put to
tensors (`mtcl.losses.relation`).

Letters: N rows, C candidates, K chosen candidates of a row, T distinct keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mtcl.types import BoolArray, IntArray, Ragged

BLOCK = 1 << 20
"""Keys that are read at a time where they may be memory-mapped."""


@dataclass(frozen=True)
class Carriers:
    """Which of C candidates carries which key: the sorted distinct keys (T,), and per candidate their places there."""

    keys_T: IntArray
    places: Ragged

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def num_carriers(self) -> IntArray:
        """(T,) candidates that carry each key."""
        return np.bincount(self.places.values, minlength=len(self.keys_T))

    @cached_property
    def matrix(self) -> Any:
        """(C, T) a sparse matrix, 1 where the candidate carries the key."""
        return _matrix(_owners(self.places), self.places.values, shape=(len(self), len(self.keys_T)))


def carriers_of(keys: Ragged) -> Carriers:
    """`keys` has a row for each candidate."""
    distinct, places = np.unique(keys.values, return_inverse=True)
    return Carriers(distinct, Ragged(keys.offsets, places))


def shares_key(keys: Ragged, carriers: Carriers) -> BoolArray:
    """(N, C): whether row and candidate share a key."""
    rows, places = _carried(keys, carriers)
    matrix_NT = _matrix(rows, places, shape=(len(keys), len(carriers.keys_T)))
    shared_NC: BoolArray = (matrix_NT @ carriers.matrix.T).toarray() > 0
    return shared_NC


def shares_key_with(keys: Ragged, carriers: Carriers, chosen_NK: IntArray) -> BoolArray:
    """(N, K): whether a row shares a key with the candidates that are chosen for it. A choice of -1 is none: False."""
    rows, places = _carried(keys, carriers)
    chosen = np.flatnonzero(chosen_NK.ravel() >= 0)
    theirs = carriers.places.take(chosen_NK.ravel()[chosen])
    cells = np.repeat(chosen, theirs.lengths())
    num_keys = len(carriers.keys_T)
    is_common = np.isin(cells // max(1, chosen_NK.shape[1]) * num_keys + theirs.values, rows * num_keys + places)
    shared = np.zeros(chosen_NK.size, dtype=np.bool_)
    shared[cells[is_common]] = True
    return shared.reshape(chosen_NK.shape)


def most_sharing(keys: Ragged, carriers: Carriers) -> int:
    """An upper bound of the candidates that share a key with any one row: one that shares two counts twice."""
    rows, places = _carried(keys, carriers)
    return int(np.bincount(rows, weights=carriers.num_carriers[places]).max(initial=0))


def occurring(keys_T: IntArray, among: IntArray, *, block: int = BLOCK) -> BoolArray:
    """(T,): which of the sorted distinct keys are in `among`, which is read in blocks and may be memory-mapped."""
    found_T = np.zeros(len(keys_T), dtype=np.bool_)
    for start in range(0, len(among), block):
        places, is_there = _find(among[start : start + block], keys_T)
        found_T[places[is_there]] = True
    return found_T


def components(keys: Ragged) -> IntArray:
    """(N,) the number of each row's component: rows that share a key are in one, and so is what a chain of them ties.

    Components are numbered in the order of their first rows.
    """
    carriers = carriers_of(keys)
    size = len(keys) + len(carriers.keys_T)
    return connected(_owners(keys), len(keys) + carriers.places.values, size=size)[: len(keys)]


def connected(ones: IntArray, others: IntArray, *, size: int) -> IntArray:
    """(size,) the number of each node's component, where an edge leads from `ones[i]` to `others[i]`."""
    from scipy.sparse.csgraph import connected_components

    found: IntArray = connected_components(_matrix(ones, others, shape=(size, size)), directed=False)[1]
    return found


def _carried(keys: Ragged, carriers: Carriers) -> tuple[IntArray, IntArray]:
    """Row and place among the carriers' keys of each key that some candidate carries."""
    places, is_there = _find(keys.values, carriers.keys_T)
    return _owners(keys)[is_there], places[is_there]


def _find(keys: IntArray, keys_T: IntArray) -> tuple[IntArray, BoolArray]:
    """Where each key is among sorted distinct ones, and whether it is there at all."""
    if not len(keys_T):
        return np.zeros(len(keys), dtype=np.int64), np.zeros(len(keys), dtype=np.bool_)
    places = np.searchsorted(keys_T, keys).clip(max=len(keys_T) - 1)
    return places, keys_T[places] == keys


def _owners(keys: Ragged) -> IntArray:
    """The row of each value."""
    return np.repeat(np.arange(len(keys)), keys.lengths())


def _matrix(rows: IntArray, columns: IntArray, *, shape: tuple[int, int]) -> Any:
    """A sparse matrix of ones; a couple that is given twice counts twice."""
    from scipy.sparse import coo_array

    return coo_array((np.ones(len(rows), dtype=np.int32), (rows, columns)), shape=shape).tocsr()
