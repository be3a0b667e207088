"""How child processes end: no child outlives the process that needs it, and none ends before its work is done.

    child            started by             ended by                        why
    ---------------  ---------------------  ------------------------------  -----------------------------------------
    a loader's       its rank, through      the kernel, when the rank ends  A scheduler signals all processes of a
    worker           PyTorch's DataLoader   (prctl), or a SIGTERM from its  run, but the rank needs batches until it
                                            rank; other signals are         has saved its state. A worker has no
                                            ignored                         state, so it may be killed.
    a study's run    a thread of            a SIGTERM to itself, when the   A run has a state to save, so it is told
                     `mtcl transfer`        pipe from the study closes      to stop. The pipe closes however the
                                                                            study ends; prctl would signal when the
                                                                            thread that started the run ends.
    a rank other     the first rank (by     its launcher, as soon as any    The launcher would kill ranks that still
    than the first   Lightning), torchrun   rank has failed                 have an error to print. So a rank that
                                                                            fails waits for the first one to end,
                                                                            for a limited time: it may hang.
    a process of     the first one          as a loader's worker            What is finished is in files, so it may
    `mtcl embed`                                                            be killed at any moment.
    its tokenizer    the one that needs it  the end of its pipe             It has no state.

Functions: `stay_with_rank`; `out_of_reach_of_interrupts`; `start_tied` and `stop_with_starter`; `leave`. Every command
imports this module, so heavy imports are inside the functions.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

SIGNALS_TO_ALL = {signal.SIGTERM, signal.SIGUSR1} if hasattr(signal, "SIGUSR1") else {signal.SIGTERM}
PR_SET_PDEATHSIG = 1
"""Option of Linux's prctl: the signal that a process gets when its parent ends."""
PATIENCE_S = 10.0
PARENT = os.getppid()
"""The process that started this one; for ranks started by Lightning, the first rank."""


@contextlib.contextmanager
def out_of_reach_of_interrupts() -> Iterator[None]:
    """Processes that are started in this block never get a Ctrl-C, also while they import their modules. It reaches all
    processes of a terminal, and the first one decides.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited; here it comes afterwards
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def stay_with_rank(_: int) -> None:
    """Make this process, a loader's worker, end when its rank ends or stops it, and not before."""
    import ctypes
    import multiprocessing

    rank = multiprocessing.parent_process()
    if rank is None or not hasattr(signal, "sigwaitinfo"):
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS_TO_ALL)
    threading.Thread(target=_end_when_told, args=(rank.pid,), daemon=True).start()
    if os.getppid() == rank.pid:  # otherwise a fork server started it
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_when_told(rank: int | None) -> None:
    while True:
        told = signal.sigwaitinfo(SIGNALS_TO_ALL)
        if told.si_pid == rank and told.si_signo == signal.SIGTERM:
            os._exit(0)


def start_tied(command: Sequence[str], *, environment: Mapping[str, str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a command that calls `stop_with_starter`. Its standard input is a pipe from this process.

    The command gets its own session, so Ctrl-C reaches only this process, which then decides about the command.
    """
    import subprocess

    return subprocess.Popen(  # noqa: S603, our own command
        command, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
    )


def stop_with_starter() -> None:
    """Send this process a SIGTERM when the one that started it (`start_tied`) ends, for whatever reason."""
    threading.Thread(target=_stop_at_end_of, args=(os.dup(sys.stdin.fileno()),), daemon=True).start()


def _stop_at_end_of(pipe: int) -> None:
    os.read(pipe, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def leave(code: int) -> None:
    """Exit. In a distributed run, exit right after the exit handlers and skip Python's cleanup, because gloo's threads
    still run and have aborted a rank during it ("terminate called without an active exception", -6).
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized():
        if code and os.environ.get("LOCAL_RANK", "0") != "0":
            wait_for_the_first_rank()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def wait_for_the_first_rank() -> None:
    """Wait at most `PATIENCE_S` seconds for the first rank to end."""
    until = time.monotonic() + PATIENCE_S
    while os.getppid() == PARENT and time.monotonic() < until:
        time.sleep(0.05)
