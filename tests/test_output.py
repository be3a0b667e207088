r"""What a terminal, a pipe or a full disk does to output: one line, no traceback, and nothing of a text is lost.

python -m pytest tests/test_output.py
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from mtcl import console as console_module
from mtcl.__main__ import main
from mtcl.console import line_of, one_line, plain, track
from mtcl.training.callbacks.report import comparison
from tests.conftest import INTEREST, ROOT, Run

ODD = "[bold]a[/] :star: \x1b[2J\x9b1m\u202eb\r\nc"
SHOWN = r"[bold]a[/] :star: \x1b[2J\x9b1m\u202eb\r c"
TASK = "from mtcl import MRR, Files, LabelText, Task\n" + INTEREST.format(name="odd", metric="MRR")
TASK = TASK.replace("A post -> its topic.", r"Größe → [red]x[/red] \x1b[31m of a post.")


def run(arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`mtcl` with the arguments, redirections among them, as a shell runs it."""
    own = {"PYTHONPATH": str(ROOT), "PYTHON": sys.executable}
    command = f"$PYTHON -m mtcl {arguments}; echo code ${{PIPESTATUS[0]}} >&2"
    return subprocess.run(
        ["/bin/bash", "-c", command],
        cwd=folder,
        env=os.environ | own | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path, starts_processes: None) -> Path:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "odd.py").write_text(TASK, encoding="utf-8")
    return tmp_path


def test_an_ascii_terminal_loses_nothing(folder: Path) -> None:
    done = run("tasks show odd", folder, PYTHONIOENCODING="ascii")
    assert done.stderr == "code 0\n"
    assert r"Gr\xf6\xdfe \u2192 [red]x[/red] \x1b[31m of a post." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("tasks list >&-", "code 0"),
        ("tasks list >&- 2>&-", "code 0"),
        ("tasks list > /dev/full", "mtcl: No space left on device: standard output\ncode 2"),
        ("--help > /dev/full", "mtcl: No space left on device: standard output\ncode 2"),
        ("tasks list | head -c 1 > /dev/null", None),
    ],
)
def test_output_that_cannot_be_written(folder: Path, arguments: str, told: str | None) -> None:
    done = run(arguments, folder)
    assert "Traceback" not in done.stderr
    if told is None:
        assert done.stderr.strip() in ("code 141", "code 0")  # 0 if all was written before the pipe was closed
    else:
        assert done.stderr.strip() == told


def test_control_characters_are_shown() -> None:
    assert plain("a\tb\nc") == "a\tb\nc"
    assert line_of(ODD) == SHOWN
    assert one_line(ODD, 99) == SHOWN


def test_markup_is_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In tables of results and in progress bars; `[/]` alone made rich fail."""
    monkeypatch.setenv("COLUMNS", "200")
    values = {"t": (3, ODD, {"base": 0.1, "now": 0.2})}
    console_module.console().print(comparison(values, title="val", groups={"val/mean": ["t"]}))
    assert SHOWN in capsys.readouterr().out
    shown = io.StringIO()
    monkeypatch.setattr(
        console_module, "console", lambda **given: Console(file=shown, force_terminal=True, width=120, markup=False)
    )
    assert list(track(range(3), ODD)) == [0, 1, 2]
    assert "[bold]a[/]" in shown.getvalue()
    assert "\x1b[2J" not in shown.getvalue()


def test_messages_are_one_line_without_escape_codes(tmp_path: Path, mtcl_command: Run) -> None:
    done = mtcl_command("tasks", "show", "odd\x1b[2J\nname")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert r"\x1b[2J" in line


def test_a_path_that_is_too_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "n" * 256
    for arguments in (["demo", str(tmp_path / name)], ["merge", "base", name, "--out", str(tmp_path / name)]):
        assert main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("mtcl: ")
        assert name in line


def test_progress_is_logged_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(console_module, "LINE_EVERY_S", 0)
    with caplog.at_level("INFO", "mtcl"):
        assert list(track(range(4), "rank labels")) == [0, 1, 2, 3]
    assert caplog.messages == [f"rank labels: {share} %" for share in (0, 25, 50, 75)]
