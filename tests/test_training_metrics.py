"""What a run shows of its tasks: values by hand, means between log points, tags in one place.

python -m pytest tests/test_training_metrics.py
"""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor

from mtcl import MtclDataModule, MtclModule
from mtcl.data.batch import StepBatch
from mtcl.losses import Embedded, Side, View
from mtcl.training import metrics
from mtcl.training.metrics import PAIRS_PER_S, RunningMeans
from mtcl.training.observation import observe
from tests.conftest import ROOT, quiet_trainer


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
    shown.start_clock()
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


def test_means_of_steps_and_tasks_take_one_collective(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value is divided by how often it came. A task's NaN means that it has no such value; a loss is shown."""
    sent: list[torch.Tensor] = []

    def over_ranks(values: torch.Tensor) -> torch.Tensor:
        sent.append(values)
        return values + 1

    monkeypatch.setattr(metrics, "mean_over_ranks", over_ranks)
    shown, of_task = RunningMeans(["a", "b"]), torch.arange(float(len(metrics.TASK_TRAIN)))
    of_task[1] = torch.nan
    for loss in (2.0, 4.0, 9.0):
        shown.observe(1, of_task)
        shown.observe_step(metrics.TRAIN_LOSS, torch.tensor(loss, dtype=torch.float64, requires_grad=True))
    shown.observe_step(metrics.DISTANCE, torch.tensor(0.5))
    of_b = {metrics.train_tag(value, "b"): n + 1.0 for n, value in enumerate(metrics.TASK_TRAIN) if n != 1}
    assert shown.flush() == of_b | {metrics.TRAIN_LOSS: 6.0, metrics.DISTANCE: 1.5}
    assert [one.requires_grad for one in sent] == [False]
    shown.observe_step(metrics.TRAIN_LOSS, torch.tensor(torch.nan))
    found = shown.flush()
    assert list(found) == [metrics.TRAIN_LOSS]
    assert np.isnan(found[metrics.TRAIN_LOSS])
    assert shown.flush() == {}
    assert len(sent) == 2


def test_no_tag_is_written_elsewhere() -> None:
    """One place holds every tag name."""
    literal = re.compile(r"[\"'](train|val|test|throughput)(_\w+)?/")
    others = [p for p in Path(ROOT / "mtcl").rglob("*.py") if p.name != "metrics.py" and "demo" not in p.parts]
    found = [f"{p.name}: {line.strip()}" for p in others for line in p.read_text().splitlines() if literal.search(line)]
    assert found == []


def test_only_training_counts_as_training_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(metrics.time, "perf_counter", lambda: now)
    shown = RunningMeans(["a"])

    def add_60() -> None:
        shown.throughput.tokens = shown.throughput.padded = shown.throughput.pairs = 60
        shown.throughput.texts = shown.throughput.distinct = 60

    now = 500.0  # what comes before the first batch
    shown.start_clock()
    now = 501.0
    shown.start_clock()  # the second batch
    add_60()
    shown.pause()
    now = 550.0
    shown.start_clock()
    now = 552.0
    assert shown.flush()[metrics.PAIRS_PER_S] == pytest.approx(60 / 3)
    now = 554.0  # the clock runs on after a log point
    add_60()
    assert shown.flush()[metrics.PAIRS_PER_S] == pytest.approx(60 / 2)
    shown.pause()
    now = 600.0
    shown.pause()  # a validation that directly follows another
    shown.start_clock()
    now = 606.0
    add_60()
    assert shown.flush()[metrics.PAIRS_PER_S] == pytest.approx(60 / 6)


def test_throughput_of_a_run_is_that_of_its_steps(
    tiny_model: Path, demo_root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock on which a step takes a second and everything else, such as an evaluation, a hundred; twice."""
    now, found = [0.0], list[float]()

    class Slow(MtclModule):
        """Takes its time in every hook."""

        def setup(self, stage: str) -> None:
            super().setup(stage)
            now[0] += 100

        def on_train_start(self) -> None:
            super().on_train_start()
            now[0] += 100

        def training_step(self, batch: StepBatch, batch_idx: int) -> Tensor:
            now[0] += 1
            return super().training_step(batch, batch_idx)

        def on_validation_epoch_end(self) -> None:
            now[0] += 100
            super().on_validation_epoch_end()

        def on_validation_end(self) -> None:
            now[0] += 100

    class Kept(DummyLogger):
        """Keeps the throughput."""

        def log_metrics(self, metrics: dict[str, float], step: int) -> None:  # type: ignore[override]
            found.extend(value for tag, value in metrics.items() if tag == PAIRS_PER_S)

    monkeypatch.setattr(metrics, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    module = Slow(encoder={"name": str(tiny_model), "dim": 8})
    for _ in range(2):
        options = {"root": str(demo_root), "cache": str(cache), "num_workers": 0, "max_length": 24}
        data = MtclDataModule(tasks={"search": {}}, batch_size=8, **options)
        quiet_trainer(
            logger=Kept(), max_steps=5, val_check_interval=3, log_every_n_steps=2, num_sanity_val_steps=1
        ).fit(module, data)
        now[0] += 100
    assert found == pytest.approx([8.0] * 8)  # at the steps 2, 3 (before the validation), 4 and 5
