"""Two ranks do what one process with the whole batch does: losses and weights after 20 steps, dropout off.

python -m pytest tests/test_distributed.py
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.conftest import Run, command_in
from tests.test_resume import losses, options, weights

RANKS = {"trainer.devices": 2, "trainer.strategy": "ddp", "trainer.accelerator": "cpu"}


@pytest.mark.parametrize("directions", [pytest.param("one", marks=pytest.mark.nightly), "both"])
def test_two_ranks_equal_one(
    tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_process: Run, mtcl_command: Run, directions: str
) -> None:
    loss = f"{{class_path: InfoNCE, init_args: {{learn_temperature: true, directions: {directions}}}}}"
    common = {
        "model.encoder.dropout": 0.0,
        "model.encoder.dim": 8,
        "tasks.search.loss": loss,
        "trainer.max_steps": 20,
        "trainer.val_check_interval": 20,
        "checkpoint_every_n_steps": 20,
        "data.num_workers": 0,
    }
    for run, name, changed in ((mtcl_command, "one", {}), (mtcl_process, "two", RANKS)):
        done = run("fit", *options(tiny_model, demo_root, name, **common, **changed))
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("run folder") == 1
    one, two = tmp_path / "runs" / "one", tmp_path / "runs" / "two"
    assert not (tmp_path / "runs" / "two-2").exists()
    found = losses(two)
    for tag, steps in losses(one).items():
        if tag.startswith("train_loss/"):
            assert found[tag] == pytest.approx(steps, rel=1e-4)
        elif tag.startswith("val"):
            assert found[tag][0] == pytest.approx(steps[0], rel=1e-6), "each text and query is evaluated on one rank"
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(two)[name], value, atol=2e-5, rtol=1e-3, msg=name)


def test_a_batch_that_ranks_do_not_divide(tiny_model: Path, demo_root: Path, mtcl_process: Run) -> None:
    done = mtcl_process("fit", *options(tiny_model, demo_root, "odd", **RANKS, **{"data.batch_size": 7}))
    assert done.returncode == 2
    assert "batch_size of task 'search' is 7, not a multiple of 2 ranks: give 6 or 8" in done.stderr
    assert " pairs, " not in done.stderr, "found before the stores are built"


FIFTY = {
    "model.encoder.dropout": 0.0,
    "model.optimizer.lr": 0.0001,
    "model.optimizer.decay": "constant",
    "trainer.max_steps": 50,
    "trainer.val_check_interval": 10,
    "trainer.accelerator": "cpu",
    "data.num_workers": 0,
}


@pytest.fixture(scope="module")
def one_rank(tiny_model: Path, demo_root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    assert command_in(folder, cache)("fit", *options(tiny_model, demo_root, "one", **FIFTY)).returncode == 0
    return folder / "runs" / "one"


def assert_equal_losses(one: Path, other: Path) -> None:
    """Losses of every step to 1e-5; ranks add in another order, so not to the last bit."""
    expected, found = losses(one), losses(other)
    tags = [tag for tag in expected if tag.startswith("train_loss/")]
    assert len(tags) == 3
    for tag in tags:
        assert found[tag] == pytest.approx(expected[tag], abs=1e-5), tag


@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.nightly)])
def test_whole_runs_on_any_number_of_ranks(
    one_rank: Path, tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_process: Run, ranks: int
) -> None:
    changed = {**FIFTY, "trainer.devices": ranks, "trainer.strategy": "ddp"}
    done = mtcl_process("fit", *options(tiny_model, demo_root, "several", **changed))
    assert done.returncode == 0, done.stderr
    assert_equal_losses(one_rank, tmp_path / "runs" / "several")


@pytest.mark.nightly
def test_ranks_come_and_go(
    one_rank: Path, tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_process: Run
) -> None:
    """20 steps on two ranks, 10 on one, 20 on four."""
    first = {**FIFTY, **RANKS, "trainer.max_steps": 20}
    done = mtcl_process("fit", *options(tiny_model, demo_root, "moved", **first))
    assert done.returncode == 0, done.stderr
    for ranks, last_step in ((1, 30), (4, 50)):
        size = ["--trainer.devices", str(ranks), "--trainer.strategy", "ddp" if ranks > 1 else "auto"]
        done = mtcl_process("fit", "--resume", "runs/moved", "--trainer.max_steps", str(last_step), *size)
        assert done.returncode == 0, done.stderr
    assert_equal_losses(one_rank, tmp_path / "runs" / "moved")
