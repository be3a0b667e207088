"""What a loss learns stays within its bounds in a run: clamped after each optimizer step, before anything is saved.

python -m pytest tests/test_bounds.py
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtcl.losses.info_nce import MAX_TEMPERATURE, MIN_TEMPERATURE
from tests.conftest import Run

STEPS = 3


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_past_the_bounds_ends_on_one(
    mtcl_command: Run, tmp_path: Path, tiny_model: Path, demo_root: Path, accumulate: int
) -> None:
    """AdamW moves a parameter by its learning rate: here by a factor of e^10 or e^-10 in the first step."""
    values: dict[str, Any] = {
        "model.encoder.name": tiny_model,
        "data.root": demo_root,
        "data.batch_size": 8,
        "data.max_length": 16,
        "model.optimizer.head_lr": 10.0,
        "model.optimizer.decay": "constant",
        "tasks.search.loss": "InfoNCE",
        "tasks.search.loss.learn_temperature": "true",
        "trainer.max_steps": STEPS,
        "trainer.val_check_interval": accumulate * STEPS,
        "trainer.log_every_n_steps": 1,
        "trainer.accumulate_grad_batches": accumulate,
        "trainer.precision": "32-true",
        "trainer.enable_progress_bar": "false",
    }
    arguments = [f"--{key}={value}" for key, value in values.items()]
    done = mtcl_command("fit", "--run_dir", "run", "--no_base", *arguments)
    assert done.returncode == 0, done.stderr
    files = [*(tmp_path / "run").rglob("*.ckpt")]
    assert len(files) == 2
    for file in files:
        state = torch.load(file, weights_only=False)["state_dict"]
        bounds = [torch.tensor(math.log(x)) for x in (MIN_TEMPERATURE, MAX_TEMPERATURE)]
        assert state["losses.search.log_temperature"] in bounds, file.name
    events = EventAccumulator(str(next((tmp_path / "run").rglob("events.*")).parent))
    events.Reload()
    shown = [event.value for event in events.Scalars("task_search/train_temperature")]
    assert len(shown) == STEPS
    assert shown[0] == pytest.approx(0.05)
    assert shown[1] in (pytest.approx(MIN_TEMPERATURE), pytest.approx(MAX_TEMPERATURE))
    assert all(0.0049 < value < 1.0001 for value in shown)
    if accumulate > 1:
        return
    # learned values are taken only by a loss with the same arguments
    arguments = [one for one in arguments if "learn_temperature" not in one and "head_lr" not in one]
    best = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=False)["state_dict"]
    learned = best["losses.search.log_temperature"].exp().item()
    more = (*arguments, "--model.optimizer.head_lr=0", "--tasks.search.loss.learn_temperature=true")
    for temperature, first in ((0.05, learned), (0.5, 0.5)):
        name = f"next-{temperature}"
        given = ("--init_from", "run", "--run_dir", name, "--no_base", f"--tasks.search.loss.temperature={temperature}")
        done = mtcl_command("fit", *given, *more)
        assert done.returncode == 0, done.stderr
        assert ("so the learned values of its loss are not taken" in done.stderr) == (temperature == 0.5)
        state = torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=False)["state_dict"]
        assert state["losses.search.log_temperature"].exp().item() == pytest.approx(first, rel=1e-4)
