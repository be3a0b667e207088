"""What evaluation counts as relevant is what was judged: figures equal trec_eval's and MTEB's on the judgements alone.

Collections are random and small, with equal texts under several ids, texts that are queries and documents, texts that
differ only in case, grades, missing documents and many equal cosines. trec_eval orders equal scores by document number,
from the last to the first, and mtcl by the order of the corpus, so the reference numbers documents backwards.

python -m pytest tests/test_judgements.py
"""

from __future__ import annotations

import logging
from itertools import count, product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtcl import (
    MAP,
    MRR,
    NDCG,
    Accuracy,
    BitextAccuracy,
    Cluster,
    DataError,
    Duplicates,
    LabelText,
    Links,
    Pairs,
    PairTable,
    Parallel,
    QueryDocument,
    Recall,
    Tags,
    pair_table,
)
from mtcl.arrays import IntArray, Ragged, group
from mtcl.data.store import TokenStore
from mtcl.evaluation import Pool, evaluate, evaluated_on
from mtcl.evaluation.ranks import _counted, _sorted, ranks_of
from mtcl.task.metrics import RankingMetric
from mtcl.task.pairs.log_q import LogShares
from mtcl.task.pairs.relevance import Judgements
from tests.test_evaluation import embed_as, store_of

pytrec_eval = pytest.importorskip("pytrec_eval", reason="the extra `mteb` is not installed")

NUMBERS = count()
"""Of stores in memory, as a store's problems are told once."""
Row = dict[str, Any]
Qrels = dict[str, dict[str, int]]
MEASURES = {
    "ndcg@10": "ndcg_cut_10",
    "ndcg@3": "ndcg_cut_3",
    "recall@10": "recall_10",
    "recall@3": "recall_3",
    "accuracy@1": "success_1",
    "accuracy@3": "success_3",
    "map": "map",
    "mrr": "recip_rank",
}
"""mtcl's name of each metric, and trec_eval's."""
TEXTS = ["red", "Red", "red ", "blue", "Blue", "green", "a", "b", "c", "d"]
TEXT, ID, GRADE = st.sampled_from(TEXTS), st.sampled_from(["1", "2", "3", "4", "5"]), st.integers(0, 3)
UNIT = [list(v) for v in product((-0.5, 0.5), repeat=4)] + np.eye(4).tolist() + (-np.eye(4)).tolist()
"""Vectors whose cosines are exact: multiples of 0.25."""
VECTORS = st.lists(st.sampled_from(UNIT), min_size=len(TEXTS), max_size=len(TEXTS))


def store_in_memory(table: PairTable) -> TokenStore:
    """A store as `prepare` writes it for a validation split, without tokens and files."""
    table, size = table.judged(), len(table.texts)
    assert table.relevance is not None
    return TokenStore(
        folder=Path(f"memory-{next(NUMBERS)}"),
        pairs=table,
        tokens=Ragged(np.arange(size + 1), np.arange(size)),
        identity=np.arange(size),
        sides=np.zeros(size, dtype=np.uint8),
        log_q=LogShares(np.zeros(size), np.zeros(size)),
        num_cut=0,
        num_distinct=size,
    )


def figures_of(table: PairTable, vectors: dict[str, list[float]], metric: RankingMetric) -> dict[str, float]:
    """The metrics of the table's pool by name, those that are always reported included."""
    texts = table.texts.to_pylist()

    def embed(indices: IntArray) -> torch.Tensor:
        return torch.tensor([vectors[texts[i]] for i in indices], dtype=torch.float32)

    return evaluate(Pool("toy", store_in_memory(table), metric), embed).metrics


def reference(
    queries: dict[str, str], documents: dict[str, str], qrels: Qrels, vectors: dict[str, list[float]], *, others: bool
) -> tuple[Qrels, dict[str, dict[str, float]]]:
    """qrels and run with document numbers from the last to the first; `others` leaves each query out of its ranking."""
    numbers = {name: f"{len(documents) - place:06d}" for place, name in enumerate(documents)}
    judged = {q: {numbers.get(d, f"missing {d}"): grade for d, grade in qrels[q].items()} for q in queries}
    run = {
        q: {
            numbers[d]: float(np.dot(vectors[text], vectors[content]))
            for d, content in documents.items()
            if not (others and content == text)
        }
        for q, text in queries.items()
    }
    return judged, run


