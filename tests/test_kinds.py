"""Pair constructions beyond positives: judged, parallel, augmented; hard negatives, examples of a label, caps.

python -m pytest tests/test_kinds.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mtcl import (
    MRR,
    Augmented,
    AveragePrecision,
    BitextAccuracy,
    Cluster,
    DataError,
    Duplicates,
    Labelled,
    LabelText,
    Pairs,
    PairTable,
    Parallel,
    QueryDocument,
    Rows,
    Scored,
    Spearman,
    Tags,
    Task,
    TaskError,
)
from mtcl.data.batch import EMPTY_PLACE
from mtcl.data.plan import Plan, PlanTask
from mtcl.data.rows import AS_KEY, TaskData
from mtcl.data.steps import StepDataset
from mtcl.data.store import TokenStore, prepare
from mtcl.data.tokenizer import Tokenizer
from mtcl.task.kind import Kind
from mtcl.task.pairs.log_q import log_shares

TRANSLATIONS = [{"source": s, "target": f"{s} {lang}", "lang": lang} for s in "abc" for lang in ("de", "fr")]
JUDGED = [{"first": "a", "second": "b", "score": 0.2}, {"first": "c", "second": "d", "score": 1.0}]


def table_of(pairs: Pairs, rows: list[dict[str, Any]]) -> PairTable:
    return pairs(pa.Table.from_pylist(rows))


def store_of(pairing: Pairs, rows: list[dict[str, Any]], model: Path, cache: Path, split: str = "train") -> TokenStore:
    best = {Kind.GRADED: Spearman(), Kind.BINARY: AveragePrecision(), Kind.PARALLEL: BitextAccuracy()}

    class Toy(Task):
        """A toy."""

        name = "toy"
        data = Rows(train=rows, validation=rows)
        pairs = pairing
        metric = best.get(pairing.kind, MRR())
        sample = rows[:2]

    return prepare(Toy(), split, root=None, tokenizer=Tokenizer.load(model), max_length=16, cache=cache)


def texts_in(table: PairTable | TokenStore, indices: Any) -> list[str]:
    texts = table.pairs.texts if isinstance(table, TokenStore) else table.texts
    return [texts[int(i)].as_py() for i in indices]


def test_scores_are_scaled_and_kept_with_their_pairs() -> None:
    table = table_of(
        Scored(high=5.0), [{"first": "a", "second": "b", "score": 5}, {"first": "c", "second": "d", "score": 1}]
    )
    assert table.kind is Kind.GRADED
    assert table.scores is not None
    assert table.scores.tolist() == pytest.approx([1.0, 0.2])


@pytest.mark.parametrize(
    ("pairs", "column", "value", "message"),
    [
        (Scored(), "score", 1.5, "1 of 2 scores are outside of 0 to 1 (the first is 1.5)"),
        (Scored(), "score", None, "column 'score' has no number in 1 rows"),
        (
            Labelled(label="score"),
            "score",
            0.5,
            "labels are neither 0 nor 1 (the first is 0.5): for degrees use Scored",
        ),
        (Scored(), "score", "high", "column 'score' holds"),
    ],
)
def test_bad_scores_are_refused(pairs: Pairs, column: str, value: Any, message: str) -> None:
    columns = {"first": ["a", "c"], "second": ["b", "d"], column: [value, value if isinstance(value, str) else 1.0]}
    with pytest.raises(DataError) as error:
        pairs(pa.table(columns))
    assert message in str(error.value)


def test_translations_of_one_text_are_related_and_languages_are_kept() -> None:
    table = table_of(Parallel(language="lang"), TRANSLATIONS)
    assert table.language_names == ("de", "fr")
    assert table.languages is not None
    assert table.languages.tolist() == [0, 1] * 3
    keys = {text: set(table.keys[i]) for i, text in enumerate(table.texts.to_pylist())}
    assert keys["a de"] & keys["a fr"]
    assert not keys["a de"] & keys["b fr"]


def test_many_way_rows_are_the_same_pairs() -> None:
    rows = [{"source": s, "de": f"{s} de", "fr": f"{s} fr" if s != "c" else None} for s in "abc"]
    table = table_of(Parallel(target=("de", "fr")), rows)
    assert table.language_names == ("de", "fr")
    assert len(table.anchors) == 5
    assert table.skipped == {"null fr": 1}, "what is left out is said, as with a row a language"
    with pytest.raises(DataError, match="no row has a translation in 'it'"):
        table_of(Parallel(target=("de", "it")), [row | {"it": None} for row in rows])


@pytest.mark.parametrize("source", ["target", "language", "text"])
def test_a_wide_table_may_have_columns_of_any_name(source: str) -> None:
    rows = [{source: "hello", "de": "hallo", "fr": "salut"}, {source: "thanks", "de": "danke", "fr": "merci"}]
    table = table_of(Parallel(source=source, target=("de", "fr")), rows)
    texts = table.texts.to_pylist()
    pairs = [(texts[a], texts[p]) for a, p in zip(table.anchors, table.positives, strict=True)]
    assert pairs == [("hello", "hallo"), ("thanks", "danke"), ("hello", "salut"), ("thanks", "merci")]
    assert [table.language_names[one] for one in table.languages] == ["de", "de", "fr", "fr"]


def test_what_a_wide_table_has_no_use_for_is_refused() -> None:
    with pytest.raises(TaskError, match="leave language out"):
        Parallel(target=("de", "fr"), language="lang")
    with pytest.raises(TaskError, match="name at least one column"):
        Parallel(target=())


def test_metric_must_fit_the_kind() -> None:
    with pytest.raises(TaskError, match=r"metric mrr does not fit graded pairs: Spearman"):
        type(
            "T",
            (Task,),
            {"__doc__": "A toy.", "name": "t", "data": Rows(), "pairs": Scored(), "metric": MRR(), "sample": JUDGED},
        )


WITH_NEGATIVES: list[tuple[Pairs, dict[str, str]]] = [
    (QueryDocument(negatives=("n", "more")), {"query": "q", "document": "d"}),
    (LabelText(negatives=("n", "more")), {"text": "q", "label": "d"}),
    (Duplicates(negatives=("n", "more")), {"anchor": "q", "positive": "d"}),
    (Parallel(negatives=("n", "more")), {"source": "q", "target": "d"}),
]


@pytest.mark.parametrize(("pairs", "columns"), WITH_NEGATIVES, ids=lambda v: type(v).__name__)
def test_hard_negatives_stay_with_their_pair(
    pairs: Pairs, columns: dict[str, str], tiny_model: Path, tmp_path: Path
) -> None:
    """A column of texts and one of lists; none is drawn twice, and the place of a missing one is empty."""
    rows = [
        {**{name: f"{value} {n}" for name, value in columns.items()}, "n": f"x {n}", "more": [f"y {n}"] * (n % 2)}
        for n in range(6)
    ]
    store = store_of(pairs, rows, tiny_model, tmp_path)
    data = StepDataset(Plan((PlanTask("toy", 6, 3),)), [TaskData(store, num_negatives=2)])
    for step in range(4):
        (part,) = data[step].parts
        draw = data.plan.draws(step)[0]
        assert len(part.columns[2].texts_N) == 6
        for row, pair in enumerate(draw.pairs):
            hard = part.columns[2].keys_NK[2 * row : 2 * row + 2, -1].tolist()
            texts = texts_in(store, store.pairs.negatives[pair] if store.pairs.negatives else [])
            assert set(texts) == {f"x {pair}", *([f"y {pair}"] if pair % 2 else [])}
            own = list(store.pairs.negatives[pair] if store.pairs.negatives else [])
            expected = (store.identity[own] + AS_KEY).tolist() + [EMPTY_PLACE] * (2 - len(own))
            assert sorted(hard) == sorted(expected)


def test_evaluation_needs_no_negatives(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"query": "q", "document": "d"}, {"query": "r", "document": "e"}]
    assert store_of(QueryDocument(negatives="mined"), rows, tiny_model, tmp_path, "validation").pairs.negatives is None
    with pytest.raises(DataError, match="no column 'mined'"):
        store_of(QueryDocument(negatives="mined"), rows, tiny_model, tmp_path)


def test_a_text_with_itself_is_encoded_twice(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"text": f"red dog {c}"} for c in "abcdef"]
    store = store_of(Augmented(), rows, tiny_model, tmp_path)
    batch = StepDataset(Plan((PlanTask("toy", 6, 4),)), [TaskData(store)])[0]
    anchors, positives = batch.parts[0].columns
    assert not set(anchors.texts_N.tolist()) & set(positives.texts_N.tolist())
    assert len(batch.texts.place_T) == 8
    assert texts_in(store, store.pairs.queries) == ["red dog"]


@pytest.mark.parametrize("pairs", [LabelText(label="x"), Tags(tags="x")])
@pytest.mark.parametrize("by", ["example", "both"])
def test_examples_of_a_label(pairs: Any, by: str) -> None:
    pairs = type(pairs)(**{**vars(pairs), "by": by})
    labels = ["red", "red", "blue", "blue", "green"]
    values: list[Any] = labels if isinstance(pairs, LabelText) else [[label] for label in labels]
    table = table_of(pairs, [{"text": t, "x": v} for t, v in zip("abcde", values, strict=True)])
    assert table.groups is not None
    found = {
        (texts_in(table, [a])[0], *texts_in(table, [m for m in table.groups[p] if m != a]))
        for a, p in zip(table.anchors, table.positives, strict=True)
    }
    examples = {("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")}
    texts = set(zip("abcde", labels, strict=True))
    assert found == (examples | texts if by == "both" else examples)
    assert set(texts_in(table, table.candidates)) == {"red", "blue", "green"}


def test_a_large_cluster_gives_only_so_many_pairs(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"text": f"a {n}", "cluster_id": "large"} for n in range(20)] + [
        {"text": f"b {n}", "cluster_id": "small"} for n in range(3)
    ]
    store = store_of(Cluster(max_pairs=4), rows, tiny_model, tmp_path)
    assert len(store) == 7
    data = StepDataset(Plan((PlanTask("toy", 7, 7),)), [TaskData(store)])
    met: set[int] = set()
    for step in range(40):
        anchors, positives = data[step].parts[0].columns
        own = anchors.keys_NK, positives.keys_NK
        assert all(set(a.tolist()) & set(p.tolist()) - {0} for a, p in zip(*own, strict=True))
        met |= set(own[0][:, -2].tolist())
    assert len(met) == 23
    assert len(store_of(Cluster(max_pairs=4), rows, tiny_model, tmp_path, "validation").pairs.queries) == 23


@pytest.mark.parametrize(
    ("pairs", "rows"),
    [
        (LabelText(), [{"text": t, "label": label} for t, label in zip("abcdef", "xxxxyz", strict=True)]),
        (Cluster(), [{"text": t, "cluster_id": c} for t, c in zip("abcdef", [1, 1, 1, 1, 2, 2], strict=True)]),
        (
            Cluster(max_pairs=2),
            [{"text": t, "cluster_id": c} for t, c in zip("abcdef", [1, 1, 1, 1, 2, 2], strict=True)],
        ),
    ],
)
def test_shares_are_those_of_the_draws(
    pairs: Pairs, rows: list[dict[str, Any]], tiny_model: Path, tmp_path: Path
) -> None:
    """How often each text is drawn over many epochs, against the exact figure that the logQ correction uses."""
    store = store_of(pairs, rows, tiny_model, tmp_path)
    data = StepDataset(Plan((PlanTask("toy", len(store), len(store)),)), [TaskData(store)])
    counts = np.zeros((2, len(store.tokens)))
    epochs = 600
    for step in range(epochs):
        drawn = data.rows(data.plan.draws(step)[0])
        for role, texts in enumerate(drawn.texts):
            np.add.at(counts[role], texts, 1)
    for role, log_q in enumerate((store.log_q.anchor, store.log_q.positive)):
        happened = counts[role] > 0
        np.testing.assert_allclose(counts[role][happened] / epochs / len(store), np.exp(log_q[happened]), atol=0.03)
    table = table_of(pairs, rows)
    assert np.array_equal(log_shares(table).positive, store.log_q.positive)


def test_rows_of_one_pair_bring_all_their_negatives() -> None:
    """As MS MARCO comes: a row for each negative."""
    rows = [{"query": "q", "document": "d", "n": n} for n in (None, "x", "y")] + [
        {"query": "r", "document": "e", "n": None}
    ]
    table = table_of(QueryDocument(negatives="n"), rows)
    assert table.negatives is not None
    assert [texts_in(table, table.negatives[pair]) for pair in range(2)] == [["x", "y"], []]


def test_one_post_a_label_can_be_evaluated(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"text": "a", "label": "red"}, {"text": "b", "label": "blue"}]
    assert len(store_of(LabelText(by="example"), rows, tiny_model, tmp_path, "validation").pairs.queries) == 2


def test_a_couple_with_two_scores_is_told() -> None:
    """One of them has to give way; which one is no secret."""
    rows = [{"first": "a", "second": "b", "score": x} for x in (0.0, 0.0, 1.0)]
    table = table_of(Scored(), rows)
    assert table.scores is not None
    assert table.scores.tolist() == [0.0]
    assert table.skipped == {"duplicate pair": 1, "duplicate pair with another score": 1}
