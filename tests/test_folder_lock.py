"""One process at a time writes to a run's folder; the others are told who that is, and a kill frees the lock.

python -m pytest tests/test_folder_lock.py
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import pytest

from mtcl import ConfigError
from mtcl.commands.folder_lock import RANKS, only_writer
from tests.conftest import ROOT, Run
from tests.vector_folders import write_vectors

HOLD = (
    "import sys, time; from pathlib import Path; from mtcl.commands.folder_lock import only_writer\n"
    "with only_writer(Path(sys.argv[1]), sys.argv[2], advice=''): print('held', flush=True); time.sleep(600)"
)


@contextmanager
def held_elsewhere(folder: Path, command: str = "fit") -> Iterator[int]:
    """Another process holds the folder's lock; its number. It is killed at the end."""
    words = [sys.executable, "-c", HOLD, str(folder), command]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGKILL)


@pytest.mark.usefixtures("starts_processes")
def test_the_second_one_is_told_who_holds_it_and_a_kill_frees_it(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "demo"
    with held_elsewhere(folder) as pid:
        told = f"^{folder} is in use by process {pid} on {socket.gethostname()} \\(mtcl fit, since .*\\): wait for it$"
        with pytest.raises(ConfigError, match=told), only_writer(folder, "fit", advice="wait for it"):
            pass
        with only_writer(folder, "test", advice="a run may be tested while it trains"):
            assert (folder / ".test.lock").exists()
    with only_writer(folder, "fit", advice="free again"):
        (folder / "config.yaml").write_text("a run")
    assert [path.name for path in folder.iterdir()] == ["config.yaml"], "no lock is left"


def test_what_fails_before_it_writes_leaves_no_folder(tmp_path: Path) -> None:
    def fail() -> None:
        with only_writer(tmp_path / "new" / "runs" / "demo", "fit", advice=""):
            raise ConfigError("unknown key")

    with pytest.raises(ConfigError, match="unknown key"):
        fail()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rank", RANKS)
def test_the_first_rank_holds_it_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: str) -> None:
    with only_writer(tmp_path, "fit", advice=""):
        monkeypatch.setenv(rank, "1")
        with only_writer(tmp_path, "fit", advice=""):
            assert (tmp_path / ".fit.lock").exists()


def test_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def has_none(*arguments: object, **options: object) -> None:
        raise NotImplementedError("no flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", has_none)
    with caplog.at_level(logging.WARNING, "mtcl"), only_writer(tmp_path, "fit", advice=""):
        assert f"the file system of {tmp_path} has no locks" in caplog.text


@pytest.mark.usefixtures("starts_processes")
def test_commands_that_write_one_result(trained_run: Path, tmp_path: Path, mtcl_command: Run) -> None:
    """Two merges into one folder of checkpoints are fine, two into one file are not."""
    merge = ["merge", str(trained_run), "base", "--out"]
    with held_elsewhere(tmp_path, "merge-a") as pid:
        ended = mtcl_command(*merge, "a.ckpt")
        assert mtcl_command(*merge, "b.ckpt").returncode == 0
    assert ended.returncode == 2
    assert f"is in use by process {pid} on " in ended.stderr
    assert not (tmp_path / "a.ckpt").exists()

    for name, values in (("old", [[1.0, 0], [0, 1]]), ("new", [[0, 1.0], [1, 0]])):
        write_vectors(tmp_path / name, values, ids=[0, 1], fingerprint=name)
    with held_elsewhere(tmp_path / "map", "align") as pid:
        ended = mtcl_command("align", "old", "new", "--out", "map")
    assert f"map is in use by process {pid} on " in ended.stderr
    assert not (tmp_path / "map" / "map.json").exists()


@pytest.mark.usefixtures("starts_processes")
def test_commands_that_write_to_a_run(trained_run: Path, tmp_path: Path, mtcl_command: Run) -> None:
    """The checkpoints that were there stay as they were."""
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    commands = {"fit": ["--resume", "run"], "test": ["--ckpt", "run"], "predict": ["--ckpt", "run"]}
    for command, arguments in commands.items():
        with held_elsewhere(run, command) as pid:
            ended = mtcl_command(command, *arguments)
        assert ended.returncode == 2
        (line,) = [line for line in ended.stderr.splitlines() if line.startswith("mtcl:")]
        assert line.startswith(f"mtcl: ConfigError: run is in use by process {pid} on ")
        assert line.endswith("wait for it, or give another --run_dir")
    found = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and not path.name.startswith(".")}
    assert found == before
