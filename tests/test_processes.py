"""Children end with the process that needs them, and not before.

python -m pytest tests/test_processes.py
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

WORKER = """
import multiprocessing, os, signal, sys, time
from pathlib import Path
from mtcl.processes import stay_with_rank

def work(folder):
    stay_with_rank(0)
    Path(folder, "worker").write_text(str(os.getpid()))
    time.sleep(60)

worker = multiprocessing.get_context("fork").Process(target=work, args=(sys.argv[1],))
worker.start()
sys.stdin.read(1)
worker.terminate()
worker.join(20)
Path(sys.argv[1], "code").write_text(str(worker.exitcode))
"""
STARTER = """
import os, sys, time
from mtcl.processes import start_tied

child = start_tied([sys.executable, "-c", sys.argv[2], sys.argv[1]], environment=os.environ, output=sys.stderr.buffer)
time.sleep(60)
"""
TIED = """
import os, signal, sys, time
from pathlib import Path
from mtcl.processes import stop_with_starter

def save(number, frame):
    Path(sys.argv[1], "saved").touch()
    sys.exit(0)

signal.signal(signal.SIGTERM, save)
stop_with_starter()
Path(sys.argv[1], "child").write_text(str(os.getpid()))
time.sleep(60)
"""
FIRST_RANK = """
import subprocess, sys

subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]])
sys.stdin.read(1)
"""
OTHER_RANK = """
import os, sys, time
from pathlib import Path
from mtcl import processes

processes.PATIENCE_S = float(os.environ["PATIENCE_S"])
Path(sys.argv[1], "child").write_text(str(os.getpid()))
since = time.monotonic()
processes.wait_for_the_first_rank()
Path(sys.argv[1], "waited").write_text(str(time.monotonic() - since))
"""
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a script in a session of its own; whatever the test leaves of it is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def run(script: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", script, str(tmp_path), *arguments]
        own = os.environ | {"PYTHONPATH": str(ROOT)} | environment
        started.append(subprocess.Popen(command, env=own, stdin=subprocess.PIPE, start_new_session=True))
        return started[-1]

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_until(reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def pid_in(path: Path) -> int:
    """The number that a process writes to the file once it is ready."""
    wait_until(lambda: path.exists() and path.read_text())
    return int(path.read_text())


def is_running(pid: int) -> bool:
    """False for one that has ended and that nobody has asked about, too."""
    stat = Path("/proc", str(pid), "stat")
    with contextlib.suppress(OSError):
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    return False


pytestmark = [
    pytest.mark.usefixtures("starts_processes"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="prctl and /proc are Linux's"),
]


def test_a_worker_ends_with_its_rank_that_is_killed(tmp_path: Path, start: Start) -> None:
    rank = start(WORKER)
    worker = pid_in(tmp_path / "worker")
    rank.kill()
    wait_until(lambda: not is_running(worker))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_worker_ends_by_its_rank_s_signal_and_by_nobody_else_s(
    tmp_path: Path, start: Start, number: signal.Signals
) -> None:
    rank = start(WORKER)
    worker = pid_in(tmp_path / "worker")
    for _ in range(3):
        os.kill(worker, number)
        time.sleep(0.1)
    assert is_running(worker)
    rank.communicate(b"x", timeout=30)
    assert (tmp_path / "code").read_text() == "0"
    assert not is_running(worker)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_tied_process_is_told_to_stop_however_its_starter_ends(
    tmp_path: Path, start: Start, number: signal.Signals
) -> None:
    starter = start(STARTER, TIED)
    child = pid_in(tmp_path / "child")
    assert is_running(child)
    starter.send_signal(number)
    wait_until(lambda: not is_running(child))
    assert (tmp_path / "saved").exists(), "it could save its state"


def test_a_rank_waits_for_the_first_one_but_not_for_ever(tmp_path: Path, start: Start) -> None:
    first = start(FIRST_RANK, OTHER_RANK, PATIENCE_S="60")
    pid_in(tmp_path / "child")
    time.sleep(0.3)
    assert not (tmp_path / "waited").exists()
    first.communicate(b"x", timeout=30)
    wait_until((tmp_path / "waited").exists)

    (tmp_path / "waited").unlink()
    start(FIRST_RANK, OTHER_RANK, PATIENCE_S="0.5")
    wait_until(lambda: (tmp_path / "waited").exists() and (tmp_path / "waited").read_text())
    assert 0.5 <= float((tmp_path / "waited").read_text()) < 5


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows has no signal masks")
def test_a_child_of_embed_is_out_of_reach_of_interrupts_from_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it imports its modules, it cannot ignore them itself."""
    masks: list[bool] = []

    class Child:
        def __init__(self, *_: object, **__: object) -> None: ...

        def start(self) -> None:
            told = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
            done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
            masks.append(done.stdout == "True\n")

        def terminate(self, *_: object) -> None: ...

        join = kill = terminate

    from multiprocessing import get_context

    from mtcl.deploy.embed import tokens, workers

    context = get_context("spawn")
    monkeypatch.setattr(context, "Process", Child, raising=False)
    monkeypatch.setattr(workers.multiprocessing, "get_context", lambda _: context)
    monkeypatch.setattr(workers, "_follow", lambda *_: None)
    process = tokens.TokenProcess(None, 8)  # type: ignore[arg-type]
    process._start()
    job = workers.Job(Path("out"), (), None)  # type: ignore[arg-type]
    workers.embed_in_processes(job, None, None, [], num_processes=2, report=lambda *_: None)  # type: ignore[arg-type]
    assert masks == [True] * 3
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
