"""A run killed at any moment goes on exactly: equal losses in every step, equal weights in the end (dropout on).

python -m pytest tests/test_resume.py
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtcl.__main__ import main
from mtcl.training.board.names import GROUP, SUMMARY
from mtcl.training.checkpoint_file import WholeFile
from tests.conftest import ROOT, Run, command_in
from tests.forks import Command

STEPS = 240
DROPPED = Path(os.devnull)
Losses = dict[str, dict[int, float]]


def options(model: Path, root: Path, run: str, **changed: object) -> list[str]:
    """A small run of three kinds of tasks that logs each step."""
    values: dict[str, object] = {
        "model.encoder.name": model,
        "data.root": root,
        "data.batch_size": 8,
        "data.max_length": 24,
        "data.tasks_per_step": 2,
        "model.optimizer.lr": 0.001,
        "tasks.search.weight": 1,
        "tasks.interest.weight": 2,
        "tasks.storyline.weight": 1,
        "trainer.max_steps": STEPS,
        "trainer.val_check_interval": 90,
        "trainer.log_every_n_steps": 1,
        "trainer.precision": "32-true",
        "trainer.enable_progress_bar": "false",
        "checkpoint_every_n_steps": 15,
        **changed,
    }
    return ["--run_dir", f"runs/{run}", *(x for key, value in values.items() for x in (f"--{key}", str(value)))]


def plain(tag: str) -> str | None:
    """The name elsewhere of a value in TensorBoard; None if it is a repetition in `summary`."""
    group, _, name = tag.partition("/")
    if group == SUMMARY:
        return None
    return f"{name}/{group.removeprefix(GROUP)}" if group.startswith(GROUP) else tag


def losses(folder: Path) -> Losses:
    """Losses and accuracies of every step and all validations, as TensorBoard shows them in float32."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    names = {tag: plain(tag) or "" for tag in events.Tags()["scalars"]}
    kept = {tag: name for tag, name in names.items() if name.startswith(("train_loss/", "train_accuracy/", "val"))}
    return {name: {e.step: e.value for e in events.Scalars(tag)} for tag, name in kept.items()}


def weights(folder: Path) -> dict[str, Any]:
    return dict(torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])


def assert_equal_runs(one: Path, other: Path, *, at_least: int = STEPS) -> None:
    expected, found = losses(one), losses(other)
    assert set(expected) == set(found)
    assert sum(len(steps) for steps in expected.values()) > at_least
    for tag, steps in expected.items():
        assert found[tag] == steps, tag
    for name, value in weights(one).items():
        assert torch.equal(value, weights(other)[name]), name


def start(
    arguments: list[str], folder: Path, cache: Path, command: str = "fit", *, log: Path | None = DROPPED
) -> Command:
    """A command in a session of its own."""
    environment = os.environ | {"MTCL_CACHE": str(cache), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return Command([command, *arguments], folder=folder, environment=environment, session=True, log=log)


@pytest.fixture(scope="module")
def unbroken(
    starts_processes: None, tiny_model: Path, demo_root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    assert command_in(folder, cache)("fit", *options(tiny_model, demo_root, "whole")).returncode == 0
    return folder / "runs" / "whole"


@pytest.mark.usefixtures("starts_processes")
@pytest.mark.parametrize("num_workers", [pytest.param(0, marks=pytest.mark.nightly), 2])
def test_sigkill_and_resume(
    unbroken: Path, tiny_model: Path, demo_root: Path, cache: Path, tmp_path: Path, mtcl_command: Run, num_workers: int
) -> None:
    """Killed twice at random moments, with another number of workers than the unbroken run."""
    arguments = options(tiny_model, demo_root, "killed", **{"data.num_workers": num_workers})
    last = tmp_path / "runs" / "killed" / "checkpoints" / "last.ckpt"
    seen = 0.0
    for attempt in range(2):
        process = start(arguments if attempt == 0 else ["--resume", "runs/killed"], tmp_path, cache)
        deadline = time.monotonic() + 120
        while not (last.exists() and last.stat().st_mtime > seen) and time.monotonic() < deadline:
            assert process.poll() is None, "the run ended before it was killed"
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.5))
        assert process.poll() is None, "the run ended before it was killed"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        seen = last.stat().st_mtime
    step = torch.load(last, weights_only=True)["global_step"]
    assert 0 < step < STEPS
    finished = mtcl_command("fit", "--resume", "runs/killed")
    assert finished.returncode == 0, finished.stderr
    assert "Traceback" not in finished.stderr
    assert_equal_runs(unbroken, tmp_path / "runs" / "killed")
    assert sorted(p.name for p in (tmp_path / "runs" / "killed").glob("config*")) == [
        "config.resume-1.yaml",
        "config.resume-2.yaml",
        "config.yaml",
    ]


