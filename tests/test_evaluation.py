"""Evaluation on whole pools, against figures computed by hand.

python -m pytest tests/test_evaluation.py
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mtcl import (
    MAP,
    MRR,
    NDCG,
    BitextAccuracy,
    Cluster,
    ConfigError,
    DataError,
    LabelText,
    Metric,
    Pairs,
    Parallel,
    QueryDocument,
    Rows,
    Scored,
    Spearman,
    Task,
)
from mtcl.arrays import FloatArray, IntArray
from mtcl.data.store import TokenStore, prepare
from mtcl.data.tokenizer import Tokenizer
from mtcl.encoder.config import EncoderConfig
from mtcl.errors import TaskError
from mtcl.evaluation import Pool, evaluate
from mtcl.evaluation.bitext import item_values
from mtcl.studies.statistics import Differences, bootstrap
from mtcl.task.prompt import NO_PROMPT, Prompt
from mtcl.training.module import MtclModule


def store_of(
    pairing: Pairs,
    rows: list[dict[str, Any]],
    model: Path,
    cache: Path,
    corpus: list[dict[str, Any]] | None = None,
    metric: Metric | None = None,
    prompt: Prompt = NO_PROMPT,
) -> TokenStore:
    figure = metric or MRR()

    class Toy(Task):
        """A toy."""

        name = "toy"
        data = Rows(validation=rows, corpus=corpus or [])
        pairs = pairing
        metric = figure
        sample = rows[:2]

    tokenizer = Tokenizer.load(model)
    return prepare(Toy(), "validation", root=None, tokenizer=tokenizer, max_length=16, cache=cache, prompt=prompt)


def embed_as(store: TokenStore, vectors: dict[str, list[float]]) -> Any:
    """An encoder that knows each text's vector."""
    texts = store.pairs.texts.to_pylist()

    def embed(indices: IntArray) -> Tensor:
        return F.normalize(torch.tensor([vectors[texts[i]] for i in indices]), dim=1)

    return embed


def test_labels_by_hand(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"text": "a", "label": "red"}, {"text": "b", "label": "red"}, {"text": "c", "label": "blue"}]
    store = store_of(LabelText(), rows, tiny_model, tmp_path)
    vectors = {"red": [1.0, 0.0], "blue": [0.0, 1.0], "a": [2.0, 1.0], "b": [1.0, 2.0], "c": [1.0, 3.0]}
    result = evaluate(Pool("toy", store, MRR()), embed_as(store, vectors))
    assert result.num_items == 3
    assert result.primary == pytest.approx((1 + 0.5 + 1) / 3)
    assert result.metrics["accuracy@1"] == pytest.approx(2 / 3)
    assert result.metrics["recall@10"] == 1


def test_clusters_exclude_the_query_itself(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"text": t, "cluster_id": c} for t, c in (("a", 1), ("b", 1), ("c", 1), ("d", 2), ("e", 2))]
    store = store_of(Cluster(), rows, tiny_model, tmp_path)
    vectors = {t: [float(np.cos(x)), float(np.sin(x))] for t, x in zip("abcde", (0.0, 0.1, 0.5, 0.3, 1.5), strict=True)}
    result = evaluate(Pool("toy", store, MAP()), embed_as(store, vectors))
    average = {"a": (1 + 2 / 3) / 2, "b": (1 + 2 / 3) / 2, "c": (1 / 2 + 2 / 3) / 2, "d": 1 / 4, "e": 1 / 2}
    # neighbours by angle: a: b d c; b: a d c; c: d b a; d: (b c tie) a e; e: c d
    assert result.primary == pytest.approx(sum(average.values()) / 5)


def test_corpus_is_the_pool(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"query": "q", "document": "a", "document_id": 1}]
    corpus = [{"document_id": i, "text": t} for i, t in enumerate("abcd", start=1)]
    store = store_of(QueryDocument(document_id="document_id", corpus="corpus"), rows, tiny_model, tmp_path, corpus)
    vectors = {"q": [1.0, 0.0], "a": [0.8, 0.6], "b": [1.0, 0.1], "c": [1.0, 0.2], "d": [0.0, 1.0]}
    result = evaluate(Pool("toy", store, NDCG(k=10)), embed_as(store, vectors))
    assert result.primary == pytest.approx(1 / np.log2(4))


