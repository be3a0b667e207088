"""What a run's Trainer must be: with a number of steps, all of which train, in a precision that the encoder has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl

from mtcl.errors import ConfigError

REFUSED = {
    "fast_dev_run": "it would evaluate only the first tasks; give trainer.max_steps, and data.pairs_per_task to "
    "train on few pairs",
    "overfit_batches": "give data.pairs_per_task to train on few pairs",
}
"""Lightning's settings that would do something else than they say, with what to do instead."""
LIMITS = ("limit_val_batches", "limit_test_batches", "limit_predict_batches")
OPTIONS = (*REFUSED, *LIMITS, "precision")


def check_options(options: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for a value of one of `OPTIONS` that would mean something else in mtcl."""
    for name, instead in REFUSED.items():
        if options[name]:
            raise ConfigError(f"trainer.{name} is not supported: {instead}")
    for name in LIMITS:
        value = options[name]
        if value and (isinstance(value, int) or value != 1.0):
            raise ConfigError(
                f"trainer.{name} is {value}: a batch is a whole task there, so tasks would silently be skipped; "
                "give 0 or 1.0, and set a task that you do not want to null"
            )
    if str(options["precision"]) in ("16-true", "bf16-true", "64-true"):
        raise ConfigError(f"trainer.precision is {options['precision']}: give bf16-mixed, 16-mixed or 32-true")


def check_trainer(trainer: pl.Trainer) -> None:
    """Raise `ConfigError` for options with which nothing would be trained, or not as they say."""
    if trainer.max_steps == 0:
        raise ConfigError("trainer.max_steps is 0, so nothing would be trained: give the number of steps to train")
    if trainer.max_steps < 0:
        raise ConfigError(
            "trainer.max_steps is not set: a mixture of tasks has no natural end, so give the number of steps to "
            "train, for example --trainer.max_steps 1000 (in Python Trainer(max_steps=1000))"
        )
    if trainer.max_epochs == 0:
        raise ConfigError("trainer.max_epochs is 0, so nothing would be trained: give trainer.max_steps only")
    if trainer.accumulate_grad_batches < 1:
        raise ConfigError(f"trainer.accumulate_grad_batches is {trainer.accumulate_grad_batches}: give at least 1")
    if trainer.limit_train_batches == 0:
        raise ConfigError("trainer.limit_train_batches is 0, so nothing would be trained: leave it out")
    if not (trainer.gradient_clip_val or 0) >= 0:  # NaN is neither
        raise ConfigError(
            f"trainer.gradient_clip_val is {trainer.gradient_clip_val}: give a limit above 0, or 0 for no limit"
        )
    if not hasattr(trainer, "val_check_interval"):  # Lightning keeps a time under another name
        raise ConfigError(
            "trainer.val_check_interval is a time: a run validates at the same steps each time it is run or resumed, "
            "so give a number of batches, or a share of the run such as 0.25"
        )
    batches_after_validation(trainer)


def num_batches(trainer: pl.Trainer) -> int:
    """Batches of a run, fewer with `limit_train_batches` (a number or a share)."""
    num_steps, limit = trainer.max_steps * trainer.accumulate_grad_batches, trainer.limit_train_batches
    return min(num_steps, limit if isinstance(limit, int) else int(num_steps * (1.0 if limit is None else limit)))


def batches_after_validation(trainer: pl.Trainer) -> int:
    """Batches that come after a run's last validation. Raises `ConfigError` if there would be no validation."""
    interval, num = trainer.val_check_interval, num_batches(trainer)
    if (epochs := trainer.check_val_every_n_epoch) is not None and epochs > 1:
        raise ConfigError(
            f"trainer.check_val_every_n_epoch is {epochs}, but a run is one epoch: give trainer.val_check_interval"
        )
    if not isinstance(interval, int | float) or math.isinf(interval):
        return 0
    if isinstance(interval, float) and interval > 0:
        interval = max(1, int(num * interval))
    if not interval > 0:
        raise ConfigError(
            f"trainer.val_check_interval is {interval}: give 1 or more, or null to validate at the end only"
        )
    if interval > num:
        raise ConfigError(f"trainer.val_check_interval is {interval}, but the run has {num} batches: give fewer")
    return num % int(interval)
