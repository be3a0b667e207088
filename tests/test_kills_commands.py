"""Commands that are killed (SIGKILL) at any moment leave nothing half-written under a final name, and can be run again.

python -m pytest tests/test_kills_commands.py -m nightly -s              # 20 kills (2 per command)
MTCL_KILLS=5 python -m pytest tests/test_kills_commands.py -m nightly -s  # 50 kills (5 per command)

Each command runs in a fork of a process that has imported all libraries, so most kills come while it works. Every other
kill waits for a file to be written. `mtcl fit` with its exact resume is in `tests/test_kills.py`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors import safe_open

from mtcl.data.intact import damage_of
from mtcl.encoder.checkpoint import check_sums
from tests.test_resume import options

pytestmark = [pytest.mark.usefixtures("starts_processes"), pytest.mark.nightly]

KILLS = int(os.environ.get("MTCL_KILLS", "2"))
LIMIT_S = 120
PRELOADED = ["mtcl.configuration.cli", "mtcl.training.module", "mtcl.deploy.export", "mtcl.studies.compare", "faiss"]


@dataclass(frozen=True)
class Command:
    """`again` are the arguments after a kill; `result` is the file or folder that appears at the end."""

    arguments: list[str]
    result: str
    resumes: Callable[[Path], list[str] | None] = lambda folder: None

    def now(self, folder: Path) -> list[str]:
        return self.resumes(folder) or self.arguments


def commands(model: Path, root: Path) -> dict[str, Command]:
    """The commands of a folder with the run `run` and the inputs that `prepared` writes."""
    own = ["--data.root", str(root), "--data.cache", "stores"]
    fit = options(
        model, root, "fit", **{"trainer.max_steps": 40, "trainer.val_check_interval": 20, "data.cache": "stores"}
    )
    fit += ["--checkpoint_every_n_steps", "1", "--data.num_workers", "0"]

    def resumed(folder: Path) -> list[str] | None:
        there = (folder / "runs" / "fit" / "checkpoints" / "last.ckpt").exists()
        return ["fit", "--resume", "runs/fit", *own] if there else None

    return {
        "demo": Command(["demo", "demo", "--posts", "2000"], "demo/translation/test.parquet"),
        "stores": Command(["validate", "--ckpt", "run", "--no_base", *own], "run/val.json"),
        "fit": Command(["fit", *fit], "runs/fit/checkpoints/best.ckpt", resumed),
        "predict": Command(["predict", "--ckpt", "run", *own], "run/embeddings/search.parquet"),
        "merge": Command(["merge", "run", "base", "--out", "merged"], "merged/checkpoints/best.ckpt"),
        "export": Command(["export", "run", "model"], "model/README.md"),
        "embed": Command(
            ["embed", "run", "posts.jsonl", "--id", "id", "--format", "npy", "--window", "64", "--out", "vectors"],
            "vectors/posts.npy",
        ),
        "mine": Command(
            [
                *("mine", "interest", "--ckpt", "run", "--out", "mined", "--num", "1", "--ranks", "0", "5"),
                *("--data.root", str(root), "--cache", "stores"),
            ],
            "mined/interest/negatives.json",
        ),
        "compare": Command(["compare", "--config", "compare.yaml"], "compare/compare.md"),
        "transfer": Command(["transfer", "--config", "study.yaml", "--study_dir", "study"], "study/report/report.md"),
    }


def prepared(folder: Path, run: Path, model: Path, root: Path) -> None:
    shutil.copytree(run, folder / "run")
    rows = [json.dumps({"id": f"{n:05d}", "text": f"post {n} dog cat red"}) for n in range(3000)]
    (folder / "posts.jsonl").write_text("\n".join(rows))
    shared = {"tasks": ["search", "storyline"], "root": str(root), "tokenizer": str(model), "cache": "stores"}
    encoders = {"ours": {"run": "run"}, "theirs": {"model": str(model)}}
    (folder / "compare.yaml").write_text(yaml.safe_dump({**shared, "encoders": encoders, "precision": "32-true"}))
    overrides = {
        "model": {"encoder": {"name": str(model)}},
        "data": {"root": str(root), "batch_size": 8, "max_length": 16, "num_workers": 0},
        "trainer": {"val_check_interval": 2, "precision": "32-true"},
    }
    tasks = {"interest": {}, "search": {}}
    study = {"tasks": tasks, "steps": 4, "seeds": [1], "arms": ["joint", "single_data"], "overrides": overrides}
    (folder / "study.yaml").write_text(yaml.safe_dump(study))


def started(arguments: list[str], folder: Path) -> Any:
    """The command in a process of its own, which has imported all libraries, and in a group of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *PRELOADED])
    process = context.Process(target=run_command, args=(arguments, folder))
    process.start()
    return process


