"""A loss alone, on plain tensors: equal to the loss of a `View`, with keys in each form, and errors in one line.

python -m pytest tests/test_losses_alone.py
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mtcl.errors import ConfigError
from mtcl.losses import (
    CoSENT,
    DistillKL,
    InfoNCE,
    Loss,
    MarginMSE,
    Matryoshka,
    PairBCE,
    SpreadOut,
    TeacherMSE,
    View,
    WeightedSum,
    view_of,
)
from mtcl.losses.relation import relation
from tests.test_loss_menu import CASES, IDS, st_losses
from tests.views import random_view, side_of, unit


def raw(*shape: int, seed: int) -> Tensor:
    """Vectors of all lengths."""
    return (unit(*shape, seed=seed) * torch.linspace(0.2, 3.0, shape[0])[:, None]).requires_grad_()


def with_log_q(view: View, log_q: list[Tensor]) -> View:
    sides = [view.anchors, view.positives, *([view.negatives] if view.negatives else [])]
    rows = [replace(side.local, log_q_N=x) for side, x in zip(sides, log_q, strict=True)]
    made = [replace(side, local=r, all=r) for side, r in zip(sides, rows, strict=True)]
    return replace(view, anchors=made[0], positives=made[1], negatives=made[2] if made[2:] else None)


@pytest.mark.parametrize(("name", "make", "options"), CASES, ids=IDS)
def test_equals_the_loss_of_a_view(name: str, make: Callable[[], Loss], options: dict[str, Any]) -> None:
    """Value and gradients, of vectors that are not of unit length and of groups of related rows."""
    loss, hard = make().double(), options.get("hard", 0)
    keys = torch.tensor([5, 5, 6, 7, 7, 8])
    view = random_view(keys=torch.stack([keys, torch.arange(10, 16)], dim=1), **options)
    rows = [side.local for side in (view.anchors, view.positives, view.negatives) if side is not None]
    vectors = [raw(*row.vectors_ND.shape, seed=20 + n) for n, row in enumerate(rows)]
    log_q = [-1 - torch.rand(len(row), dtype=torch.float64) for row in rows]
    sides = [side_of(F.normalize(x, dim=1), r.keys_NK, r.teacher_NE) for x, r in zip(vectors, rows, strict=True)]
    expected = loss(with_log_q(View(*sides[:2], view.own_N, *sides[2:], scores_C=view.scores_C), log_q))
    teacher = tuple(row.teacher_NE for row in rows) if loss.teacher else None
    negatives = {"negatives": vectors[2].view(6, hard, -1)} if hard else {}
    log_q_given = (log_q[0], log_q[1], *(x.view(6, hard) for x in log_q[2:]))
    if teacher and hard:
        teacher = (*teacher[:2], teacher[2].view(6, hard, -1))
    found = loss(*vectors[:2], keys=keys, scores=options.get("scores"), teacher=teacher, log_q=log_q_given, **negatives)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    learned = [*vectors, *loss.parameters()]
    gradients = [torch.autograd.grad(value, learned, allow_unused=True) for value in (found, expected)]
    torch.testing.assert_close(*gradients, atol=1e-10, rtol=0)


def test_info_nce_is_that_of_sentence_transformers() -> None:
    anchors, positives = unit(8, 16, seed=1), unit(8, 16, seed=2)
    theirs = st_losses().MultipleNegativesRankingLoss(model=torch.nn.Identity(), scale=20.0)
    expected = theirs.compute_loss_from_embeddings([anchors, positives], None)
    assert float(InfoNCE()(anchors, positives)) * math.log(8) == pytest.approx(float(expected), abs=1e-6)


def test_info_nce_by_closed_form() -> None:
    anchors, positives, negatives = (unit(5, 16, seed=n) for n in (1, 2, 3))
    logits = anchors @ torch.cat([positives, negatives]).T / 0.05
    expected = F.cross_entropy(logits, torch.arange(5)) / math.log(10)
    assert float(InfoNCE()(anchors * 3, positives / 7, negatives=negatives)) == pytest.approx(float(expected), abs=1e-6)


def relations(view: View) -> list[list[int]]:
    return relation(view.anchors.local.keys_NK, view.positives.local.keys_NK, view.own_N).tolist()


VECTORS = torch.eye(3)
GROUPED = [[1, 0, -1], [0, 1, -1], [-1, -1, 1]]
KEYS: dict[str, tuple[Any, list[list[int]]]] = {
    "none": (None, [[1, -1, -1], [-1, 1, -1], [-1, -1, 1]]),
    "one per text": (torch.tensor([4, 4, 2]), GROUPED),
    "a label 0": (torch.tensor([0, 0, 1]), GROUPED),
    "int32": (torch.tensor([0, 0, 1], dtype=torch.int32), GROUPED),
    "several, padded": (torch.tensor([[1, 2], [2, 3], [0, 0]]), GROUPED),
    "padding is no key": (torch.tensor([[1, 0], [2, 0], [3, 0]]), [[1, -1, -1], [-1, 1, -1], [-1, -1, 1]]),
    "by side": ((torch.tensor([[1], [2], [3]]), torch.tensor([3, 1, 9])), [[1, 0, -1], [-1, 1, -1], [0, -1, 1]]),
    "one side": ((None, torch.tensor([1, 1, 1])), [[1, -1, -1], [-1, 1, -1], [-1, -1, 1]]),
}


@pytest.mark.parametrize(("keys", "expected"), KEYS.values(), ids=KEYS)
def test_keys_in_each_form(keys: Any, expected: list[list[int]]) -> None:
    assert relations(view_of(VECTORS, VECTORS, keys=keys)) == expected


@pytest.mark.parametrize("flat", [False, True])
def test_keys_of_hard_negatives(flat: bool) -> None:
    """The second hard negative of the first anchor shares a key with the third."""
    negatives, keys = torch.randn(3, 2, 4), torch.tensor([[10, 3], [12, 13], [14, 15]])
    if flat:
        negatives, keys = negatives.flatten(0, 1), keys.flatten()
    anchors = torch.randn(3, 4)
    view = view_of(anchors, anchors, negatives=negatives, keys=(torch.tensor([1, 2, 3]), None, keys))
    assert view.negatives is not None
    found = relation(view.anchors.local.keys_NK, view.negatives.local.keys_NK, None)
    assert found.tolist() == [[-1] * 6, [-1] * 6, [-1, 0, -1, -1, -1, -1]]
    unrelated = view_of(anchors, anchors, negatives=negatives, keys=torch.tensor([1, 2, 3]))
    assert unrelated.negatives is not None
    found = relation(unrelated.anchors.local.keys_NK, unrelated.negatives.local.keys_NK, None)
    assert found.tolist() == [[-1] * 6] * 3


def test_an_anchor_without_keys_is_no_negative_of_itself() -> None:
    """`same_side` compares anchors with each other; a row of padding has its pair's own key all the same."""
    texts = torch.eye(4)
    for keys in (None, torch.zeros(4, 2, dtype=torch.int64), (None, torch.arange(4))):
        assert float(InfoNCE(same_side=True)(texts, texts, keys=keys)) < 1e-6


