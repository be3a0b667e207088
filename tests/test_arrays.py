"""Choosing some of many items.

python -m pytest tests/test_arrays.py
"""

from __future__ import annotations

import numpy as np
import pytest

from mtcl.arrays import evenly, every_nth
from mtcl.evaluation.pool import Items


@pytest.mark.parametrize("total", [0, 1, 2, 9, 10, 11, 100])
@pytest.mark.parametrize("most", [1, 2, 10])
def test_a_sample_is_sorted_and_as_large_as_it_may_be(total: int, most: int) -> None:
    spaced, strided = evenly(total, most), every_nth(np.arange(total), most)
    assert spaced.tolist() == sorted({*spaced.tolist()})
    assert len(spaced) == min(total, most)
    assert min(total, most) / 2 <= len(strided) <= most
    for found in (spaced, strided):
        assert set(found.tolist()) <= set(range(total))
        assert not total or found[0] == 0
    assert len(set(np.diff(strided).tolist())) <= 1
    assert most == 1 or not total or spaced[-1] == total - 1


def test_columns_of_items_by_name() -> None:
    scores = np.array([[0.5, 1.0, 0.0], [0.25, 0.0, 1.0], [0.75, 1.0, 1.0]])
    items = Items(np.array([7, 8, 9]), np.array([0, 0, 1]), ("cosine", "score", "language"), scores)
    assert items.column("score").tolist() == [1, 0, 1]
    assert items.languages.tolist() == [0, 1, 1]
    some = items.take(np.array([2, 0]))
    assert (some.items.tolist(), some.clusters.tolist()) == ([9, 7], [1, 0])
    assert some.column("cosine").tolist() == [0.75, 0.5]
    assert Items(items.items, items.clusters, ("mrr",), scores[:, :1]).languages.tolist() == [0, 0, 0]
