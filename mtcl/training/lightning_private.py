"""The private names of Lightning that mtcl uses, each with a reason and a test (`tests/test_lightning_private.py`)."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from lightning.pytorch.strategies import DDPStrategy


def allow_unused_parameters(trainer: pl.Trainer) -> None:
    """Tell DDP that parameters may have no gradient in a step: those of tasks that have no slot in it.

    Lightning may have chosen the strategy (`strategy: auto`), so this cannot be an argument of its constructor.
    """
    if isinstance(trainer.strategy, DDPStrategy):
        trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)


def silence_sigterm_broadcast(trainer: pl.Trainer) -> None:
    """Remove a broadcast in every step with several ranks, and a hang on SIGTERM (see `Interruption`)."""
    loop: Any = trainer.fit_loop.epoch_loop
    if hasattr(loop, "_broadcast_sigterm_tensor"):
        loop._broadcast_sigterm_tensor = _nothing


def _nothing(*arguments: object) -> None:
    pass


def set_batches_done(checkpoint: dict[str, Any], batches: int) -> None:
    """Set a checkpoint's loops to `batches` micro-steps: accumulation may have changed, or was interrupted half-way."""
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    for counts in (progress["total"], progress["current"]):
        open_ones = counts["ready"] - counts["completed"]
        counts.update(ready=batches, started=batches, processed=batches, completed=batches - open_ones)


def is_accumulating(trainer: pl.Trainer) -> bool:
    """Whether the batch that has just ended was not the last of an optimizer step."""
    return bool(trainer.fit_loop.epoch_loop._should_accumulate())


def is_validation_due(trainer: pl.Trainer) -> bool:
    """Whether a validation follows the batch that has just ended."""
    loop = trainer.fit_loop
    fetcher = loop._data_fetcher
    return bool(trainer.enable_validation and fetcher and loop.epoch_loop._should_check_val_fx(fetcher))


def follow_weights(averaging: WeightAveraging) -> None:
    """Make the next update of the average a copy of the weights, like the first one."""
    model: Any = averaging._average_model
    model.n_averaged.zero_()


def keep_samplers(trainer: pl.Trainer) -> None:
    """Keep Lightning from replacing our loaders' samplers with distributed ones, which is its default.

    The plan already gives each rank its share of a step, and every rank takes part in evaluating each pool.
    """
    trainer._accelerator_connector.use_distributed_sampler = False


def stops_at_epoch_end(callback: EarlyStopping) -> bool:
    """Whether the callback looks at its metric when a training epoch ends; known after its `setup`."""
    return bool(callback._check_on_train_epoch_end)


def is_saved_at_epoch_end_by_default(callback: ModelCheckpoint) -> bool:
    """Whether Lightning chooses when the callback saves, of the two ends: of an epoch and of a validation."""
    return callback._save_on_train_epoch_end is None and bool(callback._every_n_epochs)
