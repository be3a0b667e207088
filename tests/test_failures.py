"""What ends a run leaves a whole checkpoint behind, one line that says why, and a run that goes on exactly.

python -m pytest tests/test_failures.py
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from mtcl import DataError
from mtcl.errors import DivergedError
from mtcl.files import aside_of
from mtcl.training.checkpoint_file import WholeFile
from tests.conftest import INTEREST, ROOT, Run, command_in
from tests.test_distributed import RANKS
from tests.test_resume import options, weights

STEPS = 40
COMMON = {
    "model.optimizer.decay": "constant",
    "trainer.max_steps": STEPS,
    "trainer.val_check_interval": STEPS // 2,
    "checkpoint_every_n_steps": 10,
    "data.num_workers": 0,
}
BRITTLE = """
import atexit
import os
import time

from mtcl import MRR, Files, LabelText, Task


class Brittle(MRR):
    calls = 0

    def __call__(self, hits_NK, num_relevant_N):
        Brittle.calls += 1
        if Brittle.calls == 2 and os.environ.get("BRITTLE_ON", "") in ("all", os.environ.get("LOCAL_RANK", "0")):
            raise ZeroDivisionError("nothing to divide")
        return super().__call__(hits_NK, num_relevant_N)

"""
BRITTLE += INTEREST.format(name="brittle", metric="Brittle")
BRITTLE += """

if "BRITTLE_END" in os.environ:
    class AbortsWhenPythonIsClearedUp:
        def __del__(self, abort=os.abort):
            abort()

    never_freed = AbortsWhenPythonIsClearedUp()
    if os.environ.get("LOCAL_RANK", "0") == "0":
        atexit.register(time.sleep, float(os.environ["BRITTLE_END"]))
"""


def lines_of(run: subprocess.CompletedProcess[str]) -> list[str]:
    """What mtcl says in the end; nothing else may speak of the failure."""
    assert "Traceback" not in run.stderr
    return [line for line in run.stderr.splitlines() if line.startswith("mtcl: ")]


def assert_equal_weights(one: Path, other: Path) -> None:
    for name, value in weights(one).items():
        assert torch.equal(value, weights(other)[name]), name


@pytest.fixture(scope="module")
def whole(tiny_model: Path, demo_root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert command_in(folder, cache)("fit", *options(tiny_model, demo_root, "whole", **COMMON)).returncode == 0
    return folder / "runs" / "whole"


@pytest.mark.parametrize(("ranks", "on"), [(1, "0"), (2, "1"), pytest.param(2, "all", marks=pytest.mark.nightly)])
def test_a_metric_that_raises(
    tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_process: Run, mtcl_command: Run, ranks: int, on: str
) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "brittle.py").write_text(BRITTLE)
    changed = {**COMMON, "tasks.brittle.weight": 1, **(RANKS if ranks > 1 else {})}
    ended = mtcl_process("fit", *options(tiny_model, demo_root, "run", **changed), BRITTLE_ON=on)
    assert ended.returncode == 2
    place = f"{Path('tasks') / 'brittle.py'}:15: ZeroDivisionError: nothing to divide"
    who = "rank 1: " if on == "1" else ""
    assert lines_of(ended) == [f"mtcl: TaskError: {who}task 'brittle', metric mrr: {tmp_path / place}"]
    last = tmp_path / "runs" / "run" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == STEPS // 2 - 10
    again = mtcl_process if ranks > 1 else mtcl_command
    done = again("fit", "--resume", "runs/run")
    assert done.returncode == 0, done.stderr
    assert f"step {STEPS} of {STEPS}" in done.stderr


def test_a_run_that_diverges_is_stopped(tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run) -> None:
    """Rankings of vectors that are not numbers would have figures as well."""
    changed = {**COMMON, "model.optimizer.lr": 1e30, "trainer.log_every_n_steps": 1}
    ended = mtcl_command("fit", *options(tiny_model, demo_root, "run", **changed))
    assert ended.returncode == 2
    (line,) = lines_of(ended)
    assert "DivergedError: the gradient's norm is nan at step" in line
    late = {**changed, "trainer.log_every_n_steps": 0, "checkpoint_every_n_steps": 1000}
    ended = mtcl_command("fit", *options(tiny_model, demo_root, "late", **late))
    assert ended.returncode == 2
    assert lines_of(ended) == [f"mtcl: DivergedError: embeddings are not finite: {DivergedError.advice}"]
    assert not (tmp_path / "runs" / "late" / "checkpoints" / "best.ckpt").exists()


@pytest.mark.nightly
def test_ranks_end_in_order(tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_process: Run) -> None:
    """The first rank is slow to end: the launcher, which looks every 5 s, must not see another one's failure before;
    and what goes wrong while Python is cleared up must not change the exit code."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "brittle.py").write_text(BRITTLE)
    changed = {**COMMON, "tasks.brittle.weight": 1, **RANKS}
    ended = mtcl_process("fit", *options(tiny_model, demo_root, "run", **changed), BRITTLE_ON="all", BRITTLE_END="6")
    assert ended.returncode == 2
    assert len(lines_of(ended)) == 1


