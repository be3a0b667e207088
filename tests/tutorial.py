"""Follows a page of the documentation literally: writes its files and runs its commands, in a folder of its own.

python -m tests.tutorial docs/tutorial.md /tmp/first_task      # prints each step with its time

A block of code after a line that ends with `path`: is that file. Blocks of `bash` and `python` are run, those of `sh`
(installation) are not. A block without a language is what the command before it prints. Lines with a decimal
number, which depend on the machine, and those with dots are not compared.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(?P<before>[^\n]*)\n\n```(?P<language>\w*)\n(?P<text>.*?)```", flags=re.S)
FILE = re.compile(r"`(?P<path>[\w./]+\.\w+)`:$")


@dataclass(frozen=True)
class Step:
    """One block of a page. `file` is where it is written to, if it is a file."""

    language: str
    text: str
    file: str | None


def steps(page: Path) -> Iterator[Step]:
    """The blocks of a page in order."""
    for found in BLOCK.finditer(page.read_text(encoding="utf-8")):
        named = FILE.search(found["before"])
        yield Step(found["language"], found["text"], named["path"] if named else None)


def printed(text: str) -> list[str]:
    """The lines of an output that are the same on every machine."""
    return [line for line in text.splitlines() if not re.search(r"\d\.\d|\.\.\.|[━─]", line)]


def folder_with_commands(folder: Path) -> dict[str, str]:
    """An environment in which `mtcl` and `python` are this checkout's."""
    commands = folder / ".bin"
    commands.mkdir(parents=True)
    for name, words in {"mtcl": f"{sys.executable} -m mtcl", "python": sys.executable}.items():
        (commands / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (commands / name).chmod(0o755)
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "HF_HUB_OFFLINE": "1"}


def follow(page: Path, folder: Path, changes: dict[str, str] | None = None) -> None:
    """Do what a page says in a folder; `changes` are replacements in its commands, such as of a port."""
    folder = folder.resolve()
    environment = folder_with_commands(folder)
    shutil.copy(ROOT / "docs" / "job_titles.csv", folder)
    output = ""
    with ExitStack() as running:
        for step in steps(page):
            text = step.text
            for old, new in (changes or {}).items():
                text = text.replace(old, new)
            if step.file:
                (folder / step.file).parent.mkdir(parents=True, exist_ok=True)
                (folder / step.file).write_text(text, encoding="utf-8")
            elif not step.language:
                missing = [line for line in printed(text) if line not in output]
                assert not missing, f"the page shows {missing[0]!r}, but the command printed:\n{output}"
            elif text.startswith("mtcl serve"):
                running.callback(stop, serve(text, folder, environment))
            elif step.language in ("bash", "python"):
                output = run(step.language, text, folder, environment)


def run(language: str, text: str, folder: Path, environment: dict[str, str]) -> str:
    """Run a block and return what it printed."""
    words = ["bash", "-euo", "pipefail", "-c", text] if language == "bash" else [sys.executable, "-c", text]
    begun = time.monotonic()
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    print(f"{time.monotonic() - begun:6.1f} s  {text.splitlines()[0]}", flush=True)
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def serve(text: str, folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    """Start a server, and wait until it says that it is ready."""
    server = subprocess.Popen(text.split(), cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    line = server.stdout.readline()
    assert "http://" in line, f"{text} printed {line!r}"
    return server


def stop(server: subprocess.Popen[str]) -> None:
    """End a server as Ctrl-C does."""
    server.terminate()
    assert server.wait(60) == 0


if __name__ == "__main__":
    begun = time.monotonic()
    follow(Path(sys.argv[1]), Path(sys.argv[2]))
    print(f"{time.monotonic() - begun:6.1f} s  in all")
