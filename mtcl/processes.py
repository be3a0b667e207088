"""Which process ends which: no child outlives the process that needs it, and none ends before its part is done.

    child            started by             ended by                        why in this way
    ---------------  ---------------------  ------------------------------  -----------------------------------------
    a loader's       its rank, through      the kernel, when the rank ends  A scheduler signals all processes of a
    worker           PyTorch's DataLoader   (prctl), or a SIGTERM of the    run, but the rank needs batches until it
                                            rank; nobody else's signals     has saved its state. A worker has none,
                                                                            so it may be killed.
    a study's run    a thread of            its own SIGTERM, when the pipe  A run has a state to save, so it is told
                     `mtcl transfer`        that the study holds closes     to stop. A pipe closes however the study
                                                                            ends; prctl would signal when the thread
                                                                            ends that started the run.
    a rank beside    the first rank (by     its launcher, as soon as any    The launcher kills ranks that still have
    the first        Lightning), torchrun   rank has failed                 something to say. So a rank that fails
                                                                            waits for the first one to end, though
                                                                            not for ever: that one may hang.

Functions: `stay_with_rank`; `start_tied` and `stop_with_starter`; `leave`. Every command imports this module, so it
imports what is heavier inside of them.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

SIGNALS_TO_ALL = {signal.SIGTERM, signal.SIGUSR1} if hasattr(signal, "SIGUSR1") else {signal.SIGTERM}
PR_SET_PDEATHSIG = 1
"""Of Linux's prctl: the signal that a process gets when its parent ends."""
PATIENCE_S = 10.0
PARENT = os.getppid()
"""The process that started this one: of ranks that Lightning starts, the first."""


def stay_with_rank(_: int) -> None:
    """Have this process, a loader's worker, end when its rank ends or wants it to, and not before."""
    import ctypes
    import multiprocessing

    rank = multiprocessing.parent_process()
    if rank is None or not hasattr(signal, "sigwaitinfo"):
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS_TO_ALL)
    threading.Thread(target=_end_when_told, args=(rank.pid,), daemon=True).start()
    if os.getppid() == rank.pid:  # else it comes from a server of forks
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_when_told(rank: int | None) -> None:
    while True:
        told = signal.sigwaitinfo(SIGNALS_TO_ALL)
        if told.si_pid == rank and told.si_signo == signal.SIGTERM:
            os._exit(0)


def start_tied(command: Sequence[str], *, environment: Mapping[str, str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a command that calls `stop_with_starter`. Its standard input is the pipe that ties it to this process.

    It has a session of its own: Ctrl-C reaches this process only, which says what becomes of the other.
    """
    import subprocess

    return subprocess.Popen(  # noqa: S603, our own command
        command, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
    )


def stop_with_starter() -> None:
    """Have this process get a SIGTERM when the one that started it (`start_tied`) ends, for whatever reason."""
    threading.Thread(target=_stop_at_end_of, args=(os.dup(sys.stdin.fileno()),), daemon=True).start()


def _stop_at_end_of(pipe: int) -> None:
    os.read(pipe, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def leave(code: int) -> None:
    """Exit. Of several ranks each ends right after its exit handlers, without clearing Python up: threads of gloo are
    still there, and have been seen to abort a rank meanwhile ("terminate called without an active exception", -6).
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
    """Up to `PATIENCE_S` seconds."""
    until = time.monotonic() + PATIENCE_S
    while os.getppid() == PARENT and time.monotonic() < until:
        time.sleep(0.05)