@pytest.mark.usefixtures("starts_processes")
def test_each_checkpoint_has_its_steps_on_disk(
    tiny_model: Path, demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the moment at which a checkpoint is written: what a run that goes on from it will not show again."""
    found: dict[int, tuple[int, bool]] = {}
    write = WholeFile.save_checkpoint

    def save(self: WholeFile, checkpoint: dict[str, Any], path: Path, storage_options: Any = None) -> None:
        if Path(path).name == "last.ckpt":
            shown = losses(tmp_path / "runs" / "run")
            step = checkpoint["global_step"]
            trained = max(s for tag, steps in shown.items() if tag.startswith("train_loss/") for s in steps)
            found[step] = (trained, step in shown.get("val/mean", {}))
        write(self, checkpoint, path, storage_options)

    monkeypatch.setattr(WholeFile, "save_checkpoint", save)
    monkeypatch.chdir(tmp_path)
    steps = {"trainer.max_steps": 15, "checkpoint_every_n_steps": 5, "trainer.val_check_interval": 10}
    changed = {**steps, "trainer.log_every_n_steps": 4, "data.num_workers": 0}
    assert main(["fit", *options(tiny_model, demo_root, "run", **changed)]) == 0
    assert found == {5: (5, False), 10: (10, True), 15: (15, False)}


def test_another_plan_is_refused(unbroken: Path, mtcl_command: Run) -> None:
    refused = mtcl_command("fit", "--resume", str(unbroken), "--data.alpha", "1.0", "--trainer.max_steps", "300")
    assert refused.returncode == 2
    assert "cannot resume, this is a different run (alpha: 0.5 in the checkpoint, 1.0 now)" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_init_from_takes_weights_only(unbroken: Path, tmp_path: Path, mtcl_command: Run) -> None:
    """A given value is not overridden by the checkpoint; the run begins at step 0 with the trained encoder."""
    still = ["--model.optimizer.lr", "0", "--model.optimizer.head_lr", "0"]
    more = ["--trainer.max_steps", "90", "--run_dir", "runs/next"]
    done = mtcl_command("fit", "--init_from", str(unbroken), *more, *still)
    assert done.returncode == 0, done.stderr
    assert "step 90 of 90" in done.stderr
    saved = torch.load(tmp_path / "runs" / "next" / "checkpoints" / "best.ckpt", weights_only=True)
    assert saved["global_step"] == 90
    best = torch.load(unbroken / "checkpoints" / "best.ckpt", weights_only=True)
    assert saved["mtcl"]["base"] == best["mtcl"]["base"]
    assert saved["mtcl"]["history"][90] == pytest.approx(best["mtcl"]["history"][best["global_step"]])


def test_test_and_predict_from_a_run_folder(unbroken: Path, tmp_path: Path, mtcl_command: Run) -> None:
    import json

    import pyarrow.parquet as pq

    done = mtcl_command("test", "--ckpt", str(unbroken), "--run_dir", "out")
    assert done.returncode == 0, done.stderr
    assert "difference" in done.stdout
    for name in ("test", "test_base"):
        found = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert set(found) == {"search", "interest", "storyline"}
        scores = pq.read_table(tmp_path / "out" / "scores" / name / "search.parquet")
        assert np.mean(scores["ndcg@10"].to_numpy()) == pytest.approx(found["search"]["ndcg@10"], abs=1e-6)
    done = mtcl_command("predict", "--ckpt", str(unbroken), "--run_dir", "out")
    assert done.returncode == 0, done.stderr
    table = pq.read_table(tmp_path / "out" / "embeddings" / "search.parquet")
    assert table.schema.names == ["text", "embedding"]
    assert len(table["embedding"][0]) == 32


def test_a_run_from_another_s_weights_is_compared_with_the_base_encoder(
    tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run
) -> None:
    """With what `mtcl validate` calls the base too; and a check of a few batches before the first step is no figure."""
    short = {"trainer.max_steps": 4, "trainer.val_check_interval": 2, "data.num_workers": 0}
    done = mtcl_command("fit", *options(tiny_model, demo_root, "a", **short))
    assert done.returncode == 0, done.stderr
    short["trainer.num_sanity_val_steps"] = 1
    done = mtcl_command("fit", "--init_from", "runs/a", *options(tiny_model, demo_root, "b", **short))
    assert done.returncode == 0, done.stderr
    first, second = (
        torch.load(tmp_path / f"runs/{run}/checkpoints/last.ckpt", weights_only=True)["mtcl"] for run in "ab"
    )
    assert second["base"] == first["base"]
    assert list(second["history"]) == [2, 4]
    assert all(len(primary) == 3 for primary in second["history"].values())
