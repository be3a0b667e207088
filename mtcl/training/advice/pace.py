"""Measures the time of an epoch on this machine, and the untrained encoder's score, with a few trial steps.

They use the same module, data and Trainer as `mtcl fit`, without files and progress bars.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from mtcl.encoder.precision import best_precision
from mtcl.evaluation import Result
from mtcl.losses import Loss
from mtcl.training.datamodule import MtclDataModule
from mtcl.training.module import MtclModule
from mtcl.training.trainer_options import DEFAULTS

WARM_UP, STEPS = 2, 4
"""The numbers of steps before the timed ones, and of timed steps."""
ENOUGH_S = 20.0
"""Seconds of timed steps after which no further one is started."""
log = logging.getLogger("mtcl")
QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "log_every_n_steps": 0,
}


@dataclass(frozen=True)
class Pace:
    """Seconds of a step of `batch_size` pairs, and where it was measured."""

    step_s: float
    batch_size: int
    device: str

    def epoch_s(self, num_pairs: int) -> float:
        """Seconds for all pairs of a task, once."""
        return self.step_s * num_pairs / self.batch_size


class _Clock(Callback):
    """Records when steps end."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if pl_module.device.type == "cuda":
            import torch

            torch.cuda.synchronize()
        self.times.append(time.perf_counter())
        if len(self.times) > WARM_UP and self.times[-1] - self.times[WARM_UP - 1] > ENOUGH_S:
            trainer.should_stop = True


def tried(data: MtclDataModule, name: str, loss: Loss | None, model: dict[str, Any]) -> tuple[Result | None, Pace]:
    """The untrained encoder's result on the validation split of task `name`, None if it has none, and the pace.

    `data` has that task only, and `model` the arguments of an `MtclModule`.
    """
    if loss is not None:
        data.task_configs[name] = replace(data.task_configs[name], loss=loss)
    module, clock = MtclModule(**{**model, "evaluate_base": False}), _Clock()
    result = None
    with _quiet():
        if data.stores.has(name, "validation"):
            _trainer().validate(module, data, verbose=False)
            result = module.results[name]
        trainer = _trainer(max_steps=WARM_UP + STEPS, limit_val_batches=0, callbacks=[clock])
        trainer.fit(module, data)
    step_s = (clock.times[-1] - clock.times[WARM_UP - 1]) / (len(clock.times) - WARM_UP)
    device = trainer.strategy.root_device  # not the module's, which Lightning has moved back to the CPU
    return result, Pace(step_s, data.plan.tasks[0].batch_size, "CPU" if device.type == "cpu" else str(device))


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the log of the run, since the check itself gives the warnings."""
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _trainer(**options: Any) -> pl.Trainer:
    return pl.Trainer(**{**DEFAULTS, **QUIET, "precision": best_precision(), "devices": 1, **options})
