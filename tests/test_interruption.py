"""Signals end a run with its state saved, on one rank and on several; nothing hangs.

python -m pytest tests/test_interruption.py
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests import test_resume
from tests.conftest import INTEREST, Run
from tests.forks import Command
from tests.test_distributed import RANKS
from tests.test_resume import options, weights

ENDLESS = {"trainer.max_steps": 100_000, "trainer.val_check_interval": 100_000, "trainer.log_every_n_steps": 5}


pytestmark = pytest.mark.usefixtures("starts_processes")
STARTED: list[Command] = []


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """A test that fails leaves no run behind, which would slow down those that follow."""
    yield
    while STARTED:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(STARTED.pop().pid, signal.SIGKILL)


def start(arguments: list[str], folder: Path, cache: Path, command: str = "fit") -> Command:
    STARTED.append(test_resume.start(arguments, folder, cache, command, log=None))
    return STARTED[-1]


def wait_for(path: Path, process: Command) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, "the run ended by itself"
        assert time.monotonic() < deadline, f"{path} is not there"
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


@pytest.mark.parametrize(
    ("number", "ranks", "to"),
    [
        pytest.param(signal.SIGTERM, 1, "first", marks=pytest.mark.nightly),
        (signal.SIGINT, 1, "first"),
        pytest.param(signal.SIGTERM, 2, "all", marks=pytest.mark.nightly),
        (signal.SIGTERM, 2, "last"),
        (signal.SIGTERM, 1, "group"),
        (signal.SIGUSR1, 1, "group"),
        (signal.SIGTERM, 2, "group"),
    ],
)
def test_stops_saved(
    tiny_model: Path, demo_root: Path, cache: Path, tmp_path: Path, number: signal.Signals, ranks: int, to: str
) -> None:
    """A group is all processes of the run, those that load data among them, as schedulers signal it."""
    workers = 1 if to == "group" else 0
    changed = {**ENDLESS, **(RANKS if ranks > 1 else {}), "data.num_workers": workers}
    process = start(options(tiny_model, demo_root, "run", **changed), tmp_path, cache)
    last = tmp_path / "runs" / "run" / "checkpoints" / "last.ckpt"
    wait_for(last, process)
    before = torch.load(last, weights_only=True)["global_step"]
    others = children(process.pid) if ranks > 1 else []
    targets = {"first": [process.pid], "all": [process.pid, *others], "last": others, "group": [-process.pid]}[to]
    assert targets
    for pid in targets:
        os.kill(pid, number)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    step = torch.load(last, weights_only=True)["global_step"]
    assert step >= before
    assert f"stopped at step {step}; continue with: mtcl fit --resume runs/run" in errors
    events = EventAccumulator(str(tmp_path / "runs" / "run"))
    events.Reload()
    assert events.Scalars("train/learning_rate")[-1].step == step, "the values up to the stop are shown"


@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.nightly), 2])
def test_a_validation_that_is_due_is_not_lost(
    tiny_model: Path, demo_root: Path, cache: Path, tmp_path: Path, ranks: int
) -> None:
    """Every step is validated: the checkpoint of the stop has its own step's figures, and knows the best of them."""
    changed = {**ENDLESS, **(RANKS if ranks > 1 else {}), "data.num_workers": 0}
    changed |= {"trainer.val_check_interval": 1, "trainer.log_every_n_steps": 1, "checkpoint_every_n_steps": 1}
    process = start(options(tiny_model, demo_root, "run", **changed), tmp_path, cache)
    last = tmp_path / "runs" / "run" / "checkpoints" / "last.ckpt"
    wait_for(last, process)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=60)
    saved = torch.load(last, weights_only=True)
    history = saved["mtcl"]["history"]
    assert sorted(history) == list(range(1, saved["global_step"] + 1))
    best = saved["callbacks"][next(key for key in saved["callbacks"] if "BestCheckpoint" in key)]
    means = [sum(primary.values()) / len(primary) for primary in history.values()]
    assert float(best["best_model_score"]) == pytest.approx(max(means), abs=1e-6)


SLOW = """
import time
from pathlib import Path

from mtcl import MRR, Files, LabelText, Task



class Slow(MRR):
    def __call__(self, hits_NK, num_relevant_N):
        Path("judging").touch()
        time.sleep(2)
        return super().__call__(hits_NK, num_relevant_N)

"""
SLOW += INTEREST.format(name="slow", metric="Slow")