def check(
    table: PairTable,
    queries: dict[str, str],
    documents: dict[str, str],
    qrels: Qrels,
    drawn: list[list[float]],
    *,
    others: bool = False,
) -> None:
    """All metrics of the table equal trec_eval's."""
    vectors = dict(zip(TEXTS, drawn, strict=True))
    judged, run = reference(queries, documents, qrels, vectors, others=others)
    if not any(d in run[q] for q in queries for d, grade in judged[q].items() if grade):
        with pytest.raises(DataError, match="no query of the pool has a relevant candidate"):
            figures_of(table, vectors, MRR())
        return
    measures = {"ndcg_cut.3,10", "recall.3,10", "success.1,3", "map", "recip_rank"}
    expected = pytrec_eval.RelevanceEvaluator(judged, measures).evaluate(run)
    assert len(expected) == len(queries)
    means = {name: np.mean([of_query[theirs] for of_query in expected.values()]) for name, theirs in MEASURES.items()}
    compared = set()
    for metric in (MAP(), NDCG(k=3), Recall(k=3), Accuracy(k=3)):
        for name, value in figures_of(table, vectors, metric).items():
            if name in means:
                assert value == pytest.approx(means[name], abs=1e-9), name
                compared.add(name)
    assert compared == set(MEASURES)


SEARCH_ROWS = st.lists(
    st.fixed_dictionaries({"query": TEXT, "query_id": ID, "document": TEXT, "document_id": ID, "grade": GRADE}),
    min_size=1,
    max_size=10,
)
CORPUS = st.lists(st.fixed_dictionaries({"document_id": ID, "text": TEXT}), min_size=1, max_size=10)


@given(SEARCH_ROWS, CORPUS, VECTORS, st.booleans(), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_search_equals_trec_eval(
    rows: list[Row],
    corpus: list[Row],
    drawn: list[list[float]],
    with_ids: bool,
    with_query_ids: bool,
    with_grades: bool,
    with_corpus: bool,
) -> None:
    """With and without ids of documents and of queries, grades, and a corpus, from which documents may be missing."""
    text_of = {row["query_id"]: row["query"] for row in reversed(rows)}
    rows = [row | {"query": text_of[row["query_id"]]} for row in rows] if with_query_ids else rows
    pairs = QueryDocument(
        document_id="document_id" if with_ids else None,
        query_id="query_id" if with_query_ids else None,
        grade="grade" if with_grades else None,
        corpus="corpus" if with_corpus else None,
    )

    def name(row: Row, text: str) -> str:
        return str(row["document_id"]) if with_ids else text

    contents = [(name(r, r["text"]), r["text"]) for r in corpus]
    contents = contents if with_corpus else [(name(r, r["document"]), r["document"]) for r in rows]
    documents = {f"{one}|{text}": text for one, text in contents}
    queries: dict[str, str] = {}
    qrels: Qrels = {}
    for row in rows:
        query, wanted = row["query_id"] if with_query_ids else row["query"], name(row, row["document"])
        queries.setdefault(query, row["query"])
        same = [d for d in documents if d.split("|")[0] == wanted] or [f"{wanted}|"]
        for document in same:
            grade = row["grade"] if with_grades else 1
            known = qrels.setdefault(query, {})
            known[document] = max(grade, known.get(document, 0))
    if not any(grade for of_query in qrels.values() for grade in of_query.values()):
        return
    table = pairs(pa.Table.from_pylist(rows), pa.Table.from_pylist(corpus) if with_corpus else None)
    check(table, queries, documents, qrels, drawn)


@given(
    st.lists(st.tuples(TEXT, st.lists(TEXT, min_size=1, max_size=4)), min_size=1, max_size=10), VECTORS, st.booleans()
)
@settings(max_examples=60, deadline=None)
def test_labels_equal_trec_eval(posts: list[tuple[str, list[str]]], drawn: list[list[float]], is_single: bool) -> None:
    """A label is its exact text, and a post that reads like a label is not relevant to it."""
    posts = [(text, tags[:1]) for text, tags in posts] if is_single else posts
    pairs: Pairs = LabelText() if is_single else Tags()
    rows = [{"text": text, "label": tags[0], "tags": tags} for text, tags in posts]
    labels = {tag: tag for _, tags in posts for tag in tags}
    qrels: Qrels = {}
    for text, tags in posts:
        qrels.setdefault(text, {}).update(dict.fromkeys(tags, 1))
    check(pairs(pa.Table.from_pylist(rows)), {text: text for text, _ in posts}, labels, qrels, drawn)


@given(st.lists(st.tuples(TEXT, ID), min_size=2, max_size=12), VECTORS)
@settings(max_examples=60, deadline=None)
def test_clusters_equal_trec_eval(members: list[tuple[str, str]], drawn: list[list[float]]) -> None:
    """A post finds the other posts of its cluster ids, and not those that differ from itself in case."""
    rows = [{"text": text, "cluster_id": cluster} for text, cluster in members]
    texts = {text: text for text, _ in members}
    together = {(a, b) for a, one in members for b, other in members if one == other and a != b}
    qrels = {text: {other: 1 for other in texts if (text, other) in together} for text in texts}
    queries = {text: text for text in texts if qrels[text]}
    if queries:
        check(Cluster()(pa.Table.from_pylist(rows)), queries, texts, qrels, drawn, others=True)


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8), VECTORS)
@settings(max_examples=60, deadline=None)
def test_duplicates_equal_trec_eval(pairs: list[tuple[str, str]], drawn: list[list[float]]) -> None:
    """The texts that a chain of pairs connects with a text are relevant to it."""
    rows = [{"anchor": a, "positive": b} for a, b in pairs]
    texts = {text: text for text in [*(a for a, _ in pairs), *(b for _, b in pairs)]}
    reached = {text: {text} for text in texts}
    for _ in texts:
        for a, b in pairs:
            reached[a] = reached[b] = reached[a] | reached[b]
            for text in reached[a]:
                reached[text] = reached[a]
    qrels = {text: {other: 1 for other in texts if other in reached[text] - {text}} for text in texts}
    queries = {a: a for a, b in pairs if a != b}
    if queries:
        check(Duplicates()(pa.Table.from_pylist(rows)), queries, texts, qrels, drawn, others=True)


