"""Pairs with fewer hard negatives than `hard_negatives` asks for: the empty places count nowhere.

python -m pytest tests/test_empty_places.py
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtcl import ConfigError, QueryDocument
from mtcl.arrays import Ragged
from mtcl.data.batch import EMPTY_PLACE
from mtcl.data.plan import Plan, PlanTask
from mtcl.data.rows import TaskData, draw_negatives
from mtcl.data.steps import StepDataset
from mtcl.data.tokenizer import Tokenizer
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder
from mtcl.losses import InfoNCE, Loss, PairBCE, View
from mtcl.losses.gather import gather_views
from tests.test_kinds import store_of
from tests.test_loss_menu import POSITIVE
from tests.views import random_view, side_of, unit

QUERIES = ["red dog", "blue cat", "green bird", "a job"]
POSITIVES = ["post one news", "post one news", "query three", "job four"]
NEGATIVES = [["post one news", "a b c"], ["cat cat", "dog dog"], ["QUERY three"], []]
ROWS = [{"query": q, "document": p, "neg": n} for q, p, n in zip(QUERIES, POSITIVES, NEGATIVES, strict=True)]
GIVEN = ["post one news", "a b c", "cat cat", "dog dog", "QUERY three"]
EMPTY = [3, 5, 8, 9, 10]
"""Empty places of 6 pairs with 2 places each: pair 4 has no hard negative at all."""


def with_empty(view: View, vectors: torch.Tensor | None = None) -> View:
    """The view with some empty places, which hold `vectors` if given."""
    assert view.negatives is not None
    rows = view.negatives.local
    keys, held = rows.keys_NK.clone(), rows.vectors_ND if vectors is None else rows.vectors_ND.clone()
    keys[EMPTY] = EMPTY_PLACE
    if vectors is not None:
        held[EMPTY] = vectors
    return replace(view, negatives=side_of(held, keys, rows.teacher_NE))


def without(view: View) -> View:
    """The view without the rows of the empty places."""
    assert view.negatives is not None
    rows, kept = view.negatives.local, [n for n in range(12) if n not in EMPTY]
    assert rows.teacher_NE is not None
    return replace(view, negatives=side_of(rows.vectors_ND[kept], rows.keys_NK[kept], rows.teacher_NE[kept]))


@pytest.mark.parametrize("make", POSITIVE.values(), ids=POSITIVE)
def test_an_empty_place_is_as_if_it_were_not_there(make: Callable[[], Loss]) -> None:
    """In every loss: the value and all gradients, whatever vector is in the place."""
    loss, view = make().double(), random_view(hard=2)
    expected = loss(without(view))
    for vectors in (None, unit(len(EMPTY), 8, seed=99)):
        assert float(loss(with_empty(view, vectors)).detach()) == pytest.approx(float(expected.detach()), abs=1e-12)
    leaves = [view.anchors.local.vectors_ND, view.positives.local.vectors_ND, view.negatives.local.vectors_ND]  # type: ignore[union-attr]
    found, wanted = (
        torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
        for value in (loss(with_empty(view)), expected)
    )
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize("make", POSITIVE.values(), ids=POSITIVE)
def test_a_batch_of_empty_places_is_one_without_hard_negatives(make: Callable[[], Loss]) -> None:
    loss, view = make().double(), random_view(hard=2)
    assert view.negatives is not None
    rows = view.negatives.local
    empty = replace(
        view, negatives=side_of(rows.vectors_ND, torch.full_like(rows.keys_NK, EMPTY_PLACE), rows.teacher_NE)
    )
    value = loss(empty)
    if getattr(loss, "in_batch", True):
        assert float(value.detach()) == pytest.approx(float(loss(replace(view, negatives=None)).detach()), abs=1e-12)
    torch.autograd.backward(value)
    assert all(side.local.vectors_ND.grad.isfinite().all() for side in (view.anchors, view.positives))  # type: ignore[union-attr]


def test_the_loss_of_a_step_is_that_of_the_negatives_given(tiny_model: Path, tmp_path: Path) -> None:
    """By hand, as in FlagEmbedding issue 945: four positives and five hard negatives."""
    store = store_of(QueryDocument(negatives="neg"), ROWS, tiny_model, tmp_path)
    batch = StepDataset(Plan((PlanTask("toy", 4, 4),)), [TaskData(store, num_negatives=2)])[0]
    encoder = Encoder.load(EncoderConfig(name=str(tiny_model), dropout=0.0)).eval()
    tokenizer = Tokenizer.load(tiny_model)
    texts = sorted({*QUERIES, *POSITIVES, *GIVEN})
    with torch.no_grad():
        found = encoder.embed(tokenizer(texts, 24), tokens_per_chunk=96)
        (view,) = gather_views(batch.parts, encoder(batch.texts))
    vectors = dict(zip(texts, torch.as_tensor(found).double(), strict=True))
    assert view.negatives is not None
    assert int((view.negatives.all.keys_NK[:, 0] == EMPTY_PLACE).sum()) == 3
    candidates = POSITIVES + GIVEN
    total = 0.0
    for query, positive in zip(QUERIES, POSITIVES, strict=True):
        own = float(vectors[query] @ vectors[positive]) / 0.05
        others = [text for text in candidates if text.casefold() != positive.casefold()]
        total += (
            math.log(math.exp(own) + sum(math.exp(float(vectors[query] @ vectors[c]) / 0.05) for c in others)) - own
        )
    assert float(InfoNCE()(view)) == pytest.approx(total / 4 / math.log(len(candidates)), abs=1e-5)


def test_drawn_negatives_say_which_places_are_empty() -> None:
    negatives = Ragged(np.array([0, 2, 3, 3]), np.array([7, 8, 9]))
    pairs, positives = np.array([0, 1, 2, 0]), np.array([1, 2, 3, 1])
    bits = np.arange(4, dtype=np.uint64)
    texts, is_empty = draw_negatives(negatives, pairs, positives, count=3, bits=bits)
    assert is_empty.reshape(4, 3).tolist() == [
        [False, False, True],
        [False, True, True],
        [True] * 3,
        [False, False, True],
    ]
    assert [set(row) for row in texts.reshape(4, 3).tolist()] == [{7, 8, 1}, {9, 2}, {3}, {7, 8, 1}]


@pytest.mark.parametrize("loss", [InfoNCE(), PairBCE()], ids=["info_nce", "pair_bce"])
@pytest.mark.parametrize("flat", [False, True])
def test_tensors_say_how_many_negatives_each_pair_has(loss: Loss, flat: bool) -> None:
    anchors, positives, negatives = unit(6, 8, seed=1), unit(6, 8, seed=2), unit(6, 2, 8, seed=3)
    counts = torch.tensor([2, 1, 0, 2, 2, 1])
    other = negatives.clone()
    other[1, 1], other[2], other[5, 1] = 1.0, 5.0, -1.0
    given, changed = ((x.flatten(0, 1) if flat else x) for x in (negatives, other))
    found = loss(anchors, positives, negatives=given, num_negatives=counts)
    assert float(loss(anchors, positives, negatives=changed, num_negatives=counts).detach()) == float(found.detach())
    assert float(loss(anchors, positives, negatives=changed).detach()) != float(found.detach())
    none = loss(anchors, positives, negatives=given, num_negatives=torch.zeros(6, dtype=torch.int64))
    assert float(none.detach()) == pytest.approx(float(loss(anchors, positives).detach()), abs=1e-12)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"num_negatives": torch.tensor([1, 2])}, r"num_negatives is given without negatives"),
        ({"num_negatives": torch.tensor([1]), "negatives": unit(2, 2, 8)}, r"int64 \(1,\): give integers \(2,\)"),
        ({"num_negatives": torch.tensor([1.0, 2]), "negatives": unit(2, 2, 8)}, r"float32 \(2,\): give integers"),
        ({"num_negatives": torch.tensor([1, 3]), "negatives": unit(2, 2, 8)}, "from 1 to 3: give 0 to 2"),
    ],
)
def test_numbers_of_negatives_that_do_not_fit(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        InfoNCE()(unit(2, 8), unit(2, 8, seed=1), **given)
