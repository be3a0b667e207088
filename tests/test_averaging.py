"""Averaged weights: the closed form, what is evaluated, what `best.ckpt` holds, and exact resume.

python -m pytest tests/test_averaging.py
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mtcl.errors import ConfigError
from mtcl.training.callbacks import Averaging, AveragingConfig
from tests.conftest import Run, command_in
from tests.test_interruption import wait_for
from tests.test_resume import assert_equal_runs, options, start

DECAY = 0.9


class Walk(pl.LightningModule):
    """One weight that moves by its gradient, and a buffer of integers; keeps what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.register_buffer("positions", torch.arange(8))
        self.trained: list[float] = []
        self.validated: list[float] = []

    def setup(self, stage: str) -> None:
        """After the callbacks' own, as the PCA of a projection is."""
        self.weight.data.fill_(5.0)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.weight * (batch_idx + 1)

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.trained.append(self.weight.item())

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.validated.append(self.weight.item())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("start_step", [0, 3])
def test_closed_form(start_step: int, accumulated: int, tmp_path: Path) -> None:
    module = Walk()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=8,
        accumulate_grad_batches=accumulated,
        val_check_interval=accumulated,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Averaging(AveragingConfig(DECAY, start_step))],
    )
    loader = DataLoader(list(range(8 * accumulated)))
    trainer.fit(module, loader, DataLoader([0]))
    average, expected = 0.0, []
    trained = module.trained[accumulated - 1 :: accumulated]
    for step, weight in enumerate(trained, start=1):
        average = weight if step <= max(1, start_step) else DECAY * average + (1 - DECAY) * weight
        expected.append(average)
    assert module.validated == pytest.approx(expected, rel=1e-6)
    assert len(set(trained)) == 8
    assert module.weight.item() == pytest.approx(expected[-1], rel=1e-6), "the average is what fit leaves"
    assert module.positions.tolist() == list(range(8))


@pytest.mark.parametrize(("start_step", "is_told"), [(1, False), (2, True), (9, True)])
def test_an_average_that_begins_after_the_last_step_is_told(
    start_step: int, is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", logger="mtcl")
    averaging = Averaging(AveragingConfig(0.9, start_step))
    averaging.on_train_start(pl.Trainer(max_steps=2, accelerator="cpu", logger=False), Walk())
    told = f"averaging.start_step is {start_step}, but the run has 2 steps, so nothing is averaged"
    assert [told in record.getMessage() for record in caplog.records if record.name == "mtcl"] == [True] * is_told


@pytest.mark.parametrize(("decay", "start_step"), [(1.0, 0), (-0.1, 0), (0.9, -1)])
def test_values_out_of_range(decay: float, start_step: int) -> None:
    with pytest.raises(ConfigError, match="averaging"):
        AveragingConfig(decay, start_step)


@pytest.fixture(scope="module")
def averaged(
    starts_processes: None, tiny_model: Path, demo_root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A whole run with averaging from step 20 on."""
    folder = tmp_path_factory.mktemp("averaged")
    assert command_in(folder, cache)("fit", *arguments(tiny_model, demo_root, "whole")).returncode == 0
    return folder / "runs" / "whole"


def arguments(model: Path, root: Path, run: str) -> list[str]:
    changed = {"averaging.decay": 0.95, "averaging.start_step": 20, "model.encoder.dim": 8}
    return options(model, root, run, **changed)


def checkpoint(run: Path, name: str) -> dict[str, Any]:
    return dict(torch.load(run / "checkpoints" / name, weights_only=True))


def test_best_holds_what_was_evaluated(averaged: Path, tmp_path: Path, mtcl_command: Run) -> None:
    best, last = checkpoint(averaged, "best.ckpt"), checkpoint(averaged, "last.ckpt")
    name = "encoder.projection.weight"
    assert not torch.equal(last["state_dict"][name], last["current_model_state"][name])
    assert "current_model_state" not in best, "only the weights that were evaluated"
    done = mtcl_command("validate", "--ckpt", str(averaged), "--run_dir", "out", "--trainer.precision", "32-true")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "val.json").read_text())
    for task, primary in best["mtcl"]["history"][best["global_step"]].items():
        assert primary in found[task].values()


@pytest.mark.usefixtures("starts_processes")
def test_killed_and_resumed(
    averaged: Path, tiny_model: Path, demo_root: Path, cache: Path, tmp_path: Path, mtcl_command: Run
) -> None:
    """Equal to the last bit: losses, validations, weights and their average."""
    process = start(arguments(tiny_model, demo_root, "killed"), tmp_path, cache)
    run = tmp_path / "runs" / "killed"
    wait_for(run / "checkpoints" / "best.ckpt", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert 20 < checkpoint(run, "last.ckpt")["global_step"] < 240
    refused = mtcl_command("fit", "--resume", str(run), "--averaging", "null")
    assert refused.returncode == 2
    assert "averages its weights" in refused.stderr
    done = mtcl_command("fit", "--resume", str(run))
    assert done.returncode == 0, done.stderr
    assert_equal_runs(averaged, run)
    one, other = checkpoint(averaged, "last.ckpt"), checkpoint(run, "last.ckpt")
    for name, value in one["current_model_state"].items():
        assert torch.equal(value, other["current_model_state"][name]), name
    assert one["averaging_state"] == other["averaging_state"]
