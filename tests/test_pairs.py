"""Pair constructions: what they yield, and that no related text is ever a negative.

python -m pytest tests/test_pairs.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unicodedata import category

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtcl import (
    Augmented,
    Cluster,
    DataError,
    Duplicates,
    Labelled,
    LabelText,
    Pairs,
    PairTable,
    Parallel,
    QueryDocument,
    Scored,
    Tags,
    training_only,
)
from mtcl.deploy.embed.rows import is_blank
from mtcl.losses.relation import NEGATIVE, relation
from mtcl.task.pairs.columns import BLANK, column
from mtcl.task.roles import Role

TEXTS = st.sampled_from(["red", "Red ", "blue", "green", "a b", "a  B", "c", "d", "e", "f"])
IDS = st.sampled_from(["1", "2", "3"])
Row = dict[str, Any]


def same(a: str, b: str) -> bool:
    return " ".join(a.split()).casefold() == " ".join(b.split()).casefold()


def related_query(rows: list[Row], a: str, b: str) -> bool:
    """A query and a document of one row or of one id."""
    ids = {r["id"] for r in rows if same(r["query"], a)}
    return any(r["id"] in ids and same(r["document"], b) for r in rows)


def related_label(rows: list[Row], a: str, b: str) -> bool:
    return any(same(r["text"], a) and same(r["label"], b) for r in rows)


def related_tags(rows: list[Row], a: str, b: str) -> bool:
    return any(same(r["text"], a) and any(same(t, b) for t in r["tags"]) for r in rows)


def related_cluster(rows: list[Row], a: str, b: str) -> bool:
    of = [{r["cluster"] for r in rows if r["text"] == text} for text in (a, b)]
    return bool(of[0] & of[1])


def related_duplicates(rows: list[Row], a: str, b: str) -> bool:
    """Connected by any chain of pairs."""
    reached, grew = {a}, True
    while grew:
        near = {t for r in rows for t in (r["anchor"], r["positive"]) if {r["anchor"], r["positive"]} & reached}
        grew, reached = not near <= reached, reached | near
    return b in reached


def rows_of(**columns: Any) -> st.SearchStrategy[list[Row]]:
    return st.lists(st.fixed_dictionaries(columns), min_size=2, max_size=12)


CONSTRUCTIONS: dict[str, tuple[Pairs, st.SearchStrategy[list[Row]], Callable[[list[Row], str, str], bool]]] = {
    "query_document": (
        QueryDocument(document_id="id"),
        rows_of(query=TEXTS, document=TEXTS, id=IDS),
        related_query,
    ),
    "label_text": (LabelText(), rows_of(text=TEXTS, label=TEXTS), related_label),
    "tags": (Tags(), rows_of(text=TEXTS, tags=st.lists(TEXTS, min_size=1, max_size=4)), related_tags),
    "cluster": (Cluster(cluster="cluster"), rows_of(text=TEXTS, cluster=IDS), related_cluster),
    "duplicates": (Duplicates(), rows_of(anchor=TEXTS, positive=TEXTS), related_duplicates),
}


def positives_of(table: PairTable, pair: int) -> list[int]:
    if table.groups is None:
        return [int(table.positives[pair])]
    return [int(m) for m in table.groups[int(table.positives[pair])] if m != table.anchors[pair]]


@pytest.mark.parametrize("name", CONSTRUCTIONS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_no_related_text_is_a_negative(name: str, data: st.DataObject) -> None:
    """Every anchor against every text that can be a positive, both ways: related or equal ones are never negatives."""
    construction, strategy, related = CONSTRUCTIONS[name]
    rows = data.draw(strategy)
    table = construction(pa.Table.from_pylist(rows))
    if not len(table.anchors):
        return
    texts = table.texts.to_pylist()
    keys = torch.from_numpy(table.keys.padded(int(table.keys.lengths().max()), 0))
    anchors = np.unique(table.anchors)
    candidates = np.unique([p for pair in range(len(table.anchors)) for p in positives_of(table, pair)])
    for forth, back in ((anchors, candidates), (candidates, anchors)):
        own = torch.zeros(len(forth), dtype=torch.int64)
        found = relation(keys[forth], keys[back], own)[:, 1:]
        for i, j in (found == NEGATIVE).nonzero().tolist():
            a, b = texts[forth[i]], texts[back[j + 1]]
            one, other = (a, b) if forth is anchors else (b, a)
            assert not same(a, b)
            assert not related(rows, one, other)


@pytest.mark.parametrize("name", CONSTRUCTIONS)
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_pairs_are_distinct_and_every_pair_is_real(name: str, data: st.DataObject) -> None:
    construction, strategy, related = CONSTRUCTIONS[name]
    rows = data.draw(strategy)
    table = construction(pa.Table.from_pylist(rows))
    texts = table.texts.to_pylist()
    pairs = list(zip(table.anchors.tolist(), table.positives.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    assert len(set(texts)) == len(texts)
    for pair in range(len(pairs)):
        anchor = texts[table.anchors[pair]]
        assert positives_of(table, pair)
        assert all(related(rows, anchor, texts[p]) for p in positives_of(table, pair))


def test_unrelated_texts_are_negatives() -> None:
    """The converse: keys don't leave out what is not related."""
    table = Tags()(pa.Table.from_pylist([{"text": "p", "tags": ["x", "y"]}, {"text": "q", "tags": ["z"]}]))
    texts = table.texts.to_pylist()
    keys = torch.from_numpy(table.keys.padded(int(table.keys.lengths().max()), 0))
    p, (x, z) = texts.index("p"), (texts.index("x"), texts.index("z"))
    assert relation(keys[[p]], keys[[x, z]], torch.tensor([0])).tolist() == [[1, -1]]


