"""Workers that cannot hand over a batch: nothing hangs, the cause is one line, and the run saves its state.

python -m pytest tests/test_handover.py
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import get_worker_info

from mtcl import DataError
from mtcl.data import handover
from mtcl.data.batch import StepBatch
from mtcl.data.handover import CrashError
from mtcl.data.loader import Looking, StepLoader
from mtcl.data.packing import Packed
from mtcl.data.parcel import Parcel
from tests.conftest import Run
from tests.test_interruption import ENDLESS, children, start, wait_for
from tests.test_resume import options

STEPS = 8
FAILS_AT = 3


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crashed() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs() -> None:
    time.sleep(600)


def cannot_pickle(error: Exception) -> None:
    """As PyTorch fails to put a batch's tensor into shared memory; what has no tensor can be sent."""
    dumps = handover.ForkingPickler.dumps

    def fail(content: object, protocol: int | None = None) -> memoryview:
        if isinstance(content, Parcel):
            raise error
        return dumps(content, protocol)

    handover.ForkingPickler.dumps = fail  # type: ignore[method-assign, assignment]


def out_of_shared_memory() -> None:
    reason = "unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)"
    cannot_pickle(RuntimeError(reason))


def out_of_files() -> None:
    cannot_pickle(OSError(errno.EMFILE, "Too many open files"))


@dataclass
class Steps:
    """Small batches, of which one makes the worker fail."""

    fail: Callable[[], None]

    def __getitem__(self, step: int) -> StepBatch:
        if step == FAILS_AT and get_worker_info() is not None:
            self.fail()
        return StepBatch(step, Packed((), torch.arange(2), num_tokens=0), (), 2, torch.full((2, 3), float(step)))


def loader(fail: Callable[[], None], **given: Any) -> StepLoader:
    dataset: Any = Steps(fail)
    return StepLoader(dataset, Looking(), num_steps=STEPS, end=STEPS, num_workers=1, **given)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtcl.data.loader.POLL_S", 1)
    monkeypatch.setattr("mtcl.data.handover.POLL_S", 1)
    monkeypatch.setattr("mtcl.data.handover.PATIENCE_S", 2)


@pytest.mark.parametrize(
    ("fail", "told"),
    [
        (killed, "was killed, as the system does when memory is short: give more memory, or fewer data.num_workers"),
        (hangs, "have sent no batch for 2 s: give data.num_workers 0 to load data in the training process"),
        (out_of_shared_memory, "No space left on device (28)): give more shared memory (docker run --shm-size 2g"),
        (out_of_files, "cannot hand over a batch ([Errno 24] Too many open files): raise the limit of open files"),
    ],
)
def test_the_cause_is_told_and_the_batches_go_on(fail: Callable[[], None], told: str) -> None:
    failures: list[DataError] = []
    batches = list(loader(fail, on_failure=failures.append))
    assert [batch.step for batch in batches] == list(range(STEPS)), "each once, in order"
    assert [float(batch.pooled_TH.mean()) for batch in batches if batch.pooled_TH is not None] == list(range(STEPS))
    (failure,) = failures
    assert told in str(failure)
    assert "\n" not in str(failure)


def test_what_crashes_a_worker_is_not_tried_again_here() -> None:
    with pytest.raises(CrashError, match=r"has crashed \(SIGSEGV\)"):
        list(loader(crashed))


def test_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fail)
    failures: list[DataError] = []
    assert len(list(loader(killed, on_failure=failures.append))) == STEPS
    assert "no process can be started to load data (Resource temporarily unavailable)" in str(failures[0])


@pytest.mark.usefixtures("starts_processes")
@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.nightly)])
def test_a_killed_worker_ends_the_run_with_its_state_saved(
    tiny_model: Path, demo_root: Path, cache: Path, tmp_path: Path, mtcl_process: Run, ranks: int
) -> None:
    several = {"trainer.devices": 2, "trainer.strategy": "ddp", "trainer.accelerator": "cpu"} if ranks > 1 else {}
    changed = {**ENDLESS, **several, "data.num_workers": 1, "model.evaluate_base": False}
    process = start(options(tiny_model, demo_root, "run", **changed), tmp_path, cache)
    last = tmp_path / "runs" / "run" / "checkpoints" / "last.ckpt"
    wait_for(last, process)
    before = torch.load(last, weights_only=True)["global_step"]
    rank = process.pid if ranks == 1 else children(process.pid)[0]
    os.kill(children(rank)[-1], signal.SIGKILL)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert "Traceback" not in errors
    step = torch.load(last, weights_only=True)["global_step"]
    assert step > before
    (line,) = [line for line in errors.splitlines() if line.startswith("mtcl:")]
    assert "a process that loads data was killed" in line
    assert line.endswith(f"the run is saved at step {step}, continue with: mtcl fit --resume runs/run")
    end = ("--trainer.max_steps", str(step + 2), "--trainer.val_check_interval", str(step + 2))
    done = mtcl_process("fit", "--resume", "runs/run", *end)
    assert done.returncode == 0, done.stderr
