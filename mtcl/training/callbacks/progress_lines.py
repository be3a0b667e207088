"""Progress in a log file, where there is no bar: a line per minute between validations."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from mtcl.training import metrics
from mtcl.training.module import MtclModule

EVERY_S = 60.0
"""Seconds between two lines."""
log = logging.getLogger("mtcl")


class ProgressLines(Callback):
    """Logs step, loss, steps per second and the time left, if standard error is not a terminal.

    The pace is that of the steps since the last line; the first step after the start or a validation is not counted,
    because it waits for the loader. The time left is that of the steps alone.
    """

    def __init__(self, every_s: float = EVERY_S) -> None:
        self.every_s = every_s
        self._since: tuple[int, float] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._since = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._since = None

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: pl.Trainer, pl_module: MtclModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = (trainer.global_step, now)
        step, then = self._since
        num_steps = trainer.global_step - step
        if not trainer.is_global_zero or sys.stderr.isatty() or now - then < self.every_s or not num_steps:
            return
        self._since = (trainer.global_step, now)
        steps_per_s = num_steps / max(now - then, 1e-9)
        left = (trainer.max_steps - trainer.global_step) / steps_per_s
        loss = pl_module.metric_log.means.latest.get(metrics.TRAIN_LOSS)
        log.info(
            "step %d of %d: %s%s steps/s, %s left",
            trainer.global_step,
            trainer.max_steps,
            "" if loss is None else f"loss {loss:.4f}, ",
            f"{steps_per_s:.2f}" if steps_per_s < 100 else f"{steps_per_s:.0f}",
            duration(left),
        )


def duration(seconds: float) -> str:
    """A time to read: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