@given(SEARCH_ROWS, CORPUS, VECTORS)
@settings(max_examples=20, deadline=None)
def test_search_equals_mteb(rows: list[Row], corpus: list[Row], drawn: list[list[float]]) -> None:
    """mteb's own computation from scores and judgements; its means are rounded, so those of its queries are taken."""
    from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores

    corpus = list({row["document_id"]: row for row in corpus}.values())
    documents = {row["document_id"]: row["text"] for row in corpus}
    queries = {row["query"]: row["query"] for row in rows}
    qrels: Qrels = {}
    for row in rows:
        known = qrels.setdefault(row["query"], {})
        known[row["document_id"]] = max(row["grade"], known.get(row["document_id"], 0))
    if not any(grade and d in documents for of_query in qrels.values() for d, grade in of_query.items()):
        return
    vectors = dict(zip(TEXTS, drawn, strict=True))
    judged, run = reference(queries, documents, qrels, vectors, others=False)
    found = calculate_retrieval_scores(run, judged, k_values=[3, 10])
    pairs = QueryDocument(document_id="document_id", grade="grade", corpus="corpus")
    table = pairs(pa.Table.from_pylist(rows), pa.Table.from_pylist(corpus))
    for name, metric in (("ndcg_cut_10", NDCG(k=10)), ("recall_3", Recall(k=3)), ("map_cut_10", MAP())):
        mean = np.mean([of_query[name] for of_query in found.all_scores.values()])
        assert figures_of(table, vectors, metric)[metric.name] == pytest.approx(mean, abs=1e-9)
    assert figures_of(table, vectors, MRR())["mrr"] == pytest.approx(found.mrr["MRR@10"], abs=1e-9)


FAQ = [
    ("How do I reset it?", "Open settings.", "d1"),
    ("I forgot my login", "Open settings.", "d1"),
    ("Cannot sign in", "I forgot my login", "d2"),
    ("Where are invoices?", "Under payments.", "d3"),
]


@pytest.mark.parametrize("with_ids", [True, False])
def test_an_earlier_question_among_the_answers_is_no_hit(with_ids: bool, tiny_model: Path, tmp_path: Path) -> None:
    """`I forgot my login` is judged to need `Open settings.`; that it is a document too makes it a rival, not a hit."""
    rows = [{"query": q, "document": d, "document_id": i} for q, d, i in FAQ]
    corpus = [{"text": d, "document_id": i} for d, i in dict.fromkeys((d, i) for _, d, i in FAQ)]
    pairs = QueryDocument(document_id="document_id", corpus="corpus") if with_ids else QueryDocument()
    store = store_of(pairs, rows, tiny_model, tmp_path, corpus)
    vectors = {
        "How do I reset it?": [1.0, 0.0],
        "Open settings.": [1.0, 0.2],
        "I forgot my login": [0.6, 0.8],
        "Cannot sign in": [0.5, 0.9],
        "Where are invoices?": [-1.0, 0.0],
        "Under payments.": [-1.0, 0.1],
    }
    result = evaluate(Pool("toy", store, MRR()), embed_as(store, vectors))
    assert result.items.scores[:, 0].tolist() == [1, 0.5, 1, 1]
    assert evaluated_on(Pool("toy", store, MRR())) == "4 queries"


