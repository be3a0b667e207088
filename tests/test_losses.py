"""InfoNCE with relations: closed forms, a reference implementation, gradients, and edges.

python -m pytest tests/test_losses.py
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mtcl.errors import ConfigError
from mtcl.losses import Embedded, InfoNCE, Side, View
from mtcl.losses.base import row_blocks
from mtcl.losses.info_nce import info_nce as per_row
from mtcl.losses.relation import relation, shares_key


def diagonal(n: int, c: int) -> Tensor:
    found = -torch.ones(n, c, dtype=torch.int8)
    found[torch.arange(n), torch.arange(n)] = 1
    return found


def info_nce(cosine: Tensor, found: Tensor, temperature: Tensor | float) -> Tensor:
    """As `InfoNCE` makes it of the rows: their mean, divided by log(C)."""
    logits = cosine.float() / temperature if cosine.dtype != torch.float64 else cosine / temperature
    return per_row(logits, found).mean() / math.log(max(2, cosine.shape[1]))


def test_equals_cross_entropy_where_nothing_is_left_out() -> None:
    cosine = torch.rand(6, 9, dtype=torch.float64) * 2 - 1
    expected = F.cross_entropy(cosine / 0.05, torch.arange(6)) / math.log(9)
    assert float(info_nce(cosine, diagonal(6, 9), 0.05)) == pytest.approx(float(expected), abs=1e-12)


def test_equals_sentence_transformers() -> None:
    """MultipleNegativesRankingLoss of the same vectors, scale 20 (installed with the extra `offline`)."""
    losses = pytest.importorskip("sentence_transformers.losses")
    anchors, positives = (F.normalize(torch.randn(8, 16, dtype=torch.float64), dim=1) for _ in range(2))
    theirs = losses.MultipleNegativesRankingLoss(model=torch.nn.Identity(), scale=20.0)
    expected = theirs.compute_loss_from_embeddings([anchors, positives], None)
    assert float(info_nce(anchors @ positives.T, diagonal(8, 8), 0.05) * math.log(8)) == pytest.approx(
        float(expected), abs=1e-6
    )


def test_left_out_candidates_take_no_part() -> None:
    cosine, found = torch.rand(4, 6, dtype=torch.float64), diagonal(4, 6)
    found[:, 5] = 0
    changed = cosine.clone()
    changed[:, 5] = 100.0
    assert torch.equal(info_nce(cosine, found, 0.1), info_nce(changed, found, 0.1))
    assert not torch.equal(info_nce(cosine, diagonal(4, 6), 0.1), info_nce(cosine, found, 0.1))


def test_several_positives_are_averaged() -> None:
    cosine, found = torch.rand(1, 4, dtype=torch.float64), torch.tensor([[1, 1, -1, -1]], dtype=torch.int8)
    logits = cosine[0] / 0.2
    per_positive = [-(logits[p] - torch.logsumexp(logits[[p, 2, 3]], 0)) for p in (0, 1)]
    assert float(info_nce(cosine, found, 0.2)) == pytest.approx(float(sum(per_positive) / 2 / math.log(4)), abs=1e-12)


def test_permuting_candidates_changes_nothing() -> None:
    cosine, found, order = torch.rand(5, 7, dtype=torch.float64), diagonal(5, 7), torch.randperm(7)
    assert float(info_nce(cosine, found, 0.05)) == pytest.approx(
        float(info_nce(cosine[:, order], found[:, order], 0.05))
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [0.005, 1.0])
@pytest.mark.parametrize("case", ["all left out", "one pair", "identical texts", "nothing at all"])
def test_finite_at_the_edges(case: str, temperature: float, dtype: torch.dtype) -> None:
    found = {
        "all left out": torch.eye(3, dtype=torch.int8),
        "one pair": torch.ones(1, 1, dtype=torch.int8),
        "identical texts": diagonal(3, 3),
        "nothing at all": torch.zeros(3, 3, dtype=torch.int8),
    }[case]
    cosine = torch.ones(found.shape, dtype=dtype, requires_grad=True)
    log_temperature = torch.tensor(math.log(temperature), requires_grad=True)
    loss = info_nce(cosine, found, log_temperature.exp())
    loss.backward()
    assert torch.isfinite(loss)
    assert cosine.grad is not None
    assert torch.isfinite(cosine.grad).all()
    assert log_temperature.grad is not None
    assert torch.isfinite(log_temperature.grad)
    if case != "identical texts":
        assert float(loss.detach()) == 0
        assert float(cosine.grad.abs().sum()) == 0


def test_gradcheck() -> None:
    cosine = torch.rand(4, 6, dtype=torch.float64, requires_grad=True)
    log_temperature = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    found = diagonal(4, 6)
    found[0, 3] = found[2, 1] = 0
    found[1, 5] = 1
    assert torch.autograd.gradcheck(lambda c, t: info_nce(c, found, t.exp()), (cosine, log_temperature))


def view_of(anchors: Tensor, positives: Tensor) -> View:
    keys = torch.arange(1, len(anchors) + 1)[:, None]
    rows = [Embedded(x, keys, torch.zeros(len(x))) for x in (anchors, positives)]
    return View(Side(rows[0], rows[0]), Side(rows[1], rows[1]), torch.arange(len(anchors)))


def test_both_directions_are_the_mean_of_two_one_way_losses() -> None:
    anchors, positives = (F.normalize(torch.randn(5, 8), dim=1) for _ in range(2))
    forth, back = InfoNCE()(view_of(anchors, positives)), InfoNCE()(view_of(positives, anchors))
    assert float(InfoNCE(directions="both")(view_of(anchors, positives))) == pytest.approx(float((forth + back) / 2))


@pytest.mark.parametrize("directions", ["one", "both"])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, directions: str) -> None:
    """Loss and gradients of a score matrix in blocks of two rows, as of the whole."""
    found = []
    for scores_per_block in (1 << 20, 14):
        monkeypatch.setattr("mtcl.losses.base.SCORES_PER_BLOCK", scores_per_block)
        generator = torch.Generator().manual_seed(0)
        anchors, positives = (torch.randn(7, 8, generator=generator, dtype=torch.float64) for _ in range(2))
        anchors.requires_grad_()
        loss = InfoNCE(learn_temperature=True, directions=directions).double()  # type: ignore[arg-type]
        value = loss(view_of(F.normalize(anchors, dim=1), F.normalize(positives, dim=1)))
        value.backward()
        found.append((float(value.detach()), anchors.grad, loss.log_temperature.grad))
    assert len(row_blocks(7, 7)) == 4
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-12)
    torch.testing.assert_close(found[0][1:], found[1][1:], atol=1e-12, rtol=0)


def test_learned_temperature_is_a_parameter_and_moves() -> None:
    assert not list(InfoNCE().parameters())
    loss = InfoNCE(learn_temperature=True, temperature=0.1)
    assert float(loss.temperature.detach()) == pytest.approx(0.1)
    anchors, positives = (F.normalize(torch.randn(5, 8), dim=1) for _ in range(2))
    loss(view_of(anchors, positives)).backward()
    assert float(loss.log_temperature.grad.abs()) > 0


def test_temperature_out_of_range() -> None:
    with pytest.raises(ConfigError, match=r"temperature is 0\.0: give 0\.005 to 1\.0"):
        InfoNCE(temperature=0.0)


def test_relation_by_hand() -> None:
    anchors = torch.tensor([[1, 2], [3, 0]])
    candidates = torch.tensor([[2, 9], [3, 0], [4, 0], [0, 0]])
    own = torch.tensor([0, 1])
    assert relation(anchors, candidates, own).tolist() == [[1, -1, -1, -1], [-1, 1, -1, -1]]
    candidates = torch.tensor([[2, 9], [3, 0], [1, 3], [0, 0]])
    assert relation(anchors, candidates, own).tolist() == [[1, -1, 0, -1], [-1, 1, 0, -1]]
    assert relation(anchors, candidates, own, multi_positive=True).tolist() == [[1, -1, 1, -1], [-1, 1, 1, -1]]


def test_many_keys_are_joined_to_the_same_relation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embedded of up to 12 keys, many in common, some twice, padded with 0."""
    generator = torch.Generator().manual_seed(0)
    anchors, candidates = (torch.randint(0, 60, (n, 12), generator=generator) for n in (9, 14))
    anchors[3] = 0
    joined = shares_key(anchors, candidates)
    monkeypatch.setattr("mtcl.losses.relation.MOST_COMPARED", 1 << 30)
    assert torch.equal(joined, shares_key(anchors, candidates))
    assert 0 < int(joined.sum()) < joined.numel()
    assert not joined[3].any()
