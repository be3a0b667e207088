"""Hands batches from worker processes to the training process, which never waits for a batch that cannot come.

PyTorch's queue pickles a batch in a thread of its own. If that fails there, because shared memory (`/dev/shm`) is full
or no more files can be opened, the thread prints a traceback and drops the batch, and the training process waits for
ever. Here the worker pickles the batch itself and sends the error instead. A killed worker is noticed within `POLL_S`,
a hanging one after `PATIENCE_S`.

PyTorch also raises an error in the training process as soon as a worker dies, perhaps in the middle of an optimizer
step, where the state cannot be saved. That handler is removed here.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any

from torch.utils.data import get_worker_info

from mtcl.data.batch import StepBatch
from mtcl.data.parcel import Parcel
from mtcl.errors import DataError, root_cause

POLL_S = 5
PATIENCE_S = 600
DYING_S = 0.5
"""A connection of a process that is killed may break before its exit code is known."""
CRASHES = {-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE, -signal.SIGABRT}
"""Exit codes of workers that crashed on the data or in the code, so that another process would crash too."""
ADVICE = "give data.num_workers 0 to load data in the training process"
Batch = Parcel[StepBatch]


class CrashError(DataError):
    """A worker has crashed on a batch that no other process should try to assemble."""


@dataclass(frozen=True)
class Sent:
    """A pickled batch, or the reason why there is none."""

    pickled: bytes
    error: str = ""

    def open(self) -> Batch:
        """The batch. Raises `DataError` if there is none."""
        if self.error:
            raise DataError(f"a process that loads data cannot hand over a batch ({self.error}): {_advice(self.error)}")
        try:
            batch: Batch = ForkingPickler.loads(self.pickled)
        except (OSError, RuntimeError, EOFError) as error:
            reason = root_cause(error)
            raise DataError(f"the batch of a process that loads data cannot be read ({reason}): {ADVICE}") from error
        return batch

    def pin_memory(self) -> Sent | Batch:
        """The batch in page-locked memory, as PyTorch's own thread asks for it."""
        try:
            return self.open().pin_memory()
        except DataError:  # which `open` raises again, in the process itself
            return self


def handed_over(batch: StepBatch) -> Sent | Batch:
    """A batch as it leaves the process that has assembled it."""
    parcel = Parcel.of(batch)
    if get_worker_info() is None:
        return parcel
    try:
        return Sent(bytes(ForkingPickler.dumps(parcel)))
    except (OSError, RuntimeError) as error:
        return Sent(b"", error=root_cause(error))


def received(start: Callable[[], Iterator[Sent | Batch]]) -> Iterator[Batch]:
    """The batches of a loader that `start` starts. Raises `DataError` if its workers cannot hand over a batch."""
    try:
        steps = start()
    except OSError as error:
        raise DataError(f"no process can be started to load data ({error.strerror}): {ADVICE}") from error
    _forget_handler()
    while True:
        try:
            sent = _next(steps)
            batch = sent.open() if isinstance(sent, Sent) else sent
        except StopIteration:
            return
        except DataError as error:
            if isinstance(error.__cause__, OSError | EOFError):  # what a worker sent cannot be read after its end
                for worker in _workers(steps):
                    worker.join(DYING_S)
            codes = _codes(steps)
            _kill(steps)
            raise (_ended(codes) if codes else error) from error.__cause__
        yield batch


def _next(steps: Iterator[Sent | Batch]) -> Sent | Batch:
    """The next batch. An error of PyTorch's loader becomes one that says what happened."""
    waited_s = 0
    while True:
        try:
            return next(steps)
        except RuntimeError as error:
            if codes := _codes(steps):
                raise _ended(codes) from error
            if "open files" in str(error):  # of this process
                raise DataError(f"too many files are open to load data: {_advice('open files')}") from error
            if "timed out" not in str(error):
                raise
        waited_s += POLL_S
        if waited_s >= PATIENCE_S:
            raise DataError(f"the processes that load data have sent no batch for {waited_s:,} s: {ADVICE}")


def _ended(codes: list[int]) -> DataError:
    """The error of workers that have ended with these exit codes."""
    for code in codes:
        if code in CRASHES:
            return CrashError(f"a process that loads data has crashed ({signal.Signals(-code).name}): {ADVICE}")
        if code == -signal.SIGKILL:
            return DataError(
                "a process that loads data was killed, as the system does when memory is short: give more memory, or "
                f"fewer data.num_workers; {ADVICE}"
            )
    return DataError(f"a process that loads data has ended by itself (code {codes[0]}): {ADVICE}")


def _advice(reason: str) -> str:
    if "shared memory" in reason or "No space" in reason:
        return f"give more shared memory (docker run --shm-size 2g, for example), or {ADVICE.removeprefix('give ')}"
    if "open files" in reason:
        return f"raise the limit of open files (ulimit -n), or {ADVICE.removeprefix('give ')}"
    return ADVICE


def _workers(steps: Any) -> list[Any]:
    return list(getattr(steps, "_workers", ()))


def _codes(steps: Any) -> list[int]:
    """Exit codes of the workers that have ended."""
    return [worker.exitcode for worker in _workers(steps) if worker.exitcode is not None]


def _kill(steps: Any) -> None:
    """Kill the workers, because a hanging one would keep this process from ending."""
    for worker in _workers(steps):
        with contextlib.suppress(OSError, ValueError):
            worker.kill()


def _forget_handler() -> None:
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        return
    if str(getattr(signal.getsignal(signal.SIGCHLD), "__module__", "")).startswith("torch.utils.data"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
