"""Pairs a second of whole training steps: mtcl against sentence-transformers, alternating, on the same texts.

    python -m tests.benchmarks.throughput [--rounds 3] [--threads 2]

Both train all-MiniLM-L6-v2 (the extra `offline`) on the workload "four tasks", 64 pairs a task, max length 256, InfoNCE
with scale 20, AdamW. mtcl takes the four tasks in one step, sentence-transformers one task a step (one data set a task,
MultipleNegativesRankingLoss), so pairs a second are compared. Each measurement is a process of its own; the first steps
of each are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import workload

BATCH, WARMUP, STEPS = 64, 1, 4
"""Pairs a task and step; steps of four sub-batches that are left out and that are counted."""


def mtcl(folder: Path, *, precision: str, dropout: float | None) -> float:
    """Pairs a second of `mtcl` through Lightning."""
    import lightning.pytorch as pl

    from mtcl.datamodule import MtclDataModule, TaskConfig
    from mtcl.encoder import EncoderConfig
    from mtcl.module import MtclModule

    clock: list[float] = []

    class Clock(pl.Callback):
        def on_train_batch_end(self, *arguments: Any) -> None:
            clock.append(time.perf_counter())

    tasks = {name: TaskConfig() for name in workload.TASKS}
    data = MtclDataModule(
        root=str(folder / "data"),
        tasks=tasks,
        tasks_dir=str(folder / "tasks"),
        batch_size=BATCH,
        max_length=256,
        alpha=0.0,
        cache=str(folder / "cache"),
    )
    module = MtclModule(tasks, encoder=EncoderConfig(dropout=dropout))
    trainer = pl.Trainer(
        max_steps=WARMUP + STEPS,
        precision=precision,  # type: ignore[arg-type]
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=1.0,
        use_distributed_sampler=False,
        limit_val_batches=0,
        callbacks=[Clock()],
    )
    module.base = {"measured": 0.0}
    trainer.fit(module, data)
    return STEPS * BATCH * len(tasks) / (clock[-1] - clock[WARMUP - 1])


def sentence_transformers(folder: Path, *, precision: str, dropout: float | None) -> float:
    """Pairs a second of `SentenceTransformerTrainer`."""
    import datasets
    import torch
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import MultipleNegativesRankingLoss
    from transformers import TrainerCallback

    from mtcl.encoder import DEFAULT_MODEL
    from mtcl.hub import resolve_model

    clock: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *arguments: Any, **options: Any) -> None:
            clock.append(time.perf_counter())

    model = SentenceTransformer(str(resolve_model(DEFAULT_MODEL)), device="cpu")
    model.max_seq_length = 256
    if dropout is not None:
        for part in model.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = dropout
    train = {
        name: datasets.Dataset.from_parquet(str(folder / "data" / name / "train.parquet")) for name in workload.TASKS
    }
    loss = MultipleNegativesRankingLoss(model, scale=20.0)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder / "peer"),
        max_steps=4 * (WARMUP + STEPS),
        per_device_train_batch_size=BATCH,
        multi_dataset_batch_sampler="round_robin",
        bf16=precision == "bf16-mixed",
        use_cpu=True,
        dataloader_num_workers=1,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        max_grad_norm=1.0,
    )
    trainer = SentenceTransformerTrainer(model, arguments, train_dataset=train, loss=loss, callbacks=[Clock()])
    trainer.train()
    return 4 * STEPS * BATCH / (clock[-1] - clock[4 * WARMUP - 1])


SYSTEMS = {"mtcl": mtcl, "sentence-transformers": sentence_transformers}


def measure(system: str, folder: Path, *, threads: int, **setting: Any) -> float:
    """One measurement in a process of its own."""
    request = json.dumps({"system": system, "folder": str(folder), **setting})
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "tests.benchmarks.throughput", "--one", request]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return float(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        request = json.loads(options.one)
        print(SYSTEMS[request.pop("system")](Path(request.pop("folder")), **request))
        return
    from mtcl.encoder import DEFAULT_MODEL
    from mtcl.hub import resolve_model

    words = [w for w in (resolve_model(DEFAULT_MODEL) / "vocab.txt").read_text().split("\n") if w.isalpha()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workload.write(folder, pairs=BATCH * (WARMUP + STEPS), vocabulary=words)
        print("| precision | dropout | mtcl pairs/s | sentence-transformers pairs/s | ratio of each round |")
        print("|---|---|---|---|---|")
        for precision in ("bf16-mixed", "32-true"):
            for dropout in (None, 0.0):
                rounds = [
                    [measure(s, folder, threads=options.threads, precision=precision, dropout=dropout) for s in SYSTEMS]
                    for _ in range(options.rounds)
                ]
                ours, theirs = (statistics.median(figures) for figures in zip(*rounds, strict=True))
                ratios = ", ".join(f"{a / b:.2f}" for a, b in rounds)
                shown = "as shipped (0.1)" if dropout is None else "0"
                print(f"| {precision} | {shown} | {ours:.1f} | {theirs:.1f} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
