"""How soon a command is there: nothing heavy is imported before it is needed.

python -m pytest tests/test_startup.py
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtcl.task.registry import reference_folder
from tests.conftest import ROOT
from tests.test_registry import write_task

pytestmark = pytest.mark.usefixtures("starts_processes")

MAX_S = 1.0
FILES = 40
HEAVY = {"torch", "lightning", "transformers", "datasets"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder in which 15 task files are found."""
    own = FILES - len(list(reference_folder().rglob("[!_]*.py")))
    assert own >= 2, "raise FILES: there are more reference tasks"
    for number in range(own):
        write_task(tmp_path / "tasks" / f"own_{number}.py")
    return tmp_path


def run(folder: Path, *arguments: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MTCL_")} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *flags, "-m", "mtcl", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=60)


def imported(stderr: str) -> set[str]:
    """Top-level packages in the report of `python -X importtime`."""
    return {line.group(1) for line in re.finditer(r"^import time:.*\|\s+([A-Za-z_]\w*)", stderr, flags=re.MULTILINE)}


@pytest.mark.parametrize(
    ("arguments", "kept_out"),
    [
        (["--help"], HEAVY | {"pyarrow"}),
        (["--version"], HEAVY | {"pyarrow"}),
        (["fit", "--help"], HEAVY | {"pyarrow", "jsonargparse"}),
        (["tasks", "list"], HEAVY),
    ],
    ids=["help", "version", "help of fit", "list"],
)
def test_nothing_heavy_is_imported(folder: Path, arguments: list[str], kept_out: set[str]) -> None:
    done = run(folder, *arguments, flags=("-X", "importtime"))
    packages = imported(done.stderr)
    assert "argparse" in packages or "importlib" in packages, "the report is read"
    assert not packages & kept_out


@pytest.mark.timed
def test_a_user_s_import_of_mtcl_is_light(folder: Path) -> None:
    code = "import sys, mtcl; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert not {name.split(".")[0] for name in done.stdout.split()} & (HEAVY | {"pyarrow"})


@pytest.mark.timed
@pytest.mark.parametrize(
    "arguments", [["--help"], ["fit", "--help"], ["tasks", "list"]], ids=["help", "help of fit", "list"]
)
def test_a_command_is_there_within_a_second(folder: Path, arguments: list[str]) -> None:
    seconds = []
    for _ in range(9):
        start = time.perf_counter()
        done = run(folder, *arguments)
        seconds.append(time.perf_counter() - start)
    if "list" in arguments:
        assert sum(not line.startswith(" ") for line in done.stdout.splitlines()) == FILES
    assert statistics.median(seconds) < MAX_S, f"seconds: {seconds}"


def test_a_reader_that_leaves_ends_a_command_in_silence(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mtcl", "tasks", "list"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 141
