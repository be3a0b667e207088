"""What a run's Trainer must be: with a number of steps, all of which train, in a precision that the encoder has."""

from __future__ import annotations

import lightning.pytorch as pl

from mtcl.errors import ConfigError


def check_trainer(trainer: pl.Trainer) -> None:
    """Raise `ConfigError` for options with which nothing would be trained, or not as they say."""
    if trainer.max_steps < 1:
        raise ConfigError(
            "trainer.max_steps is not set: a mixture of tasks has no natural end, so give the number of steps to "
            "train, for example Trainer(max_steps=1000)"
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
    if str(trainer.precision).startswith("64"):
        raise ConfigError(f"trainer.precision is {trainer.precision}, which encoders do not have: give 32-true")


def num_batches(trainer: pl.Trainer, num_steps: int) -> int:
    """Batches of a run of this many micro-steps, fewer with `limit_train_batches` (a number or a share)."""
    limit = trainer.limit_train_batches
    return min(num_steps, limit if isinstance(limit, int) else int(num_steps * (1.0 if limit is None else limit)))
