"""What a run shows of its tasks: values by hand, means between log points, tags in one place.

python -m pytest tests/test_training_metrics.py
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from mtcl.losses import Embedded, Side, View
from mtcl.training import metrics
from mtcl.training.metrics import RunningMeans
from mtcl.training.observation import observe
from tests.conftest import ROOT


def test_observe_by_hand() -> None:
    """Two anchors, two positives; anchor 0 shares a key with positive 1."""
    anchors, positives = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.8, 0.6], [0.6, 0.8]])
    keys = torch.tensor([[1, 9], [2, 0]]), torch.tensor([[1, 0], [2, 9]])
    rows = [Embedded(x, k, torch.zeros(2)) for x, k in zip((anchors, positives), keys, strict=True)]
    sides = [Side(r, r) for r in rows]
    values = observe(View(sides[0], sides[1], torch.arange(2)), torch.tensor(0.7), torch.tensor(0.05))
    found = dict(zip(metrics.TASK_TRAIN, values.tolist(), strict=True))
    assert found == pytest.approx(
        {
            "loss": 0.7,
            "accuracy": 1.0,
            "temperature": 0.05,
            "cosine_positives": 0.8,
            "cosine_negatives": 0.6,
            "left_out_share": 0.25,
        }
    )


def test_an_anchor_without_negatives_is_neither_right_nor_wrong() -> None:
    anchors, positives = torch.eye(3), torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 1, 0]])
    for keys, right, negatives in (([1, 1, 2], 1 / 3, 0.25), ([1, 1, 1], float("nan"), float("nan"))):
        embedded = [Embedded(x, torch.tensor(keys)[:, None], torch.zeros(3)) for x in (anchors, positives)]
        sides = [Side(one, one) for one in embedded]
        values = observe(View(sides[0], sides[1], torch.arange(3)), torch.tensor(0.7), torch.tensor(0.05))
        found = dict(zip(metrics.TASK_TRAIN, values.tolist(), strict=True))
        assert found["accuracy"] == pytest.approx(right, nan_ok=True)
        assert found["cosine_negatives"] == pytest.approx(negatives, nan_ok=True)


def test_means_between_log_points() -> None:
    shown = RunningMeans(["a", "b"])
    for value in (1.0, 3.0):
        shown.observe(0, torch.full((len(metrics.TASK_TRAIN),), value))
    shown.throughput.tokens, shown.throughput.padded = 75, 100
    shown.throughput.texts, shown.throughput.distinct = 10, 5
    values = shown.flush()
    assert values["train_loss/a"] == 2.0
    assert "train_loss/b" not in values
    assert values[metrics.PADDING_SHARE] == pytest.approx(0.25)
    assert values[metrics.DISTINCT_SHARE] == pytest.approx(0.5)
    shown.observe(1, torch.ones(len(metrics.TASK_TRAIN)))
    assert "train_loss/a" not in shown.flush()
    assert shown.latest["train_loss/a"] == 2.0


def test_no_tag_is_written_elsewhere() -> None:
    """One place holds every tag name."""
    literal = re.compile(r"[\"'](train|val|test|throughput)(_\w+)?/")
    others = [p for p in Path(ROOT / "mtcl").rglob("*.py") if p.name != "metrics.py" and "demo" not in p.parts]
    found = [f"{p.name}: {line.strip()}" for p in others for line in p.read_text().splitlines() if literal.search(line)]
    assert found == []


def test_a_validation_does_not_count_as_training_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(metrics.time, "perf_counter", lambda: now)
    shown = RunningMeans(["a"])
    shown.throughput.tokens = shown.throughput.padded = shown.throughput.pairs = 60
    shown.throughput.texts = shown.throughput.distinct = 60
    now = 101.0
    shown.pause()
    now = 150.0
    shown.go_on()
    now = 152.0
    assert shown.flush()[metrics.PAIRS_PER_S] == pytest.approx(60 / 3)
