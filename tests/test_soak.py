"""Many steps, many task files, many tasks: memory, open files and event files stay flat, and start-up stays short.

python -m pytest tests/test_soak.py                      # 1,000 steps
MTCL_SOAK_STEPS=20000 python -m pytest tests/test_soak.py
"""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from mtcl import EncoderConfig, MtclDataModule, MtclModule
from tests.benchmarks.process_memory import memory_mib
from tests.conftest import INTEREST, Run, quiet_trainer
from tests.test_registry import write_task

pytestmark = pytest.mark.nightly

STEPS = int(os.environ.get("MTCL_SOAK_STEPS", "1000"))
NUM_FILES, NUM_TASKS = 300, 100


class Watch(Callback):
    """Memory in MiB, open files and bytes of event files after each validation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: list[tuple[float, int, int]] = []

    def on_validation_end(self, trainer: Trainer, pl_module: object) -> None:
        gc.collect()
        size = sum(path.stat().st_size for path in self.folder.rglob("events.*"))
        self.seen.append((memory_mib("RssAnon"), len(list(Path("/proc/self/fd").iterdir())), size))


def test_a_long_run_stays_flat(tiny_model: Path, demo_root: Path, cache: Path, tmp_path: Path) -> None:
    """The second half of a run needs no more memory than the first, and logs as much."""
    data = MtclDataModule(
        root=str(demo_root),
        tasks={name: {} for name in ("search", "interest")},
        batch_size=8,
        max_length=24,
        cache=str(cache),
    )
    watch = Watch(tmp_path)
    trainer = quiet_trainer(
        max_steps=STEPS,
        val_check_interval=STEPS // 20,
        log_every_n_steps=STEPS // 20,
        callbacks=[watch],
        logger=TensorBoardLogger(tmp_path),
    )
    trainer.fit(MtclModule(encoder=EncoderConfig(name=str(tiny_model), dim=16)), data)
    memory, files, size = (np.array(column) for column in zip(*watch.seen[-16:], strict=True))
    print("\n".join(f"{m:,.0f} MiB, {f} open files, {s:,} bytes of events" for m, f, s in watch.seen))
    assert memory[8:].mean() - memory[:8].mean() < 10, memory
    assert files[-1] <= files[0] + 2, files
    growth = np.diff(size)
    assert growth[8:].mean() < 1.2 * growth[:8].mean() + 1000, size


def test_a_folder_of_300_task_files(tmp_path: Path, mtcl_process: Run) -> None:
    for number in range(NUM_FILES):
        write_task(tmp_path / "tasks" / f"own_{number}.py")
    start = time.perf_counter()
    done = mtcl_process("tasks", "list")
    print(f"tasks list: {time.perf_counter() - start:.1f} s")
    assert done.returncode == 0, done.stderr
    assert sum("own_" in line for line in done.stdout.splitlines()) == NUM_FILES


def test_a_hundred_tasks_in_one_run(tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_process: Run) -> None:
    """Each is evaluated and has its row in the table."""
    (tmp_path / "tasks").mkdir()
    names = [f"interest_{number}" for number in range(NUM_TASKS)]
    for name in names:
        text = "from mtcl import NDCG, Files, LabelText, Task\n" + INTEREST.format(name=name, metric="NDCG")
        (tmp_path / "tasks" / f"{name}.py").write_text(text)
    options = {
        "model.encoder.name": tiny_model,
        "data.root": demo_root,
        "data.batch_size": 4,
        "data.max_length": 24,
        "trainer.max_steps": 4,
        "run_dir": "run",
    }
    given = [f"--{name}={value}" for name, value in options.items()]
    start = time.perf_counter()
    done = mtcl_process("fit", *given, *(f"--tasks.{name}.weight=1" for name in names), timeout_s=900)
    print(f"fit of {NUM_TASKS} tasks: {time.perf_counter() - start:.0f} s")
    assert done.returncode == 0, done.stderr
    table = [line for line in done.stdout.splitlines() if line.startswith("│ interest_")]
    assert {line.split()[1] for line in table} == set(names)