def test_a_document_that_differs_from_a_query_in_case_is_no_hit(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"query": "java", "document": "A language.", "document_id": "lang"}]
    corpus = [{"text": "A language.", "document_id": "lang"}, {"text": "Java", "document_id": "island"}]
    store = store_of(QueryDocument(document_id="document_id", corpus="corpus"), rows, tiny_model, tmp_path, corpus)
    vectors = {"java": [1.0, 0.0], "Java": [1.0, 0.01], "A language.": [0.5, 0.5]}
    assert evaluate(Pool("toy", store, MRR()), embed_as(store, vectors)).primary == 0.5


def test_one_text_under_two_ids_is_two_documents(tiny_model: Path, tmp_path: Path) -> None:
    """Both have the same cosine, and only the judged one is relevant: the first in the corpus has the better rank."""
    rows = [{"query": "q", "document": "same", "document_id": 2}]
    corpus = [{"text": "same", "document_id": n} for n in (1, 2, 3)]
    store = store_of(QueryDocument(document_id="document_id", corpus="corpus"), rows, tiny_model, tmp_path, corpus)
    assert evaluate(Pool("toy", store, MRR()), embed_as(store, {"q": [1.0], "same": [1.0]})).primary == 0.5


def test_a_translation_is_what_the_rows_say(tiny_model: Path, tmp_path: Path) -> None:
    """`Ok` next to `ok` is a translation of another text, although both share a key."""
    rows = [{"source": "ok", "target": "bien"}, {"source": "fine", "target": "Ok"}]
    metric = BitextAccuracy(pool_size=2)
    store = store_of(Parallel(), rows, tiny_model, tmp_path, metric=metric)
    vectors = {"ok": [1.0, 0.0], "Ok": [1.0, 0.1], "bien": [0.5, 0.5], "fine": [0.5, 0.6]}
    pool = Pool("toy", store, metric)
    assert evaluate(pool, embed_as(store, vectors)).primary == 0
    assert evaluated_on(pool) == "2 pairs"


def warnings_of(pairs: Pairs, rows: list[Row], corpus: list[Row] | None, log: pytest.LogCaptureFixture) -> list[str]:
    """What evaluation warns of, once."""
    table = pairs(pa.Table.from_pylist(rows), pa.Table.from_pylist(corpus) if corpus else None)
    pool = Pool("toy", store_in_memory(table), MRR())
    with log.at_level(logging.WARNING, logger="mtcl"):
        for _ in range(2):
            evaluate(pool, lambda texts: torch.eye(len(table.texts))[torch.from_numpy(texts)])
    return log.messages


def test_documents_that_are_missing_or_have_several_texts_are_told(caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"query": q, "document": "a", "document_id": i} for q, i in (("p", 1), ("q", 7), ("p", 8))]
    corpus = [{"text": t, "document_id": i} for t, i in (("a", 1), ("b", 1), ("b", 1), ("c", 2), ("", 3))]
    pairs = QueryDocument(document_id="document_id", corpus="corpus")
    assert warnings_of(pairs, rows, corpus, caplog) == [
        "toy: 1 document ids have several texts ('1' is the first): each is a document of its own",
        "toy: 2 relevant documents are missing ('7' is the first): they count as not found, and 1 of 2 queries have no "
        "other",
    ]
    assert pairs(pa.Table.from_pylist(rows), pa.Table.from_pylist(corpus)).skipped["corpus: empty text"] == 1


def test_a_query_that_nothing_was_judged_relevant_to_lacks_no_document(caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        {"query": q, "document": "a", "document_id": i, "grade": g}
        for q, i, g in (("p", 1, 1), ("q", 7, 1), ("r", 1, 0))
    ]
    pairs = QueryDocument(document_id="document_id", grade="grade", corpus="corpus")
    assert warnings_of(pairs, rows, [{"text": "a", "document_id": 1}], caplog) == [
        "toy: 1 relevant documents are missing ('7' is the first): they count as not found, and 1 of 3 queries have no "
        "other",
        "toy: 1 of 3 queries have no relevant document: they score 0",
    ]


def test_queries_without_relevant_documents_and_conflicts_are_told(caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"query": q, "document": d, "grade": g} for q, d, g in (("p", "a", 1), ("p", "a", 2), ("q", "a", 0))]
    assert warnings_of(QueryDocument(grade="grade"), rows, None, caplog) == [
        "toy: 1 documents have several grades for one query: the highest counts",
        "toy: 1 of 2 queries have no relevant document: they score 0",
    ]