def test_what_belongs_together_is_one_cluster_of_items(tiny_model: Path, tmp_path: Path) -> None:
    """Queries of one document and the translations of one judged pair do, posts of one label do not."""
    rows: list[dict[str, Any]]
    rows = [{"query": q, "document": d} for q, d in (("a", "red"), ("b", "red"), ("c", "blue"), ("d", "green"))]
    assert clusters_of(QueryDocument(), MRR(), rows, tiny_model, tmp_path) == [0, 0, 1, 2]
    labels = [{"text": row["query"], "label": row["document"]} for row in rows]
    assert clusters_of(LabelText(), MRR(), labels, tiny_model, tmp_path) == [0, 1, 2, 3]
    pairs = [
        {"first": f, "second": s, "score": x, "id": n}
        for f, s, x, n in (("a", "b", 0.1, 7), ("c", "d", 0.9, 8), ("e", "f", 0.2, 7), ("g", "h", 0.5, 9))
    ]
    assert clusters_of(Scored(group="id"), Spearman(), pairs, tiny_model, tmp_path) == [0, 1, 0, 2]
    assert clusters_of(Scored(), Spearman(), pairs, tiny_model, tmp_path) == [0, 1, 2, 3]


def clusters_of(pairing: Pairs, metric: Metric, rows: list[dict[str, Any]], model: Path, cache: Path) -> list[int]:
    """Each item's cluster, numbered in the order of the items."""
    store = store_of(pairing, rows, model, cache, metric=metric)
    generator = np.random.default_rng(0)
    vectors = {text: generator.normal(size=4).tolist() for text in store.pairs.texts.to_pylist()}
    found = evaluate(Pool("toy", store, metric), embed_as(store, vectors)).items.clusters.tolist()
    return [list(dict.fromkeys(found)).index(cluster) for cluster in found]