@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.nightly), 2])
def test_an_evaluation_that_is_stopped_is_no_success(
    tiny_model: Path, demo_root: Path, cache: Path, tmp_path: Path, ranks: int
) -> None:
    """A study takes a code of 0 for a run that is done. Of two ranks one judges while the other waits for it."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "slow.py").write_text(SLOW)
    given = ["--run_dir", "runs/run", "--model.encoder.name", str(tiny_model), "--data.root", str(demo_root)]
    tasks = ["--tasks.slow.weight", "1", "--tasks.search.weight", "1"]
    several = [x for key, value in (RANKS if ranks > 1 else {}).items() for x in (f"--{key}", str(value))]
    process = start([*given, *tasks, *several], tmp_path, cache, "test")
    wait_for(tmp_path / "judging", process)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert not (tmp_path / "runs" / "run" / "test.json").exists()


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.nightly)])
def test_a_stop_before_the_first_step(
    tiny_model: Path, demo_root: Path, cache: Path, tmp_path: Path, ranks: int
) -> None:
    """The base encoder's evaluation may take minutes; there is nothing to save, and nothing to continue."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "slow.py").write_text(SLOW.replace("sleep(2)", "sleep(20)"))
    changed = {**ENDLESS, "tasks.slow.weight": 1, **(RANKS if ranks > 1 else {}), "data.num_workers": 0}
    process = start(options(tiny_model, demo_root, "run", **changed), tmp_path, cache)
    wait_for(tmp_path / "judging", process)
    os.killpg(process.pid, signal.SIGTERM)
    errors = process.communicate(timeout=15)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert errors.count("SIGTERM: the run stops before its first step") == 1
    assert "Traceback" not in errors
    assert "--resume" not in errors
    if ranks == 1:
        assert "stopped at step 0; start it again: it has no checkpoint yet" in errors
        assert not (tmp_path / "runs" / "run" / ".fit.lock").exists()


@pytest.mark.parametrize(("first", "second"), [("TERM", "INT"), pytest.param("INT", "USR1", marks=pytest.mark.nightly)])
def test_a_second_signal_ends_the_run_at_once(
    tiny_model: Path, demo_root: Path, cache: Path, tmp_path: Path, first: str, second: str
) -> None:
    """The state is saved after an optimizer step, and this one never ends."""
    changed = {
        **ENDLESS,
        "trainer.accumulate_grad_batches": 1_000_000,
        "data.num_workers": 0,
        "model.evaluate_base": False,
    }
    process = start(options(tiny_model, demo_root, "run", **changed), tmp_path, cache)
    wait_for(tmp_path / "runs" / "run" / "config.yaml", process)
    time.sleep(1)
    for name in (first, first):  # the same one twice, as a launcher and a scheduler send it
        os.kill(process.pid, signal.Signals[f"SIG{name}"])
    time.sleep(1.5)
    assert process.poll() is None
    os.kill(process.pid, signal.Signals[f"SIG{second}"])
    errors = process.communicate(timeout=5)[1]
    assert process.returncode == 128 + signal.Signals[f"SIG{second}"]
    lines = [line for line in errors.splitlines() if line.startswith("SIG")]
    assert lines == [
        f"SIG{first}: the run saves its state after this step and stops; a second signal ends it at once",
        f"SIG{second}: the run ends at once; what was done since the last checkpoint is lost",
    ]


def test_killed_rank_ends_the_run(tiny_model: Path, demo_root: Path, cache: Path, tmp_path: Path) -> None:
    process = start(
        options(tiny_model, demo_root, "run", **{**ENDLESS, **RANKS, "data.num_workers": 0}), tmp_path, cache
    )
    wait_for(tmp_path / "runs" / "run" / "checkpoints" / "last.ckpt", process)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode != 0


def test_two_ranks_go_on_as_one(
    tiny_model: Path, demo_root: Path, cache: Path, tmp_path: Path, mtcl_command: Run
) -> None:
    """A part of a run on two ranks and the rest on one ends where a run on one rank does (dropout off)."""
    common = {
        "model.encoder.dropout": 0.0,
        "model.optimizer.lr": 0.0001,
        "trainer.val_check_interval": 150,
        "trainer.max_steps": 150,
        "trainer.log_every_n_steps": 5,
        "checkpoint_every_n_steps": 10,
        "data.num_workers": 0,
    }
    whole = mtcl_command("fit", *options(tiny_model, demo_root, "whole", **common))
    assert whole.returncode == 0, whole.stderr
    first = start(options(tiny_model, demo_root, "moved", **common, **RANKS), tmp_path, cache)
    last = tmp_path / "runs" / "moved" / "checkpoints" / "last.ckpt"
    wait_for(last, first)
    os.kill(first.pid, signal.SIGTERM)
    first.communicate(timeout=60)
    assert 0 < torch.load(last, weights_only=True)["global_step"] < 150
    done = mtcl_command("fit", "--resume", "runs/moved", "--trainer.devices", "1", "--trainer.strategy", "auto")
    assert done.returncode == 0, done.stderr
    for name, value in weights(tmp_path / "runs" / "whole").items():
        torch.testing.assert_close(weights(tmp_path / "runs" / "moved")[name], value, atol=1e-5, rtol=1e-3, msg=name)
