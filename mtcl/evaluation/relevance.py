"""Which candidates are right for which queries: those that share a key, as a sparse product."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from mtcl.types import IntArray, Ragged


@dataclass(frozen=True)
class Carried:
    """Which candidate carries which key: columns of the sparse matrix are the sorted distinct keys."""

    keys: IntArray
    by_candidate: csr_array


def carried_by(keys: Ragged) -> Carried:
    """`keys` has a row for each candidate."""
    distinct, columns = np.unique(keys.values, return_inverse=True)
    data = np.ones(len(columns), dtype=np.int32)
    return Carried(distinct, csr_array((data, columns, keys.offsets), shape=(len(keys), len(distinct))))


def relevant(query_keys: Ragged, carried: Carried) -> npt.NDArray[np.bool_]:
    """(N, C): whether query and candidate share a key."""
    columns = np.searchsorted(carried.keys, query_keys.values).clip(max=len(carried.keys) - 1)
    known = (carried.keys[columns] == query_keys.values).astype(np.int32)
    shape = (len(query_keys), len(carried.keys))
    queries = csr_array((known, columns, query_keys.offsets), shape=shape)
    shared: npt.NDArray[np.bool_] = (queries @ carried.by_candidate.T).toarray() > 0
    return shared


def components(keys: Ragged) -> IntArray:
    """The number of each row's component, rows being tied by shared keys."""
    carried = carried_by(keys)
    rows, columns = carried.by_candidate.nonzero()
    size = len(keys) + len(carried.keys)
    graph = csr_array((np.ones(len(rows), dtype=np.int8), (rows, len(keys) + columns)), shape=(size, size))
    found: IntArray = connected_components(graph, directed=False)[1][: len(keys)]
    return found
