"""A table of pairs as arrays and plain values, and back.

python -m pytest tests/test_stored_pairs.py
"""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mtcl import PairTable
from mtcl.arrays import Ragged
from mtcl.task.kind import Kind
from mtcl.task.pairs.relevance import Relevance
from mtcl.task.pairs.stored import arrays_of, facts_of, table_of


def ragged(*rows: list[int]) -> Ragged:
    return Ragged(np.cumsum([0, *map(len, rows)]), np.concatenate(rows).astype(np.int64))


FULL = PairTable(
    texts=pa.array(["a", "b", "c"], pa.large_string()),
    anchors=np.array([0, 1]),
    positives=np.array([0, 1]),
    keys=ragged([1], [2, 3], [4]),
    queries=np.array([0, 0]),
    candidates=np.array([2, 1]),
    kind=Kind.PARALLEL,
    groups=ragged([0, 1], [1, 2]),
    negatives=ragged([2], []),
    scores=np.array([0.5, 1.0], dtype=np.float32),
    languages=np.array([1, 0]),
    language_names=("en", "es"),
    exclude_self=True,
    tied=True,
    symmetric=True,
    skipped={"duplicate pair": 2},
    relevance=Relevance(
        np.array([0, 0]), np.array([2, 1]), ragged([7], [8]), ragged([7], [8]), np.array([1.0, 2.0]), ("a problem",)
    ),
)
"""A table in which nothing is missing."""


def plain(value: Any) -> Any:
    """A column or fact as values that can be compared."""
    if isinstance(value, Ragged):
        return [value[row].tolist() for row in range(len(value))]
    if isinstance(value, Relevance):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    return value.to_pylist() if isinstance(value, pa.Array) else value.tolist() if hasattr(value, "tolist") else value


def stored(table: PairTable) -> PairTable:
    """As a token store writes and reads it."""
    facts = json.loads(json.dumps(facts_of(table)))
    return table_of(table.texts, dict(arrays_of(table)), facts, symmetric=table.symmetric)


@pytest.mark.parametrize("name", [one.name for one in fields(PairTable)])
def test_nothing_is_lost(name: str) -> None:
    default = replace(FULL, **{name: None}) if name in ("groups", "negatives", "scores", "languages") else FULL
    for table in (FULL, default):
        assert plain(getattr(stored(table), name)) == plain(getattr(table, name))
    assert plain(getattr(FULL, name)) not in (None, False, (), {}), "a new column needs a value in this test"


def test_judgements_and_grades_may_be_missing() -> None:
    assert stored(replace(FULL, relevance=None)).relevance is None
    assert FULL.relevance is not None
    found = stored(replace(FULL, relevance=replace(FULL.relevance, grades=None))).relevance
    assert found is not None
    assert found.grades is None


def test_the_queries_of_judgements_are_stored() -> None:
    """They may be fewer or more than the table's own, which evaluation doesn't use then."""
    found = stored(replace(FULL, queries=np.array([1]), candidates=np.array([0])))
    assert (found.queries.tolist(), found.candidates.tolist()) == ([0, 0], [2, 1])


def test_indices_have_32_bits() -> None:
    arrays = dict(arrays_of(FULL))
    for name in ("anchors", "positives", "queries", "candidates", "languages", "groups_values", "negatives_values"):
        assert arrays[name].dtype == np.int32, name
    assert arrays["keys_values"].dtype == arrays["wanted_values"].dtype == np.int64


def test_fewer_pairs() -> None:
    found = FULL.take(np.array([1]))
    assert (found.anchors.tolist(), found.positives.tolist(), found.languages.tolist()) == ([1], [1], [0])  # type: ignore[union-attr]
    assert found.negatives is None, "the second pair has none"
    assert FULL.take(np.array([0])).negatives.lengths().tolist() == [1]  # type: ignore[union-attr]
    assert found.keys is FULL.keys
