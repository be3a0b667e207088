"""A forked command is what `python -m mtcl` is, to those that start it.

python -m pytest tests/test_forks.py
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forks
from tests.conftest import ROOT
from tests.forks import Command

pytestmark = [
    pytest.mark.usefixtures("starts_processes"),
    pytest.mark.skipif(not forks.FORKS, reason="commands are not forked here"),
]
TASK = """
import os
import sys
import time
from pathlib import Path

from mtcl import MRR, Files, QueryDocument, Task

facts = [os.getcwd(), os.environ.get("SAID"), "PATH" in os.environ, os.getsid(0) == os.getpid(), sys.argv[1:]]
print(facts, sys.modules["__main__"].__spec__.name, sys.path[0], file=sys.stderr)
if "WAITS" in os.environ:
    Path("waits").touch()
    time.sleep(600)


class Seen(Task):
    \"\"\"A task file that tells what it sees.\"\"\"

    name = "seen"
    data = Files("seen")
    pairs = QueryDocument()
    metric = MRR()
    sample = [{"query": "a", "document": "b"}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "seen.py").write_text(TASK)
    return tmp_path


def environment(**given: str) -> dict[str, str]:
    return {"HOME": os.environ["HOME"], "PYTHONPATH": str(ROOT), "SAID": "é", **given}


@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize("arguments", [["tasks", "list"], ["tasks", "show", "nothing"], ["no"], []])
def test_it_sees_and_says_the_same(folder: Path, arguments: list[str], session: bool) -> None:
    plain = subprocess.run(
        [sys.executable, "-m", "mtcl", *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        start_new_session=session,
    )
    command = Command(arguments, folder=folder, environment=environment(), session=session)
    out, err = command.communicate(60)
    assert (out, err, command.returncode) == (plain.stdout, plain.stderr, plain.returncode)


def test_a_signal_is_its_exit_code_and_what_it_wrote_is_kept(folder: Path) -> None:
    log = folder / "log.txt"
    log.write_text("before\n")
    command = Command(["tasks", "list"], folder=folder, environment=environment(WAITS="1"), session=True, log=log)
    with pytest.raises(subprocess.TimeoutExpired):
        command.wait(0.1)
    while not (folder / "waits").exists():
        assert command.poll() is None
    os.killpg(command.pid, signal.SIGKILL)
    assert command.wait(60) == command.poll() == -signal.SIGKILL
    assert log.read_text().startswith("before\n[")


def test_what_it_starts_is_waited_for_as_well(folder: Path) -> None:
    """`communicate` reads until all that can write have ended, so a process that is left behind is noticed."""
    code = "import subprocess\nsubprocess.Popen(['sleep', '600'])\n"
    (folder / "tasks" / "seen.py").write_text(code + TASK)
    command = Command(["tasks", "list"], folder=folder, environment=environment(PATH=os.environ["PATH"]), session=True)
    with pytest.raises(subprocess.TimeoutExpired):
        command.communicate(5)
    assert command.wait(60) == 0
    os.killpg(command.pid, signal.SIGKILL)
