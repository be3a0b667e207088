"""Linear probe, nearest neighbours and k-means on pools whose items fall into groups.

python -m pytest tests/test_groups.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import binary_average_precision

from mtcl import MAP, MRR, Cluster, ConfigError, LabelText, QueryDocument, Tags
from mtcl.arrays import FloatArray, IntArray
from mtcl.data.store import TokenStore
from mtcl.encoder.config import EncoderConfig
from mtcl.evaluation import Pool, evaluate
from mtcl.evaluation.groups import EXAMPLES, knn_accuracy, pair_ap, probe, v_measure
from mtcl.training.module import MtclModule
from tests.test_evaluation import store_of

pytest.importorskip("sklearn", reason="needs the extra `study`")
NAMES = {"probe@8", "knn@5", "v_measure", "pair_ap"}


def items(spread: float, *, groups: int = 3, each: int = 20, dim: int = 6) -> tuple[FloatArray, IntArray]:
    """Unit vectors around a centre a group."""
    generator = np.random.default_rng(0)
    numbers = np.repeat(np.arange(groups), each)
    vectors = np.eye(dim)[numbers] + spread * generator.standard_normal((len(numbers), dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), numbers


def test_groups_apart_are_found_and_noise_is_not() -> None:
    near, groups = items(0.01)
    far, _ = items(100.0)
    for figure in (lambda x: probe(x, groups)["probe@8"], lambda x: knn_accuracy(x, groups)):
        assert figure(near) == 1
        assert 0.15 < figure(far) < 0.55
    assert v_measure(near, groups) == pytest.approx(1)
    assert v_measure(far, groups) < 0.2
    assert pair_ap(near, groups) == pytest.approx(1)
    assert pair_ap(far, groups) == pytest.approx(19 / 59, abs=0.06)


def test_neighbours_and_couples_equal_a_plain_loop() -> None:
    vectors, groups = items(0.6)
    hits = 0
    for row, group in enumerate(groups):
        others = [n for n in np.argsort(-vectors @ vectors[row]) if n != row][:5]
        hits += int(np.bincount(groups[others]).argmax() == group)
    assert knn_accuracy(vectors, groups) == pytest.approx(hits / len(groups), abs=1e-12)
    one, other = np.triu_indices(len(groups), k=1)
    cosines = torch.from_numpy((vectors[one] * vectors[other]).sum(axis=1))
    theirs = binary_average_precision(cosines, torch.from_numpy(groups[one] == groups[other]).long())
    assert pair_ap(vectors, groups) == pytest.approx(float(theirs), abs=1e-6)


def test_small_groups_are_not_probed() -> None:
    vectors, groups = items(0.1, each=2 * EXAMPLES - 1)
    assert probe(vectors, groups) == {}


def embedded(store: TokenStore, indices: IntArray) -> Tensor:
    """Posts near their label: a text `2 ...` lies around axis 2."""
    texts = store.pairs.texts.to_pylist()
    noise = torch.randn(len(texts), 6, generator=torch.Generator().manual_seed(0))
    axis = torch.tensor([int(text.split()[0]) for text in texts])
    return F.normalize(torch.eye(6)[axis] + 0.05 * noise, dim=1)[torch.from_numpy(indices)]


def test_pools_of_labels_and_of_stories_have_groups(tiny_model: Path, tmp_path: Path) -> None:
    labelled = [{"text": f"{n} post {i}", "label": f"{n} name"} for n in range(3) for i in range(20)]
    stories = [{"text": row["text"], "cluster_id": int(row["text"][0])} for row in labelled]
    for pairing, rows, metric in ((LabelText(), labelled, MRR()), (Cluster(), stories, MAP())):
        store = store_of(pairing, rows, tiny_model, tmp_path, metric=metric)
        pool = Pool("toy", store, metric)
        without = evaluate(pool, lambda texts, store=store: embedded(store, texts)).metrics
        figures = evaluate(pool, lambda texts, store=store: embedded(store, texts), groups=True).metrics
        assert figures.keys() - without.keys() == NAMES
        assert all(figures[name] == pytest.approx(1, abs=1e-3) for name in NAMES)


def test_pools_without_groups_have_no_such_figures(tiny_model: Path, tmp_path: Path) -> None:
    tagged = [{"text": f"{n} post", "tags": [f"{n} tag", f"{(n + 1) % 6} tag"]} for n in range(6)]
    queries = [{"query": f"{n} query", "document": f"{n} document", "document_id": n} for n in range(6)]
    for pairing, rows in ((Tags(), tagged), (QueryDocument(document_id="document_id"), queries)):
        store = store_of(pairing, rows, tiny_model, tmp_path)
        found = evaluate(Pool("toy", store, MRR()), lambda texts, store=store: embedded(store, texts), groups=True)
        assert not NAMES & found.metrics.keys()


@pytest.mark.parametrize("share", [0.5, 0.6, 0.9])
def test_a_frequent_label_is_a_group_like_any_other(tiny_model: Path, tmp_path: Path, share: float) -> None:
    """As in tasks of sentiment, spam and toxicity."""
    num = round(200 * share)
    rows = [{"text": f"{int(n < num)} post {n}", "label": f"{int(n < num)} name"} for n in range(200)]
    store = store_of(LabelText(), rows, tiny_model, tmp_path)
    found = evaluate(Pool("toy", store, MRR()), lambda texts: embedded(store, texts), groups=True).metrics
    assert found.keys() > NAMES
    assert all(found[name] == pytest.approx(1, abs=1e-3) for name in NAMES)


def test_posts_that_are_all_in_one_group_give_a_warning(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tagged = [{"text": f"{n} post", "tags": [f"{n} tag", f"{(n + 1) % 6} tag"]} for n in range(6)]
    labelled = [{"text": f"0 post {n}", "label": "0 name"} for n in range(6)]
    labelled += [{"text": "1 post", "label": "1 name"}]
    for name, pairing, rows in (("tagged", Tags(), tagged), ("labelled", LabelText(), labelled)):
        store = store_of(pairing, rows, tiny_model, tmp_path)
        for _ in range(2):
            found = evaluate(Pool(name, store, MRR()), lambda texts, store=store: embedded(store, texts), groups=True)
            assert not NAMES & found.metrics.keys()
    warnings = [record.message for record in caplog.records if "metrics of groups" in record.message]
    assert warnings == [
        "task tagged has no metrics of groups (eval_groups): 6 of its 6 posts are in one group, because posts with "
        "several labels connect those",
        "task labelled has no metrics of groups (eval_groups): 6 of its 7 posts are in one group, and no other has two",
    ]


def test_a_missing_library_is_named(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtcl.evaluation.groups.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"eval_groups needs scikit-learn: pip install 'mtcl\[study\]'"):
        MtclModule(encoder=EncoderConfig(name=str(tiny_model)), eval_groups=True)
