"""The cost of each loss and weighting: CPU time of a whole training step, as a ratio to plain InfoNCE.

    python -m tests.benchmarks.options [--steps 3] [--rounds 3] [--batch 64]

Four tasks of the demo corpus, all-MiniLM-L6-v2, AdamW, bf16 where the machine has it, one thread. Options take turns.
The median ratio over the rounds is printed as Markdown.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from mtcl.console import markdown_table
from mtcl.data.batch import StepBatch
from mtcl.data.rows import TaskData
from mtcl.data.steps import StepDataset
from mtcl.demo import write_demo
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.precision import best_precision
from mtcl.encoder.teacher import Teacher, vectors_file
from mtcl.losses import InfoNCE, Loss, Matryoshka, PairBCE, SpreadOut, TeacherMSE, WeightedSum
from mtcl.losses.gather import gather_views
from mtcl.training.datamodule import MtclDataModule
from mtcl.training.task_config import TaskConfig
from mtcl.weighting import GradientWeighting, Mean, Uncertainty, Weighting

TASKS = ("interest", "storyline", "hashtag", "search")
OPTIONS: dict[str, tuple[Callable[[], Loss], Callable[[], Weighting], bool]] = {
    "InfoNCE": (InfoNCE, Mean, False),
    "both directions": (lambda: InfoNCE(directions="both"), Mean, False),
    "both directions, same side": (lambda: InfoNCE(directions="both", same_side=True), Mean, False),
    "several positives": (lambda: InfoNCE(multi_positive=True), Mean, False),
    "logQ": (lambda: InfoNCE(correct_frequency=True), Mean, False),
    "guide": (lambda: InfoNCE(guide="base"), Mean, False),
    "PairBCE": (PairBCE, Mean, False),
    "InfoNCE and TeacherMSE": (lambda: WeightedSum([InfoNCE(), TeacherMSE()]), Mean, False),
    "Matryoshka 50, 128": (lambda: Matryoshka(InfoNCE(), [50, 128]), Mean, False),
    "SpreadOut": (lambda: SpreadOut(InfoNCE()), Mean, False),
    "Uncertainty": (InfoNCE, Uncertainty, False),
    "UPGrad": (InfoNCE, GradientWeighting, False),
    "UPGrad every 4 steps": (InfoNCE, lambda: GradientWeighting(every_n_steps=4), False),
    "CAGrad": (InfoNCE, lambda: GradientWeighting("cagrad"), False),
    "activation checkpointing": (InfoNCE, Mean, True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        dataset = dataset_of(Path(name), settings.batch)
        batches = [dataset[step] for step in range(settings.steps)]
        ratios: dict[str, list[float]] = {option: [] for option in OPTIONS}
        for _ in range(settings.rounds):
            seconds = {option: measure(option, batches) for option in OPTIONS}
            for option, value in seconds.items():
                ratios[option].append(value / seconds["InfoNCE"])
    rows = [(option, f"{statistics.median(values):.2f}") for option, values in ratios.items()]
    print(markdown_table(["option", "time per step, InfoNCE = 1"], rows), end="")


def dataset_of(folder: Path, batch: int) -> StepDataset:
    """Steps of the demo corpus, with the base encoder's vectors as teacher vectors."""
    write_demo(folder / "demo", posts=1000, seed=0)
    tasks = {task: TaskConfig() for task in TASKS}
    data = MtclDataModule(root=str(folder / "demo"), tasks=tasks, batch_size=batch, cache=str(folder / "cache"))
    data.setup("fit")
    teacher = Teacher(Encoder.load(EncoderConfig()))
    stores = [data.store(task, "train") for task in TASKS]
    files = [
        vectors_file(s, teacher, lambda e, tokens: e.embed(tokens, tokens_per_chunk=2048), precision="32")
        for s in stores
    ]
    return StepDataset(data.plan, [TaskData(s, 0, f) for s, f in zip(stores, files, strict=True)])


def measure(option: str, batches: list[StepBatch]) -> float:
    """Seconds of CPU time over all steps, after one step that is not counted."""
    make_loss, make_weighting, checkpointing = OPTIONS[option]
    encoder, weighting = Encoder.load(EncoderConfig()), make_weighting()
    encoder.activation_checkpointing = checkpointing
    weighting.start(list(TASKS))
    losses = nn.ModuleList([make_loss() for _ in TASKS])
    learned = [p for module in (encoder, weighting, losses) for p in module.parameters()]
    optimizer = torch.optim.AdamW(learned, lr=2e-5, fused=True)
    start = 0.0
    for number, batch in enumerate((batches[0], *batches)):
        if number == 1:
            start = time.process_time()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=best_precision() == "bf16-mixed"):
            views = gather_views(batch.parts, encoder(batch.texts))
            found = {
                TASKS[part.task]: losses[part.task](view) / len(TASKS)
                for part, view in zip(batch.parts, views, strict=True)
            }
            shares = dict.fromkeys(found, 1 / len(TASKS))
            weighting(found, encoder.last_shared(), shares).backward()
        optimizer.step()
    return time.process_time() - start


if __name__ == "__main__":
    main()