@pytest.mark.parametrize("accumulate", [pytest.param(1, marks=pytest.mark.nightly), 3])
def test_max_time_ends_a_run_that_goes_on_exactly(
    tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run, accumulate: int
) -> None:
    """Dropout on; with accumulation the time can be over between two optimizer steps."""
    common = {**COMMON, "trainer.accumulate_grad_batches": accumulate, "trainer.max_steps": 300 // accumulate}
    whole = mtcl_command("fit", *options(tiny_model, demo_root, "whole", **common))
    assert whole.returncode == 0, whole.stderr
    timed = options(tiny_model, demo_root, "timed", **common, **{"trainer.max_time": "00:00:00:01"})
    ended = mtcl_command("fit", *timed)
    for _ in range(100):  # as many as a slow machine needs
        assert ended.returncode == 0, ended.stderr
        if "continue with: mtcl fit --resume runs/timed" not in ended.stderr:
            break
        ended = mtcl_command("fit", "--resume", "runs/timed")
    assert "continue with" not in ended.stderr
    assert (tmp_path / "runs" / "timed" / "config.resume-1.yaml").exists(), "the time was over at least once"
    assert_equal_weights(tmp_path / "runs" / "whole", tmp_path / "runs" / "timed")


@pytest.mark.usefixtures("starts_processes")
def test_no_space_for_a_checkpoint(
    whole: Path, tiny_model: Path, demo_root: Path, cache: Path, tmp_path: Path, mtcl_command: Run
) -> None:
    """A limit on the size of files stands for a full disk: the system refuses the same write."""
    half = mtcl_command("fit", *options(tiny_model, demo_root, "full", **{**COMMON, "trainer.max_steps": STEPS // 2}))
    last = tmp_path / "runs" / "full" / "checkpoints" / "last.ckpt"
    assert half.returncode == 0, half.stderr
    before = last.read_bytes()
    script = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) // 2},) * 2); import mtcl.__main__"
    )
    command = [
        "-c",
        f"{script}; mtcl.__main__.entry()",
        "fit",
        "--resume",
        "runs/full",
        "--trainer.max_steps",
        str(STEPS),
    ]
    own = {"MTCL_CACHE": str(cache), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env=os.environ | own, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    (line,) = lines_of(ended)
    assert line.startswith("mtcl: DataError: cannot write checkpoint runs/full/checkpoints/last.ckpt ([Errno 27]")
    assert line.endswith(
        "the earlier one is intact; free some disk space and continue with: mtcl fit --resume runs/full"
    )
    assert last.read_bytes() == before
    assert sorted(path.name for path in last.parent.iterdir()) == ["best.ckpt", "last.ckpt"]
    done = mtcl_command("fit", "--resume", "runs/full", "--trainer.max_steps", str(STEPS))
    assert done.returncode == 0, done.stderr
    assert_equal_weights(whole, tmp_path / "runs" / "full")


def test_no_space_for_a_file_of_the_logger(
    trained_run: Path, tmp_path: Path, mtcl_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not say which file it was, and standard output is not to blame."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "hparams.yaml").symlink_to("/dev/full")
    monkeypatch.setattr("mtcl.files.MIN_FREE_BYTES", 1 << 62)
    ended = mtcl_command("predict", "--ckpt", str(trained_run), "--run_dir", "out")
    assert ended.returncode == 2
    assert lines_of(ended) == ["mtcl: No space left on device: out"]


def test_no_space_for_temporary_files(trained_run: Path, tmp_path: Path, mtcl_command: Run) -> None:
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, usual[1]))
    try:
        ended = mtcl_command("predict", "--ckpt", str(trained_run), "--run_dir", "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    (line,) = lines_of(ended)
    assert line.startswith(f"mtcl: File too large: {tempfile.gettempdir()}/")


def save_within(limit: int, io: TorchCheckpointIO, path: Path, count: int) -> str:
    """What saving `count` numbers raises where no file may have more than `limit` bytes."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, usual[1]))
    try:
        io.save_checkpoint({"a": torch.zeros(count)}, path)
    except DataError as error:
        return str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    return ""


def test_the_earlier_checkpoint_stands(tmp_path: Path) -> None:
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert save_within(10_000, WholeFile(), path, 10) == ""
    assert "the earlier one is intact" in save_within(10_000, WholeFile(), path, 100_000)
    assert len(WholeFile().load_checkpoint(path)["a"]) == 10
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]
    other = tmp_path / "other" / "checkpoints" / "last.ckpt"
    assert "give another --run_dir" in save_within(10_000, WholeFile(), other, 100_000)
    assert not list(other.parent.iterdir())


def test_a_checkpoint_is_renamed_into_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is whole, the file has another name in the same folder."""
    seen: list[tuple[str, str, int]] = []
    replace = Path.replace

    def spy(source: Path, target: Any) -> Path:
        seen.append((source.parent.name, source.name, len(torch.load(source, weights_only=True)["a"])))
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", spy)
    path = tmp_path / "checkpoints" / "last.ckpt"
    WholeFile().save_checkpoint({"a": torch.zeros(10)}, path)
    assert seen == [("checkpoints", aside_of(path).name, 10)]
    assert aside_of(path) != path
