"""Evaluation on whole pools, against figures computed by hand.

python -m pytest tests/test_evaluation.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mtcl import MAP, MRR, NDCG, Cluster, DataError, LabelText, Metric, Pairs, QueryDocument, Rows, Task
from mtcl.evaluation import Pool, evaluate
from mtcl.store import Tokenizer, TokenStore, prepare
from mtcl.types import Ragged


def store_of(
    pairing: Pairs, rows: list[dict[str, Any]], model: Path, cache: Path, corpus: list[dict[str, Any]] | None = None
) -> TokenStore:
    class Toy(Task):
        """A toy."""

        name = "toy"
        data = Rows(validation=rows, corpus=corpus or [])
        pairs = pairing
        metric = MRR()
        sample = rows[:2]

    return prepare(Toy(), "validation", root=None, tokenizer=Tokenizer.load(model), max_length=16, cache=cache)


def embed_as(store: TokenStore, vectors: dict[str, list[float]]) -> Any:
    """An encoder that knows each text's vector."""
    texts = store.texts().to_pylist()
    by_tokens = {tuple(store.tokens[i].tolist()): vectors[text] for i, text in enumerate(texts)}

    def embed(tokens: Ragged) -> Tensor:
        return F.normalize(torch.tensor([by_tokens[tuple(tokens[i].tolist())] for i in range(len(tokens))]), dim=1)

    return embed


def test_labels_by_hand(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"text": "a", "label": "red"}, {"text": "b", "label": "red"}, {"text": "c", "label": "blue"}]
    store = store_of(LabelText(), rows, tiny_model, tmp_path)
    vectors = {"red": [1.0, 0.0], "blue": [0.0, 1.0], "a": [2.0, 1.0], "b": [1.0, 2.0], "c": [1.0, 3.0]}
    result = evaluate(Pool("toy", store, MRR()), embed_as(store, vectors))
    assert result.num_queries == 3
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


def test_blocks_change_nothing(tiny_model: Path, demo_root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mtcl.registry import discover

    task: Task = discover()["storyline"]
    metric: Metric = task.metric
    store = prepare(
        task, "validation", root=demo_root, tokenizer=Tokenizer.load(tiny_model), max_length=16, cache=cache
    )
    generator = torch.Generator().manual_seed(0)
    vectors = F.normalize(torch.randn(len(store.tokens), 8, generator=generator), dim=1)
    whole = evaluate(Pool("s", store, metric), lambda tokens: vectors)
    monkeypatch.setattr("mtcl.evaluation.BLOCK", 3)
    assert evaluate(Pool("s", store, metric), lambda tokens: vectors).metrics == pytest.approx(whole.metrics)


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
