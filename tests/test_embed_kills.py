"""A command that is stopped or killed at any moment and run again writes the bytes of an unbroken one.

python -m pytest tests/test_embed_kills.py                                         # 2 kills, and every write in turn
MTCL_KILLS=10 python -m pytest tests/test_embed_kills.py -m nightly    # 10 kills of one process, and of two on one file
"""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mtcl.deploy.embed import writing
from mtcl.deploy.embed.computing import Choice, Computer
from mtcl.deploy.embed.run import Job
from mtcl.deploy.embed.shards import Columns, find_shards
from mtcl.deploy.vectors import VectorFolder
from mtcl.encoder.text_encoder import TextEncoder
from tests.conftest import ROOT, Run
from tests.forks import Command
from tests.test_embed import content, words, write_jsonl

KILLS = int(os.environ.get("MTCL_KILLS", "10"))


class _CrashError(Exception):
    pass


def embed_once(encoder: TextEncoder, inputs: Path, out: Path, file_format: Any = "parquet") -> None:
    computer = Computer.of(encoder, Choice())
    job = Job(out, tuple(find_shards([str(inputs)])), Columns(id="id"), tokenize_apart=False)
    settings = job.agree(computer, computer.settings(job.columns, file_format=file_format, window=8))
    job.embed(job.left(job.shards), computer, settings, lambda rows, read: None)


@pytest.mark.parametrize("file_format", ["parquet", "npy"])
@pytest.mark.parametrize("is_renamed", [False, True])
def test_a_crash_at_every_write(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: str, is_renamed: bool
) -> None:
    """Right before or right after each file gets its name: parts, vectors, the side file, the record."""
    encoder = TextEncoder.load(trained_run, device="cpu")
    rows = [{"id": f"{number:03d}", "text": text} for number, text in enumerate(words(30))]
    write_jsonl(tmp_path / "in" / "a.jsonl", [*rows, "{"])
    write_jsonl(tmp_path / "in" / "b.jsonl", rows[:5])
    embed_once(encoder, tmp_path / "in", tmp_path / "whole", file_format)
    left: list[int] = []

    @contextmanager
    def crashing(path: Path, *, alone: bool = False) -> Iterator[Path]:
        left[0] -= 1
        crashes = not left[0]
        with written_whole(path, alone=alone) as aside:
            yield aside
            if crashes and not is_renamed:
                raise _CrashError
        if crashes:
            raise _CrashError

    written_whole = writing.written_whole
    monkeypatch.setattr(writing, "written_whole", crashing)
    monkeypatch.setattr("mtcl.deploy.embed.parquet_files.written_whole", crashing)
    monkeypatch.setattr("mtcl.files.written_whole", crashing)
    num_crashes = 0
    while True:
        out = tmp_path / f"out{num_crashes}"
        left[:] = [num_crashes + 1]
        try:
            embed_once(encoder, tmp_path / "in", out, file_format)
            break
        except _CrashError:
            num_crashes += 1
        left[:] = [1_000]
        embed_once(encoder, tmp_path / "in", out, file_format)
        assert content(out) == content(tmp_path / "whole")
    assert num_crashes == (9 if file_format == "parquet" else 11)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_command_cleanly(
    mtcl_command: Run, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in words(40)])
    arguments = ("embed", str(trained_run), "a.jsonl", "--window", "8", "--tokenize", "here", "--out")
    write_part = writing.ShardFiles.write_part

    def signalling(self: Any, *given: Any) -> Any:
        part = write_part(self, *given)
        if part.start == 16:
            os.kill(os.getpid(), number)
        return part

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with monkeypatch.context() as patch:
            patch.setattr(writing.ShardFiles, "write_part", signalling)
            done = mtcl_command(*arguments, "out")
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.returncode == 128 + number
    assert done.stderr.strip().splitlines()[-1] == "mtcl: stopped; the same command continues with what is in out"
    assert VectorFolder.open(tmp_path / "out").unfinished == ["a"]
    done = mtcl_command(*arguments, "out")
    assert "continuing at row 24" in done.stderr
    assert mtcl_command(*arguments, "whole").returncode == 0
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert not (tmp_path / "out" / "_parts").exists()