def test_wrong_ids_and_grades_are_refused() -> None:
    rows = pa.table({"query": ["a", "b"], "document": ["c", "d"], "id": [1, 1], "grade": [1.0, -2.0]})
    with pytest.raises(DataError, match="query id '1' has several texts: give each text an id of its own"):
        QueryDocument(query_id="id")(rows)
    with pytest.raises(DataError, match=r"column 'grade': 1 of 2 grades are below 0 or infinite \(the first is -2\)"):
        QueryDocument(grade="grade")(rows)


def test_grade_0_makes_no_pair_and_no_key() -> None:
    rows = pa.table({"query": ["a", "a"], "document": ["c", "d"], "id": [1, 2], "grade": [2, 0]})
    table = QueryDocument(document_id="id", grade="grade")(rows)
    whole = QueryDocument(document_id="id")(rows.slice(0, 1))
    assert (len(table.anchors), table.skipped) == (1, {"grade 0": 1})
    texts = table.texts.to_pylist()
    assert [texts[c] for c in table.candidates] == ["c", "d"]
    assert set(table.keys[texts.index("a")]) == set(whole.keys[whole.texts.to_pylist().index("a")])


def test_a_pair_construction_of_one_s_own_gives_its_judgements() -> None:
    """Without them, its pairs are the judgements: ids that only make keys are not."""
    queries, documents, ids = pa.array(["p", "q"]), pa.array(["a", "b"]), pa.array(["x", "x"])
    links = [Links(queries, ids), Links(documents, ids)]
    vectors = {"p": [1.0, 0.0], "q": [0.0, 1.0], "a": [0.0, 1.0], "b": [1.0, 0.0]}
    table = pair_table(queries, documents, links=links, candidates=documents)
    assert figures_of(table, vectors, MRR())["mrr"] == 0.5
    judgements = Judgements(links[0], links[1])
    table = pair_table(queries, documents, links=links, candidates=documents, judgements=judgements)
    assert figures_of(table, vectors, MRR())["mrr"] == 1


def test_a_metric_of_hits_counts_every_grade_above_0() -> None:
    grades, best, num = np.array([[0.0, 2.0, 1.0]]), np.array([[2.0, 1.0]]), np.array([2])
    assert MRR().of_grades(grades, best, num) == [0.5]
    gain = (2 / np.log2(3) + 1 / 2) / (2 + 1 / np.log2(3))
    assert NDCG(k=3).of_grades(grades, best, num) == pytest.approx([gain])


@pytest.mark.parametrize("pairs", [QueryDocument(), Parallel()])
def test_cosines_have_full_precision_under_autocast(pairs: Pairs, tiny_model: Path, tmp_path: Path) -> None:
    """A validation in bf16-mixed runs inside of autocast, where a product of float32 matrices is bfloat16."""
    names = pairs.columns() or {}
    rows = [dict(zip(names, texts, strict=True)) for texts in (("a", "b"), ("c", "d"), ("e", "f"))]
    metric = MRR() if isinstance(pairs, QueryDocument) else BitextAccuracy(pool_size=3)
    store = store_of(pairs, rows, tiny_model, tmp_path, metric=metric)
    angles = {"a": 0.0, "d": 0.002, "b": 0.001, "c": 1.0, "f": 1.001, "e": 2.0}
    vectors = {text: [float(np.cos(10 * x)), float(np.sin(10 * x))] for text, x in angles.items()}
    pool = Pool("toy", store, metric)
    expected = evaluate(pool, embed_as(store, vectors))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert evaluate(pool, embed_as(store, vectors)).metrics == expected.metrics


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_ranks_are_those_of_a_stable_sort(data: st.DataObject) -> None:
    rows, size = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 12))
    cosine = np.array(data.draw(cells(st.sampled_from([-np.inf, 0.0, 0.25, 0.5]), rows * size)), dtype=np.float32)
    cosine_NC = cosine.reshape(rows, size)
    is_chosen = np.array(data.draw(cells(st.booleans(), rows * size))).reshape(rows, size)
    chosen = group(*np.nonzero(is_chosen), num_rows=rows)
    order = np.argsort(-cosine_NC, axis=1, kind="stable")
    expected = (np.argsort(order, axis=1) + 1)[is_chosen]
    assert ranks_of(cosine_NC, chosen).tolist() == expected.tolist()
    own = cosine_NC[is_chosen]
    assert np.array_equal(_counted(cosine_NC, chosen, own), _sorted(cosine_NC, chosen, own))


def cells(values: st.SearchStrategy[Any], size: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=size, max_size=size)