@pytest.mark.parametrize("prompt", [NO_PROMPT, Prompt("red ", "blue ")])
def test_a_query_that_is_a_document_is_a_candidate_like_any_other(
    prompt: Prompt, tiny_model: Path, tmp_path: Path
) -> None:
    """It is a hit only where it was judged; so too where it is encoded twice, with the prompt of each side."""
    rows = [{"query": "a", "document": "b"}, {"query": "b", "document": "c"}, {"query": "d", "document": "d"}]
    store = store_of(QueryDocument(), rows, tiny_model, tmp_path, prompt=prompt)
    assert len(store.tokens) == (6 if prompt.differs else 4)
    vectors = {"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [0.9, 0.4], "d": [0.8, 0.6]}
    result = evaluate(Pool("toy", store, MRR()), embed_as(store, vectors))
    scores = dict(zip(result.items.items.tolist(), result.items.scores[:, 0].tolist(), strict=True))
    found = {text: scores.get(number) for number, text in enumerate(store.pairs.texts.to_pylist()[:4])}
    # candidates b, c, d; a: c d b; b: itself d c; d: itself first
    assert found == {"a": pytest.approx(1 / 3), "b": pytest.approx(1 / 3), "d": 1.0, "c": None}


def test_blocks_change_nothing(tiny_model: Path, demo_root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mtcl.task.registry import discover

    task: Task = discover()["storyline"]
    metric: Metric = task.metric
    store = prepare(
        task, "validation", root=demo_root, tokenizer=Tokenizer.load(tiny_model), max_length=16, cache=cache
    )
    generator = torch.Generator().manual_seed(0)
    vectors = F.normalize(torch.randn(len(store.tokens), 8, generator=generator), dim=1)
    whole = evaluate(Pool("s", store, metric), lambda texts: vectors[texts])
    monkeypatch.setattr("mtcl.evaluation.ranking.BLOCK", 3)
    assert evaluate(Pool("s", store, metric), lambda texts: vectors[texts]).metrics == pytest.approx(whole.metrics)


KINDS: dict[str, tuple[Pairs, Metric]] = {
    "ranked": (QueryDocument(), NDCG(k=10)),
    "clusters": (Cluster(), MAP()),
    "bitext": (Parallel(language="lang"), BitextAccuracy(pool_size=4)),
    "graded": (Scored(), Spearman()),
}
LETTERS = "abcdefghijklmnop"
ROWS = [
    {"query": f"{x} dog", "document": f"{x} cat", "text": x, "cluster_id": n % 5, "source": x, "target": f"{x} job"}
    | {"lang": "ab"[n % 2], "first": x, "second": f"{x} cat", "score": n / 16}
    for n, x in enumerate(LETTERS)
]


@pytest.mark.parametrize("kind", KINDS)
def test_cut_vectors_are_scored_as_if_they_were_all(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    """Every figure at 3 of 8 dimensions; each text is embedded once, and figures at full length stay the same."""
    pairing, metric = KINDS[kind]
    store = store_of(pairing, ROWS, tiny_model, tmp_path, metric=metric)
    vectors_TD = torch.randn(len(store.tokens), 8, generator=torch.Generator().manual_seed(2))
    embedded: list[int] = []

    def embed(texts: IntArray, *, dim: int = 8) -> Tensor:
        embedded.extend(texts.tolist())
        return F.normalize(vectors_TD[torch.from_numpy(texts), :dim], dim=1)

    pool = Pool("toy", store, metric)
    whole, short = evaluate(pool, embed), evaluate(pool, lambda texts: embed(texts, dim=3))
    embedded.clear()
    both = evaluate(pool, embed, dims=[3])
    assert sorted(embedded) == sorted(set(embedded))
    assert both.primary == whole.primary
    assert both.metrics == pytest.approx(whole.metrics | {f"{name}_dim3": v for name, v in short.metrics.items()})
    assert any(value != short.metrics[name] for name, value in whole.metrics.items()), "else equality says nothing"


@pytest.mark.parametrize("kind", KINDS)
def test_geometry_is_as_its_authors_compute_it(
    tiny_model: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two functions of arXiv 2005.10242, figure 5; over every other text where there are too many."""

    def uniformity(x_TD: Tensor) -> float:
        return float(torch.pdist(x_TD, p=2).pow(2).mul(-2).exp().mean().log())

    pairing, metric = KINDS[kind]
    store = store_of(pairing, ROWS, tiny_model, tmp_path, metric=metric)
    vectors_TD = F.normalize(torch.randn(len(store.tokens), 8, generator=torch.Generator().manual_seed(3)), dim=1)
    pool = Pool("toy", store, metric)
    figures = evaluate(pool, lambda texts: vectors_TD[torch.from_numpy(texts)]).metrics
    used_TD = vectors_TD[torch.from_numpy(pool.texts)]
    assert figures["uniformity"] == pytest.approx(
        float(torch.pdist(used_TD).pow(2).mul(-2).exp().mean().log()), abs=1e-6
    )
    cosines = [float(x @ y) for n, x in enumerate(used_TD) for y in used_TD[:n]]
    assert figures["mean_cosine"] == pytest.approx(np.mean(cosines), abs=1e-6)
    if kind in ("ranked", "bitext"):
        first, second = (
            vectors_TD[torch.from_numpy(np.array(side))] for side in (store.pairs.anchors, store.pairs.positives)
        )
        assert figures["alignment"] == pytest.approx(float((first - second).norm(dim=1).pow(2).mean()), abs=1e-6)
    else:
        assert "alignment" not in figures
    monkeypatch.setattr("mtcl.evaluation.geometry.MOST_TEXTS", -(-len(used_TD) // 2))
    fewer = evaluate(pool, lambda texts: vectors_TD[torch.from_numpy(texts)]).metrics
    assert fewer["uniformity"] == pytest.approx(uniformity(used_TD[::2]), abs=1e-6)
    assert fewer["uniformity"] != figures["uniformity"]


def test_items_of_translations_weigh_languages_alike(tiny_model: Path, tmp_path: Path) -> None:
    """Six pairs of one language, all found, and two of another, none: the mean is a half, also over items."""
    rows = [{"source": x, "target": f"{x} job", "lang": "a" if n < 6 else "b"} for n, x in enumerate(LETTERS[:8])]
    store = store_of(Parallel(language="lang"), rows, tiny_model, tmp_path, metric=BitextAccuracy(pool_size=2))
    vectors_TD = torch.zeros(len(store.tokens), 8)
    for n, (source, target) in enumerate(zip(store.pairs.anchors, store.pairs.positives, strict=True)):
        vectors_TD[source, n] = 1
        vectors_TD[target, n if n < 6 else 13 - n] = 1  # the last two are each other's
    result = evaluate(
        Pool("toy", store, BitextAccuracy(pool_size=2)), lambda texts: vectors_TD[torch.from_numpy(texts)]
    )
    assert (result.metrics["bitext_accuracy_a"], result.metrics["bitext_accuracy_b"]) == (1, 0)
    assert result.primary == 0.5
    assert result.items.names == ("bitext_accuracy", "hit", "language")
    scores, hits, languages = result.items.scores.T
    assert scores.tolist() == [0.5] * 8, "no hit differs from the others of its language"
    assert np.array_equal(hits, languages == 0)
    assert languages.tolist() == [0.0 if pair < 6 else 1.0 for pair in result.items.items]


def test_intervals_of_translations_cover_the_truth() -> None:
    """Languages of very different size: an interval is as wide as one that resamples within each language."""
    generator = np.random.default_rng(0)
    sizes, accuracies = [40, 400, 400, 800], [0.95, 0.9, 0.92, 0.94]
    covered = np.zeros(200)
    for study in range(len(covered)):
        hits = [(generator.uniform(size=n) < p).astype(float) for n, p in zip(sizes, accuracies, strict=True)]
        values = item_values(hits)
        assert values.mean() == pytest.approx(np.mean([one.mean() for one in hits]))
        interval = bootstrap(Differences(values[None]), num_draws=500)
        covered[study] = interval.low <= np.mean(accuracies) <= interval.high
    assert 0.89 <= covered.mean() <= 0.98
    draws = [np.mean([generator.choice(one, len(one)).mean() for one in hits]) for _ in range(2000)]
    low, high = np.quantile(draws, [0.025, 0.975])
    assert interval.high - interval.low == pytest.approx(high - low, rel=0.1)
    assert item_values(hits[:1]) == pytest.approx(hits[0]), "with one language, the hits"


def test_a_language_of_a_single_pair_is_named(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    languages = [*"aaaaaa", "lone6", "lone7"]
    rows = [{"source": x, "target": f"{x} job", "lang": name} for name, x in zip(languages, LETTERS, strict=False)]
    metric = BitextAccuracy(pool_size=2)
    store = store_of(Parallel(language="lang"), rows, tiny_model, tmp_path, metric=metric)
    found = evaluate(Pool("one_pair", store, metric), lambda texts: torch.eye(16)[torch.from_numpy(texts)]).metrics
    assert "bitext_accuracy_lone6" not in found
    assert "task one_pair: of some languages the split has a single pair" in caplog.text
    assert caplog.text.endswith("they are not in its metrics: lone6, lone7\n")


@pytest.mark.parametrize("name", ["seen", "unseen", "dim8"])
def test_a_language_named_like_another_figure_is_refused(tiny_model: Path, tmp_path: Path, name: str) -> None:
    rows = [{"source": x, "target": f"{x} job", "lang": name} for x in LETTERS[:4]]
    store = store_of(Parallel(language="lang"), rows, tiny_model, tmp_path, metric=BitextAccuracy(pool_size=2))
    with pytest.raises(DataError, match=f"a language is named '{name}'.*give the language another name"):
        evaluate(Pool("toy", store, BitextAccuracy()), lambda texts: torch.eye(8)[torch.from_numpy(texts)])


def test_a_judge_of_pairs_that_raises_is_named(tiny_model: Path, tmp_path: Path) -> None:
    class Brittle(Spearman):
        def __call__(self, cosine_P: FloatArray, score_P: FloatArray) -> float:
            raise ZeroDivisionError("nothing to divide")

    store = store_of(Scored(), ROWS, tiny_model, tmp_path, metric=Spearman())
    vectors_TD = F.normalize(torch.randn(len(store.tokens), 8, generator=torch.Generator().manual_seed(3)), dim=1)
    pool = dataclasses.replace(Pool("toy", store, Spearman()), metric=Brittle())
    with pytest.raises(TaskError, match=r"metric spearman: .*test_evaluation.py:\d+: ZeroDivisionError: nothing to"):
        evaluate(pool, lambda texts: vectors_TD[torch.from_numpy(texts)])


@pytest.mark.parametrize("dim", [0, 32])
def test_no_more_dimensions_than_there_are(tiny_model: Path, dim: int) -> None:
    with pytest.raises(ConfigError, match=rf"model\.eval_dims has {dim}: give 1 to 31; the encoder has 32"):
        MtclModule(encoder=EncoderConfig(name=str(tiny_model)), eval_dims=[8, dim])


def test_each_number_of_dimensions_once(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.eval_dims has 8 twice: name each number once"):
        MtclModule(encoder=EncoderConfig(name=str(tiny_model)), eval_dims=[8, 4, 8])


def test_nothing_to_find_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"query": "q", "document": "a", "document_id": 1}]
    store = store_of(
        QueryDocument(document_id="document_id", corpus="corpus"),
        rows,
        tiny_model,
        tmp_path,
        [{"document_id": 7, "text": "b"}],
    )
    with pytest.raises(DataError, match="no query of the pool has a relevant candidate"):
        evaluate(Pool("toy", store, MRR()), embed_as(store, {"q": [1.0], "a": [1.0], "b": [1.0]}))


class Fragile(Spearman):
    name = "fragile"

    def __call__(self, cosine_P: FloatArray, score_P: FloatArray) -> float:
        raise ZeroDivisionError("nothing to divide")


def test_what_goes_wrong_in_a_metric_of_judged_pairs_is_told_with_task_and_place(
    tiny_model: Path, tmp_path: Path
) -> None:
    rows = [{"first": f, "second": s, "score": x} for f, s, x in (("a", "b", 0.1), ("c", "d", 0.9))]
    store = store_of(Scored(), rows, tiny_model, tmp_path, metric=Fragile())
    vectors = {text: [1.0, float(n)] for n, text in enumerate("abcd")}
    message = r"task 'toy', metric fragile: .*test_evaluation.py:\d+: ZeroDivisionError: nothing to divide"
    with pytest.raises(TaskError, match=message):
        evaluate(Pool("toy", store, Fragile()), embed_as(store, vectors))