def test_frequency_is_asked_for_where_it_counts() -> None:
    anchors, positives = unit(4, 8, seed=1), unit(4, 8, seed=2)
    with pytest.raises(ConfigError, match="correct_frequency needs how often each candidate is drawn: give log_q="):
        InfoNCE(correct_frequency=True)(anchors, positives)
    log_q = torch.tensor([0.7, 0.1, 0.1, 0.1]).log()
    expected = F.cross_entropy(anchors @ positives.T / 0.05 - log_q, torch.arange(4)) / math.log(4)
    found = InfoNCE(correct_frequency=True)(anchors, positives, log_q=log_q)
    assert float(found) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("name", "make", "options"), CASES, ids=IDS)
def test_any_precision(dtype: torch.dtype, name: str, make: Callable[[], Loss], options: dict[str, Any]) -> None:
    """Vectors are rounded, and nothing else is: what follows is computed in float32 at least."""
    loss, hard = make(), options.get("hard", 0)
    vectors = [raw(n, 8, seed=n).detach().to(dtype).requires_grad_() for n in (6, 6, 6 * hard) if n]
    teacher = [unit(len(x), 8, seed=40 + n) for n, x in enumerate(vectors)] if loss.teacher else None
    given = {"scores": options.get("scores"), "log_q": torch.linspace(-3, -1, 6), "teacher": teacher}
    if hard:
        given |= {"log_q": (given["log_q"], given["log_q"], torch.zeros(6 * hard)), "negatives": vectors[2]}
    found = loss(*vectors[:2], **given)
    assert found.dtype in (torch.float32, torch.float64)
    if hard:
        given["negatives"] = vectors[2].double()
    expected = loss.double()(*(x.double() for x in vectors[:2]), **given)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), abs=2e-5, rel=2e-5)
    found.backward()
    assert all(x.grad is not None and x.grad.dtype == dtype and x.grad.isfinite().all() for x in vectors[:2])


