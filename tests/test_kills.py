"""A run killed again and again, at any moment, ends with the weights of an unbroken one, bit by bit.

python -m pytest tests/test_kills.py                  # 4 kills
MTCL_KILLS=20 python -m pytest tests/test_kills.py    # 20 kills, some 4 minutes

Moments are spread over all that a run does: start-up, building token stores, training, writing a checkpoint. One is
written in every step, and dropout is on.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import Run
from tests.forks import Command
from tests.test_resume import options, start, weights

pytestmark = [pytest.mark.usefixtures("starts_processes"), pytest.mark.nightly]

KILLS = int(os.environ.get("MTCL_KILLS", "4"))
STEPS = 60 * KILLS
SETTINGS = {
    "trainer.max_steps": STEPS,
    "trainer.val_check_interval": 20,
    "trainer.log_every_n_steps": 20,
    "checkpoint_every_n_steps": 1,
}


def wait_until(reached: Callable[[], bool], process: Command) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert process.poll() is None, "the run ended before it was killed"
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.0002)


def kill_at(moment: str, process: Command, last: Path, cache: Path) -> None:
    written_before = last.stat().st_mtime_ns if last.exists() else 0
    if moment == "stores":
        wait_until(lambda: any(cache.glob(".*-*")), process)
        time.sleep(random.uniform(0, 0.05))
    elif moment == "start":
        time.sleep(random.uniform(0, 6))
    else:
        wait_until(lambda: last.exists() and last.stat().st_mtime_ns > written_before, process)
        time.sleep(random.uniform(0, 1))
    if moment == "writing":
        wait_until(lambda: any(last.parent.glob(f".{last.name}.*.part")), process)
    assert process.poll() is None, "the run ended before it was killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_killed_again_and_again(tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_process: Run) -> None:
    whole = mtcl_process("fit", *options(tiny_model, demo_root, "whole", **SETTINGS), timeout_s=300)
    assert whole.returncode == 0, whole.stderr
    cache, run = tmp_path / "cache", tmp_path / "runs" / "killed"
    last = run / "checkpoints" / "last.ckpt"
    moments = (["stores", "writing", "training", "start"] * KILLS)[:KILLS]
    resume, reached = ["--resume", str(run)], []
    for moment in moments:
        if moment == "stores":
            shutil.rmtree(cache, ignore_errors=True)
        again = (
            [*resume, "--data.root", str(demo_root)]
            if last.exists()
            else options(tiny_model, demo_root, "killed", **SETTINGS)
        )
        kill_at(moment, start(again, tmp_path, cache), last, cache)
        reached.append(torch.load(last, weights_only=True)["global_step"] if last.exists() else 0)
    print(f"killed at {list(zip(moments, reached, strict=True))} of {STEPS} steps")
    assert 0 < reached[-1] < STEPS
    done = mtcl_process("fit", *resume, "--data.root", str(demo_root), MTCL_CACHE=str(cache), timeout_s=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    for name, value in weights(tmp_path / "runs" / "whole").items():
        assert torch.equal(value, weights(run)[name]), name
    saved = [
        torch.load(p / "checkpoints" / "last.ckpt", weights_only=True)["mtcl"] for p in (run.parent / "whole", run)
    ]
    assert saved[0]["history"] == saved[1]["history"]
    assert not list(last.parent.glob(".*")), "nothing half-written is left"
