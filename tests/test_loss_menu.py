"""Every loss: reference values, gradients, and edges. InfoNCE's softmax itself is in test_losses.py.

python -m pytest tests/test_loss_menu.py
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
    default_loss,
)
from mtcl.losses.cosent import cosent
from mtcl.task.kind import Kind
from tests.views import random_view, rows_of, side_of, unit

GRADES = torch.tensor([0.0, 0.2, 0.2, 0.9, 1.0, 0.5], dtype=torch.float64)
LABELS = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
POSITIVE: dict[str, Callable[[], Loss]] = {
    "one way": InfoNCE,
    "both ways": lambda: InfoNCE(directions="both", learn_temperature=True),
    "same side": lambda: InfoNCE(directions="both", same_side=True),
    "several positives": lambda: InfoNCE(multi_positive=True),
    "margin": lambda: InfoNCE(margin=0.3, directions="both"),
    "logq": lambda: InfoNCE(correct_frequency=True),
    "no keys": lambda: InfoNCE(keys=False),
    "guide": lambda: InfoNCE(guide="base"),
    "pair bce": PairBCE,
    "margin mse": MarginMSE,
    "distill": DistillKL,
    "teacher, own": TeacherMSE,
    "teacher, anchor": lambda: TeacherMSE(target="anchor"),
    "sum": lambda: WeightedSum([InfoNCE(), TeacherMSE()], [1.0, 2.0]),
    "matryoshka": lambda: Matryoshka(InfoNCE(), [4]),
    "spread": lambda: SpreadOut(InfoNCE(), weight=1.0),
}
GRADED: dict[str, Callable[[], Loss]] = {"cosent": CoSENT, "teacher": TeacherMSE}
BINARY: dict[str, Callable[[], Loss]] = {"pair bce": PairBCE, "cosent": CoSENT}
CASES: list[tuple[str, Callable[[], Loss], dict[str, Any]]] = [
    *((name, make, {"hard": hard}) for name, make in POSITIVE.items() for hard in (0, 2)),
    *((f"graded {name}", make, {"scores": GRADES}) for name, make in GRADED.items()),
    *((f"binary {name}", make, {"scores": LABELS}) for name, make in BINARY.items()),
]
IDS = [f"{name}, {options.get('hard', 'judged')}" for name, _, options in CASES]


def leaves(view: View) -> list[Tensor]:
    sides = [view.anchors, view.positives, *([view.negatives] if view.negatives else [])]
    return [side.local.vectors_ND for side in sides]


def with_vectors(view: View, vectors: tuple[Tensor, ...]) -> View:
    def side(old: Any, new: Tensor) -> Any:
        return side_of(new, old.local.keys_NK, old.local.teacher_NE)

    anchors, positives, *hard = vectors
    return replace(
        view,
        anchors=side(view.anchors, anchors),
        positives=side(view.positives, positives),
        negatives=side(view.negatives, hard[0]) if hard else None,
    )


@pytest.mark.parametrize(("name", "make", "options"), CASES, ids=IDS)
def test_gradients(name: str, make: Callable[[], Loss], options: dict[str, Any]) -> None:
    loss, view = make().double(), random_view(**options)
    assert torch.autograd.gradcheck(lambda *vectors: loss(with_vectors(view, vectors)), tuple(leaves(view)), atol=1e-5)


@pytest.mark.parametrize("name", [*POSITIVE, "sum of teachers", "spread teacher"])
def test_a_loss_says_whether_it_uses_hard_negatives(name: str) -> None:
    more: dict[str, Callable[[], Loss]] = {
        "sum of teachers": lambda: WeightedSum([TeacherMSE(), TeacherMSE(target="anchor")]),
        "spread teacher": lambda: SpreadOut(TeacherMSE()),
    }
    loss, view = (POSITIVE | more)[name]().double(), random_view(hard=2)
    (gradient,) = torch.autograd.grad(loss(view), [leaves(view)[2]], allow_unused=True)
    assert loss.uses_negatives == (gradient is not None and bool(gradient.any()))


@pytest.mark.parametrize(("name", "make", "options"), CASES, ids=IDS)
def test_order_of_pairs_does_not_matter(name: str, make: Callable[[], Loss], options: dict[str, Any]) -> None:
    loss, view, order = make().double(), random_view(**options), torch.tensor([3, 1, 0, 5, 4, 2])
    hard = [2 * n + k for n in order.tolist() for k in (0, 1)]

    def moved(side: Any, places: Any) -> Any:
        return side_of(side.local.vectors_ND[places], side.local.keys_NK[places], side.local.teacher_NE[places])

    other = replace(
        view,
        anchors=moved(view.anchors, order),
        positives=moved(view.positives, order),
        negatives=moved(view.negatives, hard) if view.negatives else None,
        scores_C=None if view.scores_C is None else view.scores_C[order],
    )
    assert float(loss(other).detach()) == pytest.approx(float(loss(view).detach()), abs=1e-9)


@pytest.mark.parametrize(("name", "make", "options"), CASES, ids=IDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("edge", ["one pair", "identical texts", "all left out"])
def test_finite_at_the_edges(
    edge: str, dtype: torch.dtype, name: str, make: Callable[[], Loss], options: dict[str, Any]
) -> None:
    pairs = 1 if edge == "one pair" else 6
    keys = torch.ones(pairs, 1, dtype=torch.int64) if edge == "all left out" else None
    scores = options.get("scores")
    options = options | {"scores": None if scores is None else scores[:pairs]}
    view = random_view(pairs, keys=keys, same=edge == "identical texts", dtype=dtype, **options)
    value = make()(view)
    assert torch.isfinite(value)
    found = torch.autograd.grad(value, leaves(view), allow_unused=True)
    assert all(torch.isfinite(g).all() for g in found if g is not None)


@pytest.mark.parametrize(("name", "make", "options"), CASES, ids=IDS)
def test_blocks_change_nothing(
    monkeypatch: pytest.MonkeyPatch, name: str, make: Callable[[], Loss], options: dict[str, Any]
) -> None:
    found = []
    for scores_per_block in (1 << 20, 14):
        monkeypatch.setattr("mtcl.losses.base.SCORES_PER_BLOCK", scores_per_block)
        loss, view = make().double(), random_view(**options)
        value = loss(view)
        inputs = [*leaves(view), *loss.parameters()]
        found.append((value.detach(), torch.autograd.grad(value, inputs, allow_unused=True)))
    torch.testing.assert_close(found[0], found[1], atol=1e-12, rtol=0)


def st_losses() -> Any:
    return pytest.importorskip("sentence_transformers.losses")


def test_cosent_is_that_of_sentence_transformers() -> None:
    cosine = torch.tensor([0.1, 0.9, 0.3, 0.5, 0.2, -0.4], dtype=torch.float64)
    theirs = st_losses().CoSENTLoss(model=torch.nn.Identity(), scale=20.0, similarity_fct=lambda a, b: cosine)
    expected = theirs.compute_loss_from_embeddings([torch.zeros(6, 2), torch.zeros(6, 2)], GRADES)
    couples = sum(a > b for a in GRADES.tolist() for b in GRADES.tolist())
    assert float(cosent(cosine, GRADES, 0.05)) * math.log1p(couples) == pytest.approx(float(expected), abs=1e-6)


def test_cosent_starts_at_one() -> None:
    assert float(cosent(torch.full((6,), 0.3, dtype=torch.float64), GRADES, 0.05)) == pytest.approx(1.0)


@pytest.mark.parametrize("hard", [0, 2])
def test_info_nce_is_that_of_sentence_transformers(hard: int) -> None:
    view = random_view(hard=hard)
    theirs = st_losses().MultipleNegativesRankingLoss(model=torch.nn.Identity(), scale=20.0)
    columns = [view.anchors.local.vectors_ND, view.positives.local.vectors_ND]
    if view.negatives:
        columns += list(view.negatives.local.vectors_ND.view(6, hard, -1).unbind(1))
    expected = theirs.compute_loss_from_embeddings(columns, None)
    assert float(InfoNCE().double()(view)) * math.log(6 + 6 * hard) == pytest.approx(float(expected), abs=1e-6)


def test_several_positives_are_those_of_pytorch_metric_learning() -> None:
    """NTXentLoss treats each positive by itself against the negatives, as `multi_positive` does."""
    theirs = pytest.importorskip("pytorch_metric_learning.losses").NTXentLoss(temperature=0.1)
    keys = torch.tensor([1, 1, 2, 2, 2, 3])[:, None]
    view = random_view(keys=keys)
    anchors, positives = view.anchors.local.vectors_ND, view.positives.local.vectors_ND
    labels = keys[:, 0]
    rows = [
        theirs(anchors[n : n + 1], labels[n : n + 1], ref_emb=positives, ref_labels=labels) for n in range(len(labels))
    ]
    ours = InfoNCE(temperature=0.1, multi_positive=True).double()(view) * math.log(6)
    assert float(ours) == pytest.approx(float(torch.stack(rows).mean()), abs=1e-6)


def test_margin_by_closed_form() -> None:
    view = random_view()
    cosine = view.anchors.local.vectors_ND @ view.positives.local.vectors_ND.T - 0.3 * torch.eye(6)
    expected = F.cross_entropy(cosine / 0.05, torch.arange(6)) / math.log(6)
    assert float(InfoNCE(margin=0.3).double()(view)) == pytest.approx(float(expected), abs=1e-6)


def test_frequency_is_taken_off() -> None:
    view, log_q = random_view(), torch.log(torch.tensor([0.5, 0.1, 0.1, 0.1, 0.1, 0.1], dtype=torch.float64))
    rows = replace(view.positives.local, log_q_N=log_q)
    view = replace(view, positives=type(view.positives)(rows, rows))
    logits = view.anchors.local.vectors_ND @ rows.vectors_ND.T / 0.05 - log_q
    expected = F.cross_entropy(logits, torch.arange(6)) / math.log(6)
    assert float(InfoNCE(correct_frequency=True).double()(view)) == pytest.approx(float(expected), abs=1e-6)


def test_same_side_adds_other_anchors_but_not_oneself() -> None:
    view = random_view()
    a, p = view.anchors.local.vectors_ND, view.positives.local.vectors_ND
    other = (a @ a.T).masked_fill(torch.eye(6, dtype=torch.bool), -torch.inf)
    expected = F.cross_entropy(torch.cat([a @ p.T, other], dim=1) / 0.05, torch.arange(6)) / math.log(12)
    assert float(InfoNCE(same_side=True).double()(view)) == pytest.approx(float(expected), abs=1e-6)


def test_guide_leaves_out_what_it_finds_nearer_than_the_positive() -> None:
    view = random_view()
    a, p = view.anchors.local, view.positives.local
    assert a.teacher_NE is not None
    assert p.teacher_NE is not None
    seen = a.teacher_NE @ p.teacher_NE.T
    left_out = seen > seen.diagonal()[:, None]
    assert left_out.any()
    logits = (a.vectors_ND @ p.vectors_ND.T / 0.05).masked_fill(left_out, -torch.inf)
    expected = F.cross_entropy(logits, torch.arange(6)) / math.log(6)
    assert float(InfoNCE(guide="base").double()(view)) == pytest.approx(float(expected), abs=1e-6)


def test_without_keys_a_related_positive_is_a_negative() -> None:
    keys = torch.tensor([1, 1, 2, 3, 4, 5])[:, None]
    assert float(InfoNCE(keys=False).double()(random_view(keys=keys))) == pytest.approx(
        float(InfoNCE().double()(random_view()))
    )
    assert float(InfoNCE().double()(random_view(keys=keys))) < float(InfoNCE().double()(random_view()))


def test_pair_bce_is_siglip_s_loss() -> None:
    view = random_view()
    logits = view.anchors.local.vectors_ND @ view.positives.local.vectors_ND.T * 10 - 10
    expected = -F.logsigmoid((2 * torch.eye(6) - 1) * logits).sum() / 6
    assert float(PairBCE().double()(view)) == pytest.approx(float(expected), abs=1e-6)


def test_pair_bce_on_labels_is_cross_entropy() -> None:
    view = random_view(scores=LABELS)
    cosine = (view.anchors.local.vectors_ND * view.positives.local.vectors_ND).sum(1)
    expected = F.binary_cross_entropy_with_logits(cosine * 10 - 5, LABELS)
    assert float(PairBCE(bias=-5.0).double()(view)) == pytest.approx(float(expected), abs=1e-6)


def test_teacher_mse_by_closed_form() -> None:
    view = random_view()
    a, p = view.anchors.local, view.positives.local
    assert a.teacher_NE is not None
    apart = [2 - 2 * (x.vectors_ND * a.teacher_NE).sum(1).mean() for x in (a, p)]
    assert float(TeacherMSE(target="anchor")(view)) == pytest.approx(float(sum(apart) / 2), abs=1e-6)


def test_margin_mse_is_that_of_sentence_transformers() -> None:
    view = random_view(hard=1)
    assert view.negatives is not None
    sides = [view.anchors.local, view.positives.local, view.negatives.local]
    vectors = [rows.vectors_ND for rows in sides]
    seen = [rows.teacher_NE for rows in sides if rows.teacher_NE is not None]
    labels = (seen[0] * seen[1]).sum(1) - (seen[0] * seen[2]).sum(1)

    def cut(rows: Any, n: int) -> Any:
        return side_of(rows.vectors_ND[n : n + 1], rows.keys_NK[n : n + 1], rows.teacher_NE[n : n + 1])

    own = [  # theirs sees only the row's own negative
        MarginMSE(in_batch=False)(View(*(cut(rows, n) for rows in sides[:2]), torch.tensor([0]), cut(sides[2], n)))
        for n in range(6)
    ]
    theirs = st_losses().MarginMSELoss(model=torch.nn.Identity())
    expected = theirs.compute_loss_from_embeddings(vectors, labels)
    assert float(torch.stack(own).mean()) == pytest.approx(float(expected), abs=1e-6)


def test_distill_kl_by_closed_form() -> None:
    view = random_view(hard=2)
    assert view.negatives is not None
    sides = [view.anchors.local, view.positives.local, view.negatives.local]
    ours, goals = (
        [rows.vectors_ND for rows in sides],
        [rows.teacher_NE for rows in sides if rows.teacher_NE is not None],
    )
    p, q = (((a @ torch.cat([b, c]).T) / 0.1).softmax(1) for a, b, c in (goals, ours))
    expected = (p * (p.log() - q.log())).sum(1).mean() / math.log(6 + 12)
    assert float(DistillKL(temperature=0.1)(view)) == pytest.approx(float(expected), abs=1e-7)
    as_taught = view.map_vectors(lambda v: v)
    taught = with_vectors(as_taught, tuple(goals))
    assert float(DistillKL()(taught)) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ConfigError, match="DistillKL temperature is 0"):
        DistillKL(temperature=0)


def test_matryoshka_by_closed_form() -> None:
    view = random_view()
    short = view.map_vectors(lambda v: F.normalize(v[:, :4], dim=1))
    expected = (InfoNCE().double()(view) + 0.5 * InfoNCE().double()(short)) / 1.5
    assert float(Matryoshka(InfoNCE(), [4]).double()(view)) == pytest.approx(float(expected))


def test_spread_is_zero_for_orthogonal_texts_and_grows_with_their_cosine() -> None:
    keys = torch.arange(1, 5)[:, None]
    texts = torch.eye(4, dtype=torch.float64)
    loss = SpreadOut(InfoNCE(), weight=1.0).double()
    apart = View(side_of(texts, keys), side_of(texts, keys), torch.arange(4))
    assert float(loss(apart) - InfoNCE().double()(apart)) == 0
    near = View(side_of(texts[[0] * 4], keys), side_of(texts[[0] * 4], keys), torch.arange(4))
    assert float(loss(near) - InfoNCE().double()(near)) == pytest.approx(1 - 1 / 4)


@pytest.mark.parametrize("kind", list(Kind))
def test_default_fits_its_kind(kind: Kind) -> None:
    assert kind in default_loss(kind).kinds


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InfoNCE(margin=-0.1), "margin is -0.1"),
        (lambda: InfoNCE(keys=False, multi_positive=True), "keys is false, but multi_positive needs keys"),
        (lambda: PairBCE(scale=0), "scale is 0"),
        (lambda: CoSENT(temperature=0), "temperature is 0"),
        (lambda: WeightedSum([]), "0 losses"),
        (lambda: WeightedSum([InfoNCE()], [1.0, 2.0]), "1 losses and weights"),
        (lambda: WeightedSum([TeacherMSE("a"), TeacherMSE("b")]), "the teachers a, b"),
        (lambda: Matryoshka(TeacherMSE(), [4]), "cannot cut a teacher's vectors"),
        (lambda: Matryoshka(InfoNCE(), [8]).check(dim=8), "give less than the embedding's 8"),
        (lambda: SpreadOut(InfoNCE(), weight=0), "weight is 0"),
    ],
)
def test_bad_options_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert message in str(error.value)


def test_rows_are_cut_whole() -> None:
    rows = rows_of(unit(4, 3), torch.arange(4)[:, None], unit(4, 2))[slice(1, 3)]
    assert [len(x) for x in (rows.vectors_ND, rows.keys_NK, rows.log_q_N, rows.teacher_NE) if x is not None] == [2] * 4


BOUNDED: dict[str, tuple[Callable[[], Loss], str, float, float]] = {
    "scale": (lambda: PairBCE(scale=100.0), "log_scale", 5.0, math.log(100)),
    "cold": (lambda: InfoNCE(0.005, learn_temperature=True), "log_temperature", -6.0, math.log(0.005)),
    "hot": (lambda: InfoNCE(1.0, learn_temperature=True), "log_temperature", 0.5, 0.0),
    "in a sum": (
        lambda: WeightedSum([InfoNCE(learn_temperature=True), TeacherMSE()]),
        "parts.0.log_temperature",
        -6.0,
        math.log(0.005),
    ),
    "inside, twice": (
        lambda: SpreadOut(Matryoshka(InfoNCE(learn_temperature=True), [4])),
        "loss.loss.log_temperature",
        9.0,
        0.0,
    ),
}


@pytest.mark.parametrize(("make", "learned", "past", "bound"), BOUNDED.values(), ids=BOUNDED)
def test_what_is_learned_comes_back_from_its_bounds(
    make: Callable[[], Loss], learned: str, past: float, bound: float
) -> None:
    """A step that carries a temperature or a scale past its bound does not end its learning."""
    loss = make()
    parameter = loss.get_parameter(learned)
    with torch.no_grad():
        parameter.fill_(past)
    loss.keep_in_bounds()
    loss.temperature.backward()
    assert parameter.item() == pytest.approx(bound)
    assert parameter.grad is not None
    assert parameter.grad.item() != 0


@pytest.mark.parametrize(("make", "learned", "past", "bound"), BOUNDED.values(), ids=BOUNDED)
def test_reading_a_temperature_changes_nothing(
    make: Callable[[], Loss], learned: str, past: float, bound: float
) -> None:
    """Neither within the bounds nor past them, and a loss within its bounds is left as it is."""
    loss = make()
    parameter = loss.get_parameter(learned)
    version = parameter._version
    first = loss.temperature
    assert torch.equal(first, loss.temperature)
    assert parameter._version == version
    before = parameter.detach().clone()
    loss.keep_in_bounds()
    assert torch.equal(parameter, before)
    with torch.no_grad():
        parameter.fill_(past)
    assert loss.temperature.isfinite()
    assert parameter.item() == past