def test_precisions_may_differ_between_sides() -> None:
    anchors, positives = unit(4, 8, seed=1), unit(4, 8, seed=2)
    teacher = (anchors.float(), positives)
    expected = float(DistillKL().double()(anchors, positives, teacher=(teacher[0].double(), positives)))
    assert float(DistillKL()(anchors, positives.float().double(), teacher=teacher)) == pytest.approx(expected, rel=1e-5)
    assert float(InfoNCE()(anchors.float(), positives)) == pytest.approx(float(InfoNCE()(anchors, positives)), rel=1e-5)


def test_a_loop_of_your_own_learns() -> None:
    """Embeddings and temperature move, and the temperature stays within its bounds."""
    anchors, positives = raw(8, 4, seed=1), raw(8, 4, seed=2).detach()
    loss = InfoNCE(learn_temperature=True, temperature=0.05)
    optimizer = torch.optim.SGD([anchors, *loss.parameters()], lr=1.0)
    values = []
    for _ in range(20):
        value = loss(anchors, positives)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        loss.keep_in_bounds()
        values.append(float(value.detach()))
        assert 0.0049 < float(loss.temperature.detach()) < 1.0001
    assert values[-1] < values[0] / 4


A, B = torch.randn(4, 8), torch.randn(5, 8)
TAUGHT = (torch.randn(4, 16), torch.randn(4, 16))
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "rows": (lambda: InfoNCE()(A, B), r"anchors are \(4, 8\) and positives \(5, 8\): give two tensors \(N, D\)"),
    "a row": (lambda: InfoNCE()(A[0], A[0]), r"anchors are \(8,\) and positives \(8,\)"),
    "no rows": (lambda: InfoNCE()(A[:0], A[:0]), r"anchors are \(0, 8\)"),
    "one side": (lambda: InfoNCE()(A), "positives are None: give a tensor of floating point"),
    "integers": (lambda: InfoNCE()(A.long(), A), r"anchors are int64 \(4, 8\): give a tensor of floating point"),
    "an array": (lambda: InfoNCE()(A.numpy(), A), "anchors are of type ndarray"),
    "negatives": (
        lambda: InfoNCE()(A, A, negatives=B),
        r"negatives are \(5, 8\) and anchors \(4, 8\): give \(4, H, 8\) or \(4 \* H, 8\)",
    ),
    "dims of negatives": (lambda: InfoNCE()(A, A, negatives=A[:, :4]), r"negatives are \(4, 4\)"),
    "keys": (
        lambda: InfoNCE()(A, A, keys=torch.ones(5).long()),
        r"keys of anchors are \(5,\): give \(4,\) or \(4, K\)",
    ),
    "keys of a side": (
        lambda: InfoNCE()(A, A, keys=(None, torch.ones(4, 1, 1).long())),
        r"keys of positives are \(4, 1, 1\)",
    ),
    "float keys": (lambda: InfoNCE()(A, A, keys=torch.ones(4)), r"keys of anchors are float32 \(4,\): give integers"),
    "a list of keys": (
        lambda: InfoNCE()(A, A, keys=[1, 2, 3, 4]),
        "keys has an entry of type int: give a tuple with one tensor each for",
    ),
    "three of two": (
        lambda: InfoNCE()(A, A, keys=(None, None, None)),
        "keys has 3 entries.* for anchors and positives",
    ),
    "scores": (lambda: CoSENT()(A, A, scores=torch.ones(4, 1)), r"scores are float32 \(4, 1\): give a tensor \(4,\)"),
    "range": (lambda: CoSENT()(A, A, scores=torch.tensor([0.0, 5, 2, 3])), "scores range from 0 to 5: give 0 to 1"),
    "a NaN": (lambda: CoSENT()(A, A, scores=torch.tensor([0, math.nan, 1, 1])), "give 0 to 1"),
    "no scores": (lambda: CoSENT()(A, A), "CoSENT is for judged pairs: give scores="),
    "idle scores": (lambda: InfoNCE()(A, A, scores=torch.ones(4)), "InfoNCE is not for judged pairs"),
    "both": (lambda: PairBCE()(A, A, scores=torch.ones(4), negatives=A), "scores and negatives are both given"),
    "no teacher": (lambda: MarginMSE()(A, A), "a teacher's vectors of anchors: give teacher="),
    "half a teacher": (lambda: DistillKL()(A, A, teacher=(A, None)), "a teacher's vectors of all candidates"),
    "a teacher's half": (lambda: TeacherMSE()(A, A, teacher=(A, None)), "a teacher's vectors of positives"),
    "no guide": (lambda: InfoNCE(guide="base")(A, A), "a teacher's vectors of anchors"),
    "idle teacher": (lambda: InfoNCE()(A, A, teacher=TAUGHT), "InfoNCE uses no teacher: leave out teacher="),
    "dims of a teacher": (
        lambda: TeacherMSE()(A, A, teacher=TAUGHT),
        "the teacher has 16 dimensions, the embeddings 8",
    ),
    "rows of a teacher": (lambda: DistillKL()(A, A, teacher=(A, B)), r"teacher of positives is float32 \(5, 8\)"),
    "two sizes of a teacher": (lambda: DistillKL()(A, A, teacher=(A, A[:, :4])), "teacher has vectors of 4 and 8 dim"),
    "one teacher": (lambda: DistillKL()(A, A, teacher=A), r"teacher is a tensor \(4, 8\): give a tuple"),
    "log_q": (lambda: InfoNCE()(A, A, log_q=torch.ones(5)), r"log_q of anchors is \(5,\): give \(4,\)"),
    "dims": (lambda: Matryoshka(InfoNCE(), [16])(A, A), "give less than the embedding's 8"),
    "dims, one twice": (lambda: Matryoshka(InfoNCE(), [4, 8, 4]), r"dims \[4, 8, 4\]: name each size once"),
    "dims, none": (lambda: Matryoshka(InfoNCE(), []), r"dims \[\] and weight 0.5: give sizes"),
    "dims, zero": (lambda: Matryoshka(InfoNCE(), [4, 0]), r"dims \[4, 0\] and weight 0.5: give sizes"),
    "weight, not a number": (lambda: Matryoshka(InfoNCE(), [4], weight=float("nan")), "weight nan: give sizes and a"),
    "weight, infinite": (lambda: SpreadOut(InfoNCE(), weight=float("inf")), "SpreadOut weight is inf: give more"),
    "weights, infinite": (
        lambda: WeightedSum([InfoNCE(), TeacherMSE()], [1, float("inf")]),
        r"weights \[1, inf\]: give one >= 0 per loss",
    ),
    "bias, not a number": (lambda: PairBCE(bias=float("nan")), "PairBCE bias is nan: give a number"),
    "inside": (lambda: WeightedSum([InfoNCE(), TeacherMSE()])(A, A), "a teacher's vectors of anchors"),
    "inside, scores": (lambda: SpreadOut(PairBCE())(A, A, scores=torch.ones(4)), "SpreadOut is not for judged pairs"),
}


def test_the_order_of_dimensions_does_not_matter() -> None:
    one, other = (Matryoshka(InfoNCE(), dims)(A, B[:4]) for dims in ([2, 6, 4], [6, 4, 2]))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_told_in_one_line(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
