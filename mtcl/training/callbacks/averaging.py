"""An exponential moving average of the weights, evaluated and saved instead of the weights of a single step.

Averages of late weights lie in flatter minima and generalise better (Izmailov et al. 2018, arXiv 1803.05407;
Morales-Brotons et al. 2024, arXiv 2411.18704), and cost no second run. Lightning's own callback does the work. The
differences from `EMAWeightAveraging` of Lightning 2.6 are:

- buffers are not averaged: BERT's position numbers are integers, and an average of 5 and 5 is truncated to 4;
- up to `start_step` the average equals the weights: Lightning's copy would stay as it was when the run was set up,
  before the projection got its PCA, and a validation would use it;
- the weights are replaced by their average after the last checkpoint is written, so that it can be resumed exactly.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mtcl.errors import ConfigError
from mtcl.training.lightning_private import follow_weights, is_accumulating

log = logging.getLogger("mtcl")


@dataclass(frozen=True)
class AveragingConfig:
    """Evaluate and save an exponential moving average of the weights.

    Attributes:
        decay: Share of the average that a step keeps; the average covers about the last 1 / (1 - decay) steps.
        start_step: Optimizer step up to which the average equals the weights.
    """

    decay: float = 0.999
    start_step: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ConfigError(f"averaging.decay is {self.decay}: give 0 or more and less than 1")
        if self.start_step < 0:
            raise ConfigError(f"averaging.start_step is {self.start_step}: give 0 or more")


class Averaging(WeightAveraging):
    """Must come before callbacks that write checkpoints, so that a step's checkpoint has the average of that step."""

    def __init__(self, config: AveragingConfig) -> None:
        update: Any = get_ema_multi_avg_fn  # without annotations in torch
        super().__init__(use_buffers=False, multi_avg_fn=update(config.decay))
        self.config = config

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if 0 <= trainer.max_steps <= self.config.start_step and trainer.is_global_zero:
            log.warning(
                "averaging.start_step is %d, but the run has %d steps, so nothing is averaged: give fewer",
                self.config.start_step,
                trainer.max_steps,
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *arguments: Any, **options: Any
    ) -> None:
        if trainer.global_step <= self.config.start_step and not is_accumulating(trainer):
            follow_weights(self)
        super().on_train_batch_end(trainer, pl_module, *arguments, **options)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do nothing yet, because other callbacks still write checkpoints."""

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