def test_corpus_is_searched_and_shares_ids() -> None:
    rows = pa.table({"query": ["q1", "q2"], "document": ["one", "two"], "document_id": [1, 2]})
    corpus = pa.table({"document_id": [1, 2, 3], "text": ["one, long", "two", "three"]})
    table = QueryDocument(document_id="document_id", corpus="corpus")(rows, corpus)
    texts = table.texts.to_pylist()
    assert [texts[c] for c in table.candidates] == ["one, long", "two", "three"]
    shared = set(table.keys[texts.index("q1")]) & set(table.keys[texts.index("one, long")])
    assert len(shared) == 1


def test_rows_left_out_are_counted() -> None:
    rows = pa.table({"text": ["a", None, "  ", "a", "b"], "label": ["x", "x", "x", "x", ""]})
    assert LabelText()(rows).skipped == {"null text": 1, "empty text": 1, "empty label": 1, "duplicate pair": 1}
    rows = pa.table({"text": ["a", "b", "c"], "tags": [["x", None, " "], [], None]})
    assert Tags()(rows).skipped == {"no tags": 2, "tag: null tag": 1, "tag: empty tag": 1}
    rows = pa.table({"text": ["a", "b", "c"], "cluster_id": [1, 1, 2]})
    assert Cluster()(rows).skipped == {"alone in its cluster": 1}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"txt": ["a"], "label": ["x"]}, r"no column 'text' \(columns: txt, label\); did you mean 'txt'"),
        ({"text": [1], "label": ["x"]}, "column 'text' holds int64, not text"),
    ],
)
def test_wrong_columns(columns: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        LabelText()(pa.table(columns))


def test_null_cluster_id_is_refused() -> None:
    with pytest.raises(DataError, match="1 null ids"):
        Cluster()(pa.table({"text": ["a", "b"], "cluster_id": ["1", None]}))


def test_tags_must_be_lists() -> None:
    with pytest.raises(DataError, match="a list of strings"):
        Tags()(pa.table({"text": ["a"], "tags": ["x"]}))


def test_evaluation_takes_the_defaults_of_what_only_training_uses() -> None:
    @dataclass(frozen=True)
    class Clicks(QueryDocument):
        least: int = training_only(0)

    pairs = Clicks(document="job", negatives="mined", least=3)
    assert pairs.for_evaluation() == Clicks(document="job")


TEXT_ROWS = {name: [f"{name} {n}" for n in range(4)] for name in ("query", "document", "text", "label", "first", "de")}
COLUMNS: dict[str, list[Any]] = TEXT_ROWS | {
    "id": [7, 7, 8, 9],
    "tags": [["x"], ["y", "z"], [], ["x"]],
    "score": [0, 1, 0, 1],
    "bad": ["p", None, "q", "r"],
    "worse": [["s"], [], None, ["t", "u"]],
}
EVERY: list[Pairs] = [
    Augmented(),
    Cluster(cluster="id"),
    Duplicates(anchor="query", positive="document", negatives=("bad", "worse")),
    LabelText(negatives="bad"),
    LabelText(by="both"),
    Labelled(second="query", label="score", group="id"),
    Parallel(source="query", target="document", language="label", negatives="worse"),
    Parallel(source="query", target=("document", "de"), negatives=("bad",)),
    QueryDocument(document_id="id", negatives=("bad", "worse")),
    Scored(second="query", language="label", group="id"),
    Tags(),
]


def same_table(one: PairTable, other: PairTable) -> bool:
    """Whether all arrays and texts are equal."""
    arrays = ("anchors", "positives", "queries", "candidates", "scores", "languages")
    ragged = [(name, part) for name in ("keys", "groups", "negatives") for part in ("offsets", "values")]
    pairs = [(getattr(one, name), getattr(other, name)) for name in arrays]
    pairs += [(getattr(getattr(one, n), p, None), getattr(getattr(other, n), p, None)) for n, p in ragged]
    return one.texts.equals(other.texts) and all(np.array_equal(left, right) for left, right in pairs)


@pytest.mark.parametrize("pairs", EVERY, ids=repr)
def test_a_pair_construction_reads_the_columns_that_it_names_and_no_other(pairs: Pairs) -> None:
    rows, roles = pa.table(COLUMNS), pairs.columns()
    assert roles is not None
    whole = pairs(rows)
    given = pa.table({name: column(rows, name, role) for name, role in roles.items()})
    assert same_table(pairs(given), whole)
    assert len(whole.anchors)
    for name in roles:
        with pytest.raises(DataError, match=f"no column {name!r}"):
            pairs(given.drop_columns([name]))


def test_a_corpus_has_columns_of_its_own_and_evaluation_reads_no_negatives() -> None:
    pairs = QueryDocument(document_id="id", corpus="corpus", corpus_text="body", negatives="bad")
    assert pairs.corpus_columns() == {"body": Role.TEXT, "id": Role.ID}
    assert pairs.for_evaluation().columns() == {"query": Role.TEXT, "document": Role.TEXT, "id": Role.ID}


def test_a_class_of_one_s_own_gets_all_columns_unless_it_names_them() -> None:
    @dataclass(frozen=True)
    class Same(QueryDocument):
        """Reads what its base reads."""

    @dataclass(frozen=True)
    class Clicks(QueryDocument):
        def __call__(self, rows: pa.Table, corpus: pa.Table | None = None) -> PairTable:
            return super().__call__(rows.filter(rows["clicks"]), corpus)

    @dataclass(frozen=True)
    class Declared(Clicks):
        def columns(self) -> dict[str, Role]:
            return {**QueryDocument.columns(self), "clicks": Role.ANY}

    assert Same().columns() == QueryDocument().columns()
    assert (Clicks().columns(), Clicks().corpus_columns()) == (None, None)
    assert Declared().columns() == {"query": Role.TEXT, "document": Role.TEXT, "clicks": Role.ANY}


TYPES = {Role.TEXT: pa.string(), Role.TEXTS: pa.list_(pa.string()), Role.ID: pa.string(), Role.NUMBER: pa.float64()}


@pytest.mark.parametrize(
    ("pairs", "row"),
    [
        (QueryDocument(), {"query": " ", "document": None}),
        (LabelText(), {"text": None, "label": ""}),
        (Tags(), {"text": " ", "tags": ["a"]}),
        (Tags(), {"text": "a", "tags": [" "]}),
        (Cluster(), {"text": " ", "cluster_id": "a"}),
        (Duplicates(), {"anchor": " ", "positive": " "}),
        (Parallel(), {"source": " ", "target": " "}),
        (Scored(), {"first": " ", "second": "", "score": 0.5}),
        (Labelled(), {"first": " ", "second": "", "label": 1}),
        (Augmented(), {"text": " "}),
    ],
)
def test_rows_without_any_text(pairs: Pairs, row: Row) -> None:
    """They make an empty table, whose reasons the error about it tells."""
    table = pairs(
        pa.Table.from_pylist([row, row], pa.schema([(name, TYPES[role]) for name, role in pairs.columns().items()]))
    )
    assert len(table.anchors) == 0
    assert sum(table.skipped.values()) >= 2


def test_a_text_without_anything_to_see_is_empty() -> None:
    """For anchors, positives and hard negatives; the characters do no harm within a word. As for `mtcl embed`."""
    empty = ["\u200b", " \u2060\ufeff", "\u00ad\u3000", "\x1c\x85\v\0"]
    rows = pa.table(
        {
            "query": [*empty, "dog", "cat", "b\u200bird"],
            "document": [*(["a dog"] * 4), "\u200b", "a cat", "a bird"],
            "no": [["x"], *([[]] * 4), ["\ufeff", "a fish"], []],
        }
    )
    table = QueryDocument(query="query", document="document", negatives="no")(rows)
    assert len(table.anchors) == 2
    assert table.skipped == {"empty query": 4, "empty document": 1}
    assert table.negatives is not None
    assert table.negatives.lengths().tolist() == [1, 0]
    characters = [chr(c) for c in range(sys.maxunicode) if category(chr(c)) not in ("Cn", "Cs")]
    is_empty = pc.match_substring_regex(pa.array(characters), BLANK).to_pylist()
    assert is_empty == [is_blank(one) for one in characters]
