"""The README's section "Use your model": every line is run, one after the other.

python -m pytest tests/test_readme_use.py
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Run

SECTION = (ROOT / "README.md").read_text(encoding="utf-8").split("## Use your model\n")[1].split("\n## ")[0]
(COMMANDS,) = re.findall(r"```bash\n(.*?)```", SECTION, flags=re.S)
(CODE,) = re.findall(r"```python\n(.*?)```", SECTION, flags=re.S)
LINES = [shlex.split(line, comments=True) for line in COMMANDS.strip().splitlines()]


@pytest.fixture
def checkout(trained_run: Path, demo_root: Path, tmp_path: Path) -> Path:
    """A folder in which the quickstart has been run."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(trained_run)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "demo").symlink_to(demo_root)
    return tmp_path


def test_it_is_short() -> None:
    assert len([line for line in (COMMANDS + CODE).splitlines() if line.strip()]) <= 10
    assert [line[1] if line[0] == "mtcl" else line[0] for line in LINES] == [
        *("export", "embed", "search", "serve", "curl"),
    ]


@pytest.mark.usefixtures("starts_processes")  # the tokeniser of `mtcl embed`
def test_its_commands_and_its_code(
    checkout: Path, mtcl_command: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sentence_transformers")
    for line in LINES[:3]:
        done = mtcl_command(*line[1:])
        assert done.returncode == 0, done.stderr
    assert len(re.findall(r"\b0\.\d+", done.stdout)) >= 3, "three neighbours with their scores"
    monkeypatch.chdir(checkout)
    exec(compile(CODE, "README.md", "exec"), {})
    assert re.search(r"tensor\(\[\[-?[01]\.\d+", capsys.readouterr().out)


@pytest.mark.usefixtures("starts_processes")
def test_its_server(checkout: Path) -> None:
    pytest.importorskip("uvicorn")
    serve, curl = LINES[3:]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", *(word.replace("8000", port) for word in serve)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert f"http://127.0.0.1:{port}" in process.stdout.readline()
        body = curl[curl.index("-d") + 1].encode()
        request = urllib.request.Request(curl[1].replace("8000", port), data=body)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: Any = json.loads(answer.read())
    finally:
        process.terminate()
        assert process.wait(30) == 0
    assert len(found["data"][0]["embedding"]) == 16
