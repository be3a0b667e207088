"""The progress bar: each task's loss and the tokens per second, as logged last."""

from __future__ import annotations

from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch.callbacks import RichProgressBar

from mtcl.training import metrics
from mtcl.training.metric_log import MetricLog


class Progress(RichProgressBar):
    """Lightning's rich progress bar with the logged values instead of its own."""

    def _get_train_description(self, current_epoch: int) -> str:
        """Lightning would show `Epoch 0/-2`, but a mixture has steps, not epochs. This overrides a private method."""
        return "train"

    @property
    def total_train_batches(self) -> int:
        """Batches of the whole run: a resumed run's loader has only the rest, but the count continues."""
        return int(self.trainer.max_steps * self.trainer.accumulate_grad_batches)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Lightning's number of the batch begins at 0 again if a run that had ended is resumed with more steps."""
        every = trainer.accumulate_grad_batches
        done = trainer.global_step * every + (batch_idx + 1) % every
        super().on_train_batch_end(trainer, pl_module, outputs, batch, done - 1)

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        shown_by = cast(MetricLog, pl_module.metric_log)
        latest = shown_by.means.latest
        shown: dict[str, Any] = {
            task: f"{latest[tag]:.3f}" for task in shown_by.tasks if (tag := metrics.train_tag("loss", task)) in latest
        }
        if metrics.TOKENS_PER_S in latest:
            shown["tokens/s"] = f"{latest[metrics.TOKENS_PER_S]:,.0f}"
        return shown
