"""Which rows share a key: pure functions on numpy arrays.

Two texts that share a key are never negatives of each other (`keys.py` makes the keys). Mining compares each anchor
with its nearest neighbours, and the leak check looks up single keys. Duplicates and the units of confidence intervals
are connected components of rows that share keys. The training step has its own version for tensors
(`mtcl.losses.relation`).

Letters: N rows, C candidates, K chosen candidates of a row, T distinct keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mtcl.arrays import BoolArray, IntArray, Ragged

BLOCK = 1 << 20
"""Number of keys that are read at a time, since they may be memory-mapped."""


@dataclass(frozen=True)
class Carriers:
    """The keys of C candidates: the sorted distinct keys (T,), and for each candidate its keys' positions in them."""

    keys_T: IntArray
    places: Ragged

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def num_carriers(self) -> IntArray:
        """(T,) number of candidates that have each key."""
        return np.bincount(self.places.values, minlength=len(self.keys_T))

    @cached_property
    def matrix(self) -> Any:
        """(C, T) a sparse matrix, 1 where the candidate has the key."""
        return _matrix(self.places.owners(), self.places.values, shape=(len(self), len(self.keys_T)))


def carriers_of(keys: Ragged) -> Carriers:
    """The carriers for `keys`, which has a row for each candidate."""
    distinct, places = np.unique(keys.values, return_inverse=True)
    return Carriers(distinct, Ragged(keys.offsets, places))


def shares_key(keys: Ragged, carriers: Carriers) -> BoolArray:
    """(N, C): whether row and candidate share a key."""
    rows, places = _carried(keys, carriers)
    matrix_NT = _matrix(rows, places, shape=(len(keys), len(carriers.keys_T)))
    shared_NC: BoolArray = (matrix_NT @ carriers.matrix.T).toarray() > 0
    return shared_NC


def shares_key_with(keys: Ragged, carriers: Carriers, chosen_NK: IntArray) -> BoolArray:
    """(N, K): whether a row shares a key with each of its chosen candidates; False for -1 (no candidate)."""
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
    """Upper bound on the candidates that share a key with any single row: one that shares two keys counts twice."""
    rows, places = _carried(keys, carriers)
    return int(np.bincount(rows, weights=carriers.num_carriers[places]).max(initial=0))


def occurring(keys_T: IntArray, among: IntArray, *, block: int = BLOCK) -> BoolArray:
    """(T,): which of the sorted distinct keys are in `among`. It is read in blocks and may be memory-mapped."""
    found_T = np.zeros(len(keys_T), dtype=np.bool_)
    for start in range(0, len(among), block):
        places, is_there = _find(among[start : start + block], keys_T)
        found_T[places[is_there]] = True
    return found_T


def components(keys: Ragged) -> IntArray:
    """(N,) the number of each row's connected component; rows that share a key are connected.

    Components are numbered in the order of their first rows.
    """
    carriers = carriers_of(keys)
    size = len(keys) + len(carriers.keys_T)
    return connected(keys.owners(), len(keys) + carriers.places.values, size=size)[: len(keys)]


def connected(ones: IntArray, others: IntArray, *, size: int) -> IntArray:
    """(size,) the number of each node's connected component; edge i connects `ones[i]` and `others[i]`."""
    from scipy.sparse.csgraph import connected_components

    found: IntArray = connected_components(_matrix(ones, others, shape=(size, size)), directed=False)[1]
    return found


def _carried(keys: Ragged, carriers: Carriers) -> tuple[IntArray, IntArray]:
    """For each key that some candidate has: its row, and its position among the carriers' keys."""
    places, is_there = _find(keys.values, carriers.keys_T)
    return keys.owners()[is_there], places[is_there]


def _find(keys: IntArray, keys_T: IntArray) -> tuple[IntArray, BoolArray]:
    """The position of each key among sorted distinct ones, and whether it is there at all."""
    if not len(keys_T):
        return np.zeros(len(keys), dtype=np.int64), np.zeros(len(keys), dtype=np.bool_)
    places = np.searchsorted(keys_T, keys).clip(max=len(keys_T) - 1)
    return places, keys_T[places] == keys


def _matrix(rows: IntArray, columns: IntArray, *, shape: tuple[int, int]) -> Any:
    """A sparse matrix of ones; a (row, column) that is given twice counts twice."""
    from scipy.sparse import coo_array

    return coo_array((np.ones(len(rows), dtype=np.int32), (rows, columns)), shape=shape).tocsr()
