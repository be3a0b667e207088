"""The cost of the board in a step, and at a validation: CPU time with the levels lean, full and null, in one process.

python -m tests.benchmarks.board [--steps 60] [--rounds 5]

Eight tasks of all kinds on the demo corpus. A step of the trainer is timed between the hooks around it and at log
points, so that what is logged in a step counts; validations are timed on their own. Levels alternate from round to
round; the figures are ratios of medians, so that other load on the machine touches all levels alike.

Other load makes these differences uncertain by several percent. "own" is more exact: the CPU time that the step spends
in the functions of the log and the board themselves, as a share of the step, and that of the metrics within a batch
(accuracy, cosines), which are computed at every level.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from mtcl import MtclDataModule, MtclModule, trainer_options
from mtcl.demo import write_demo
from mtcl.training.board.callback import Board
from mtcl.training.metric_log import MetricLog
from tests.board_runs import EIGHT, write_model, write_tasks

LEVELS: tuple[Any, ...] = (None, "lean", "full")
BOARD = ((MetricLog, "show_training"), (MetricLog, "count"), (Board, "on_train_batch_start"))
"""What the log and the board do in a step: counts, and scalars to the loggers."""
METRICS = ((MetricLog, "observe"),)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing is printed in the block."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


class Own:
    """CPU seconds spent in some functions."""

    def __init__(self, functions: tuple[tuple[type, str], ...]) -> None:
        self.functions, self.seconds = functions, 0.0

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        before = [(holder, name, getattr(holder, name)) for holder, name in self.functions]
        for holder, name, function in before:
            setattr(holder, name, self._timed(function))
        try:
            yield
        finally:
            for holder, name, function in before:
                setattr(holder, name, function)

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds += time.process_time() - began

        return timed


class Times(pl.Callback):
    """CPU seconds of each validation, and of each step with its logging: a step ends where the next one begins. A step
    that is followed by a validation is left out.
    """

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.validations: list[float] = []
        self._since: float | None = None

    def on_train_batch_start(self, *arguments: Any) -> None:
        now = time.process_time()
        if self._since is not None:
            self.steps.append(now - self._since)
        self._since = now

    def on_validation_start(self, *arguments: Any) -> None:
        self._since, self._validation_since = None, time.process_time()

    def on_validation_end(self, *arguments: Any) -> None:
        """Called last, after the board."""
        self.validations.append(time.process_time() - self._validation_since)


def run(folder: Path, level: Any, *, steps: int, model: str) -> tuple[float, float, float, float]:
    """Mean CPU seconds of a step, median ones of a validation, and shares of a step: in `BOARD`, in `METRICS`."""
    data = MtclDataModule(
        root=str(folder / "data"),
        tasks={name: {} for name in EIGHT},  # type: ignore[misc]
        tasks_dir=str(folder / "tasks"),
        batch_size=16,
        max_length=48,
        num_workers=0,
        cache=str(folder / "cache"),
    )
    module = MtclModule(encoder={"name": model})  # type: ignore[arg-type]
    options = trainer_options(
        Path(tempfile.mkdtemp(dir=folder)) / "run", board=level, checkpointing=False, progress_bar=False
    )
    times, own, of_metrics = Times(), Own(BOARD), Own(METRICS)
    options["callbacks"] = [*options["callbacks"], times]
    options["log_every_n_steps"] = 10
    trainer = pl.Trainer(accelerator="cpu", max_steps=steps, val_check_interval=steps // 2, **options)
    with quiet(), own.watched(), of_metrics.watched():
        trainer.fit(module, data)
    step = sum(times.steps[2:]) / len(times.steps[2:])
    shares = [one.seconds / steps / step for one in (own, of_metrics)]
    return step, statistics.median(times.validations), shares[0], shares[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="", help="a model's folder or name; a BERT of one layer if empty")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("mtcl", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside)
        with quiet():
            write_demo(folder / "data", posts=600, seed=0)
        write_tasks(folder / "data", folder / "tasks")
        write_model(folder / "data", folder / "model")
        model = options.model or str(folder / "model")
        run(folder, "full", steps=6, model=model)  # imports, stores
        found: dict[Any, list[tuple[float, float, float, float]]] = {level: [] for level in LEVELS}
        for number in range(options.rounds):
            for level in (*LEVELS[number % 3 :], *LEVELS[: number % 3]):
                found[level].append(run(folder, level, steps=options.steps, model=model))
        step, validation, own, of_metrics = (
            {level: statistics.median(one[which] for one in times) for level, times in found.items()}
            for which in range(4)
        )
        for level in LEVELS:
            ratios = [one[0] / base[0] for one, base in zip(found[level], found[None], strict=True)]
            print(
                f"board {level!s:5} step {1e3 * step[level]:8.2f} ms ({step[level] / step[None] - 1:+.2%}; rounds "
                f"{min(ratios) - 1:+.1%} to {max(ratios) - 1:+.1%}; own {own[level]:.2%}, "
                f"metrics {of_metrics[level]:.2%}), "
                f"validation {1e3 * validation[level]:8.1f} ms "
                f"({1e3 * (validation[level] - validation[None]):+.0f} ms)"
            )


if __name__ == "__main__":
    main()
