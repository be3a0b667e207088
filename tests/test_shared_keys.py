"""Which rows share a key, against sets and loops.

python -m pytest tests/test_shared_keys.py
"""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mtcl.arrays import Ragged, offsets_of
from mtcl.task.pairs.shared_keys import (
    carriers_of,
    components,
    connected,
    most_sharing,
    occurring,
    shares_key,
    shares_key_with,
)

KEYS = st.sampled_from([-(2**63), -3, 1, 2, 5, 2**63 - 1])
"""Few, so that many are shared; negative ones among them, and the ends of int64."""
ROWS = st.lists(st.sets(KEYS, max_size=4), max_size=8)


def ragged(rows: list[set[int]]) -> Ragged:
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    return Ragged(offsets_of(lengths), np.array([key for row in rows for key in sorted(row)], dtype=np.int64))


def ties(rows: list[set[int]]) -> list[int]:
    """The component of each row, by merging until nothing changes, numbered by first rows."""
    found = list(range(len(rows)))
    for _ in rows:
        for i, one in enumerate(rows):
            for j, other in enumerate(rows):
                if one & other:
                    found[i] = found[j] = min(found[i], found[j])
    return [sorted(set(found)).index(number) for number in found]


@given(ROWS, ROWS)
@settings(deadline=None)
def test_every_couple(rows: list[set[int]], candidates: list[set[int]]) -> None:
    found = shares_key(ragged(rows), carriers_of(ragged(candidates)))
    assert found.shape == (len(rows), len(candidates))
    assert found.tolist() == [[bool(row & candidate) for candidate in candidates] for row in rows]


@given(ROWS, ROWS, st.integers(0, 4), st.data())
@settings(deadline=None)
def test_chosen_candidates(rows: list[set[int]], candidates: list[set[int]], width: int, data: st.DataObject) -> None:
    choice = st.lists(st.integers(-1, len(candidates) - 1), min_size=width, max_size=width)
    chosen = data.draw(st.lists(choice, min_size=len(rows), max_size=len(rows)))
    chosen_NK = np.array(chosen, dtype=np.int64).reshape(len(rows), width)
    found = shares_key_with(ragged(rows), carriers_of(ragged(candidates)), chosen_NK)
    assert found.shape == chosen_NK.shape
    assert found.tolist() == [
        [c >= 0 and bool(row & candidates[c]) for c in some] for row, some in zip(rows, chosen, strict=True)
    ]


@given(ROWS, ROWS)
@settings(deadline=None)
def test_the_bound_is_the_sum_over_a_row_s_keys(rows: list[set[int]], candidates: list[set[int]]) -> None:
    found = most_sharing(ragged(rows), carriers_of(ragged(candidates)))
    assert found == max([sum(key in c for key in row for c in candidates) for row in rows], default=0)
    assert found >= max([sum(bool(row & c) for c in candidates) for row in rows], default=0)


@given(st.sets(KEYS), st.lists(KEYS, max_size=9), st.integers(1, 4))
@settings(deadline=None)
def test_single_keys_block_by_block(keys: set[int], among: list[int], block: int) -> None:
    found = occurring(np.array(sorted(keys), dtype=np.int64), np.array(among, dtype=np.int64), block=block)
    assert found.tolist() == [key in among for key in sorted(keys)]


@given(ROWS)
@settings(deadline=None)
def test_components_are_tied_by_chains_and_numbered_by_their_first_rows(rows: list[set[int]]) -> None:
    assert components(ragged(rows)).tolist() == ties(rows)


@given(st.integers(1, 8), st.data())
@settings(deadline=None)
def test_edges_give_the_components_of_their_ends(size: int, data: st.DataObject) -> None:
    """An edge as a key that its two ends carry; edges may repeat, and lead from a node to itself."""
    node = st.integers(0, size - 1)
    edges = data.draw(st.lists(st.tuples(node, node), max_size=8))
    ones, others = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    rows = [{number for number, edge in enumerate(edges) if n in edge} for n in range(size)]
    assert connected(ones, others, size=size).tolist() == ties(rows)
