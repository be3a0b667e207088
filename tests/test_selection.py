"""The best checkpoint may be chosen by a weighted mean of trained and unseen tasks.

python -m pytest tests/test_selection.py
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from mtcl import ConfigError
from mtcl.training.selection import WEIGHTED_MEAN, Selection
from tests.conftest import Run
from tests.test_resume import losses

APART = {"w": "watch", "h": "held_out", "r": "replay"}
FIGURES = {"a": 0.2, "b": 0.4, "w": 0.9, "h": 0.5, "r": 0.1}


def test_the_weighted_mean_by_hand() -> None:
    """(1 - 0.25) * 0.3 + 0.25 * 0.7; a replayed task is neither the run's own nor unseen."""
    selection = Selection(0.25)
    assert selection.mean("val", FIGURES, APART) == pytest.approx({WEIGHTED_MEAN: 0.4})
    assert Selection(1.0).mean("val", FIGURES, APART) == pytest.approx({WEIGHTED_MEAN: 0.7})
    assert selection.mean("test", FIGURES, APART) == {}
    assert selection.mean("val", {"a": 0.2, "r": 0.1}, APART) == {}
    assert selection.mean("val", {"w": 0.2}, APART) == {}
    assert Selection().mean("val", FIGURES, APART) == {}
    assert (Selection().tag, selection.tag) == ("val/mean", "val/weighted_mean")


def test_refusals() -> None:
    for weight in (-0.1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match=r"model\.unseen_weight is .*: give 0 to 1"):
            Selection(weight)
    with pytest.raises(ConfigError, match=r"model\.unseen_weight is 0\.5, but no watched or held-out task has a val"):
        Selection(0.5).check(["a", "r"], APART)
    Selection(0.5).check(["a", "w"], APART)
    Selection(0.0).check(["a"], APART)


def test_a_run_keeps_the_checkpoint_that_is_best_by_it(
    demo_root: Path, tiny_model: Path, tmp_path: Path, mtcl_command: Run
) -> None:
    """On the board, in the log, in the table at the end, and after a change of the weight on --resume."""
    done = mtcl_command(
        *("fit", "--run_dir", "run", "--tasks.search.weight", "1", "--tasks.interest", "{watch: true}"),
        *("--data.held_out", "[hashtag]", "--data.root", str(demo_root), "--data.max_length", "16"),
        *("--model.encoder.name", str(tiny_model), "--model.unseen_weight", "0.8", "--model.optimizer.lr", "3e-3"),
        *("--data.num_workers", "0", "--data.batch_size", "8", "--trainer.enable_progress_bar", "false"),
        *("--trainer.max_steps", "8", "--trainer.val_check_interval", "2", "--trainer.precision", "32-true"),
    )
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    history = _saved(run, "last")["history"]
    expected = {step: 0.2 * of["search"] + 0.4 * (of["interest"] + of["hashtag"]) for step, of in history.items()}
    shown = losses(run)[WEIGHTED_MEAN]
    assert {step: shown[step] for step in expected} == pytest.approx(expected)
    assert 0 in shown, "the base encoder's"
    best = max(expected, key=lambda step: expected[step])
    assert max(_saved(run, "best")["history"]) == best
    assert f"best checkpoint (step {best})" in done.stdout
    (row,) = [line for line in done.stdout.splitlines() if WEIGHTED_MEAN in line]
    base, now, gain = re.findall(r"[+-]?\d\.\d{4}", row)
    assert (base, now) == (f"{shown[0]:.4f}", f"{expected[best]:.4f}")
    assert float(gain) == pytest.approx(expected[best] - shown[0], abs=2e-4)
    assert f"{WEIGHTED_MEAN} {expected[8]:.4f} (base " in done.stderr
    resumed = mtcl_command(
        *("fit", "--resume", "run", "--model.unseen_weight", "0"),
        *("--trainer.max_steps", "10", "--trainer.val_check_interval", "2"),
    )
    assert resumed.returncode == 0, resumed.stderr
    assert set(_saved(run, "best")["history"]) == {10}, "chosen again from there on"
    assert "best checkpoint (step 10)" in resumed.stdout
    assert WEIGHTED_MEAN not in resumed.stdout


def _saved(run: Path, name: str) -> dict[str, dict[int, dict[str, float]]]:
    return dict(torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["mtcl"])


def test_without_an_unseen_task_a_run_is_refused(
    demo_root: Path, tiny_model: Path, tmp_path: Path, mtcl_command: Run
) -> None:
    refused = mtcl_command(
        *("fit", "--run_dir", "run", "--tasks.search.weight", "1", "--data.root", str(demo_root)),
        *("--model.encoder.name", str(tiny_model), "--model.unseen_weight", "0.5", "--trainer.max_steps", "2"),
    )
    assert refused.returncode == 2
    assert "model.unseen_weight is 0.5, but no watched or held-out task" in refused.stderr
    assert not list(tmp_path.glob("run/checkpoints/*"))