def run_command(arguments: list[str], folder: Path) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ["MTCL_CACHE"] = str(folder / "stores")
    output = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    from mtcl.__main__ import main

    os._exit(main(arguments))


def parts(folder: Path) -> list[Path]:
    """What is being written, or was when a process was killed."""
    return [path for path in folder.rglob(".*.part") if path.exists()]


def kill(process: Any, folder: Path, *, while_writing: bool, after_s: float) -> bool:
    """Whether the process was killed before it ended."""
    deadline = time.monotonic() + after_s
    before = set(parts(folder))
    while process.is_alive() and time.monotonic() < deadline:
        if while_writing and set(parts(folder)) - before and random.random() < 0.3:
            break
        time.sleep(0.0005)
    is_killed = process.is_alive()
    if is_killed:
        os.killpg(process.pid, signal.SIGKILL)
    process.join()
    return is_killed


def check_whole(folder: Path) -> int:
    """Every file under its final name can be read to its end; the number of files."""
    files = [p for p in folder.rglob("*") if p.is_file() and not any(x.endswith(".part") for x in p.parts)]
    for path in files:
        match path.suffix:
            case ".parquet":
                pq.read_table(path)
            case ".json":
                json.loads(path.read_text(encoding="utf-8"))
            case ".yaml":
                yaml.safe_load(path.read_text(encoding="utf-8"))
            case ".ckpt":
                check_sums(path)
                torch.load(path, weights_only=True)
            case ".npy":
                np.load(path)
            case ".safetensors":
                with safe_open(path, "pt") as tensors:
                    assert tensors.keys()
    for store in (folder / "stores").glob("*-*-*"):
        if store.is_dir() and not store.name.startswith("."):
            assert damage_of(store, by_content=True) == "", store
    return len(files)


@pytest.mark.parametrize(
    "name",
    ["demo", "stores", "fit", "predict", "merge", "export", "embed", "mine", "compare", "transfer"],
)
def test_killed_again_and_again(
    name: str, trained_run: Path, tiny_model: Path, demo_root: Path, tmp_path: Path
) -> None:
    command = commands(tiny_model, demo_root)[name]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        prepared(folder, trained_run, tiny_model, demo_root)
    began = time.monotonic()
    process = started(command.arguments, whole)
    process.join(LIMIT_S)
    assert process.exitcode == 0, (whole / "log.txt").read_text()[-2000:]
    lasts_s = time.monotonic() - began

    num_killed = num_tries = 0
    while num_killed < KILLS and num_tries < 10 * KILLS:
        if (killed / command.result).exists() and name != "fit":  # it ended before it was killed: begin again
            shutil.rmtree(killed)
            prepared(killed, trained_run, tiny_model, demo_root)
        num_tries += 1
        after_s = lasts_s if num_tries % 2 else random.uniform(0.1, 1) * lasts_s
        process = started(command.now(killed), killed)
        num_killed += kill(process, killed, while_writing=bool(num_tries % 2), after_s=after_s)
        check_whole(killed)
        if name == "fit" and not process.exitcode:
            shutil.rmtree(killed / "runs")
    assert num_killed == KILLS

    if not (killed / command.result).exists() or name == "fit":
        process = started(command.now(killed), killed)
        process.join(LIMIT_S)
        assert process.exitcode == 0, (killed / "log.txt").read_text()[-2000:]
    num_files = check_whole(killed)
    left = [path for path in parts(killed) if (killed / "stores") not in path.parents]
    print(f"\n{name}: {num_killed} kills in {num_tries} tries, {num_files} files whole, {len(left)} parts left")
    assert (killed / command.result).exists()
    assert not left, "the next run removes what a killed one was writing"
    assert "Traceback" not in (killed / "log.txt").read_text()