def killed(arguments: list[str], folder: Path, moment: int) -> None:
    """Start the command and kill it after `moment` more parts or files, and a moment."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = Command(arguments, folder=folder, environment=environment, session=True, log=folder / "log.txt")

    def written() -> set[str]:
        return {f"{p.parent}/{p.name}" for p in (folder / "out").rglob("*.parquet") if not p.name.startswith(".")}

    before, deadline = written(), time.monotonic() + 120
    while len(written() - before) < moment:
        assert process.poll() is None, (folder / "log.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.05))
    assert process.poll() is None, "the command ended before it was killed"
    os.kill(process.pid, signal.SIGKILL)  # the tokenising process has to notice by itself
    process.wait()
    deadline = time.monotonic() + 20
    while _in_session(process.pid):
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.05)


def _in_session(session: int) -> list[int]:
    """Live processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def check_kills(
    run: Run,
    trained_run: Path,
    tmp_path: Path,
    *,
    moments: list[int],
    num_rows: int,
    names: str = "ab",
    processes: int = 1,
) -> None:
    """`names` are those of the inputs, and `processes` the number in the command that is killed."""
    for name in names:
        rows = [{"id": f"{name}{n}", "text": text} for n, text in enumerate(words(num_rows, seed=len(name)))]
        write_jsonl(tmp_path / "in" / f"{name}.jsonl", [*rows, "{damaged"])
    command = ["embed", str(trained_run), "in", "--id", "id", "--window", "32", "--out"]
    whole = run(*command, "whole")
    assert whole.returncode == 0, whole.stderr
    for moment in moments:
        killed([*command, "out", "--processes", str(processes)], tmp_path, moment)
    done = run(*command, "out", "--processes", str(processes))
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    found = VectorFolder.open(tmp_path / "out")
    assert sorted(found.ids().to_pylist()) == sorted(f"{name}{n}" for name in names for n in range(num_rows))
    records = [json.loads((tmp_path / out / "_shards" / "a.json").read_text()) for out in ("out", "whole")]
    assert records[0] == records[1]


@pytest.mark.usefixtures("starts_processes")
def test_killed_twice(mtcl_command: Run, trained_run: Path, tmp_path: Path) -> None:
    """The unbroken run and the last one are in this process."""
    check_kills(mtcl_command, trained_run, tmp_path, moments=[2, 3], num_rows=640)


@pytest.mark.nightly
def test_killed_again_and_again(mtcl_process: Run, trained_run: Path, tmp_path: Path) -> None:
    chosen = random.Random(0)
    moments = [chosen.randint(1, 20) for _ in range(KILLS)]
    check_kills(mtcl_process, trained_run, tmp_path, moments=moments, num_rows=600 * KILLS)


@pytest.mark.nightly
@pytest.mark.usefixtures("starts_processes")
def test_two_processes_on_one_file_are_killed_again_and_again(
    mtcl_process: Run, trained_run: Path, tmp_path: Path
) -> None:
    """To the bytes of one process that was never killed."""
    chosen = random.Random(1)
    moments = [chosen.randint(1, 20) for _ in range(KILLS)]
    check_kills(mtcl_process, trained_run, tmp_path, moments=moments, num_rows=900 * KILLS, names="a", processes=2)


@pytest.mark.nightly
@pytest.mark.usefixtures("starts_processes")
def test_processes_share_the_work(mtcl_process: Run, trained_run: Path, tmp_path: Path) -> None:
    """Two processes of one command, and two commands at the same time. The last input is larger than the others."""
    for number in range(6):
        write_jsonl(tmp_path / "in" / f"{number}.jsonl", [{"text": text} for text in words(200, seed=number)])
    write_jsonl(tmp_path / "in" / "6.jsonl", [{"text": text} for text in words(1000, seed=number)])
    command = ["embed", str(trained_run), "in", "--window", "32", "--dtype", "int8", "--out"]
    assert mtcl_process(*command, "whole").returncode == 0
    done = mtcl_process(*command, "two", "--processes", "2")
    assert done.returncode == 0, done.stderr
    assert "7 files with 2,200 vectors" in done.stdout
    arguments = [sys.executable, "-m", "mtcl", *command, "both"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    together = [subprocess.Popen(arguments, cwd=tmp_path, env=environment, stdout=subprocess.PIPE) for _ in range(2)]
    told = [process.communicate()[0].decode() for process in together]
    assert [process.returncode for process in together] == [0, 0]
    assert sum(int(one.split(": ")[1].split()[0]) for one in told) == 7
    assert content(tmp_path / "whole") == content(tmp_path / "two") == content(tmp_path / "both")


@pytest.mark.nightly
@pytest.mark.usefixtures("starts_processes")
def test_an_error_of_a_process_is_that_of_the_command(mtcl_process: Run, trained_run: Path, tmp_path: Path) -> None:
    for number in range(3):
        write_jsonl(tmp_path / "in" / f"{number}.jsonl", [{"text": "dog"}])
    (tmp_path / "in" / "x.jsonl.gz").write_bytes(gzip.compress(b'{"text": "cat"}\n' * 100)[:-20])
    done = mtcl_process("embed", str(trained_run), "in", "--out", "out", "--processes", "2")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("mtcl: DataError: cannot read in/x.jsonl.gz: ")
