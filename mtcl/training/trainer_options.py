"""The arguments that `mtcl fit` gives to Lightning's Trainer, also for use in a notebook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

from mtcl.encoder.precision import best_precision
from mtcl.errors import ConfigError
from mtcl.records.mapping import check_types, from_mapping
from mtcl.training.board.callback import Board
from mtcl.training.board.names import Level
from mtcl.training.callbacks import (
    Averaging,
    AveragingConfig,
    EvaluationEnd,
    Interruption,
    Progress,
    ProgressLines,
    Report,
    SaveConfig,
    checkpoints,
)
from mtcl.training.checkpoint_file import WholeFile

DEFAULTS: dict[str, Any] = {
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 10,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,
    "enable_model_summary": False,
}
"""Defaults of `mtcl fit` that differ from Lightning's, apart from the precision."""


def trainer_options(
    folder: str | Path,
    *,
    checkpoint_every_n_steps: int = 50,
    averaging: AveragingConfig | None = None,
    checkpointing: bool = True,
    progress_bar: bool = True,
    board: Level | None = "full",
    config_text: str | None = None,
    purge_step: int | None = None,
) -> dict[str, Any]:
    """Arguments for a Trainer that works like `mtcl fit`: `Trainer(max_steps=60, **trainer_options("runs/mine"))`.

    It writes `best.ckpt` and `last.ckpt` atomically, saves its state when it is told to stop, compares each validation
    with the base encoder, and logs to TensorBoard.

    Args:
        folder: The run's folder.
        checkpoint_every_n_steps: Optimizer steps between writes of `last.ckpt`.
        averaging: Evaluate and save an average of the weights; also a mapping, such as {"decay": 0.999}.
        checkpointing: Write checkpoints.
        progress_bar: Show a progress bar with each task's loss.
        board: How much TensorBoard shows (docs/board.md): lean or full; null for scalars only.
        config_text: The configuration to record; made from the module and the data if None.
        purge_step: Remove logged values from this step on, because a resumed run logs them again.
    """
    check_types(trainer_options, locals(), where="", but=("folder", "averaging", "board"))
    if averaging is not None:
        averaging = from_mapping(AveragingConfig, averaging, where="averaging")
    if checkpoint_every_n_steps < 1:
        raise ConfigError(f"checkpoint_every_n_steps is {checkpoint_every_n_steps}: give at least 1")
    folder = Path(folder)
    callbacks: list[Any] = [Averaging(averaging)] if averaging else []
    callbacks += [SaveConfig(folder, config_text), Report(), ProgressLines(), EvaluationEnd()]
    if board is not None:
        callbacks.append(Board(folder, board, config_text))
    if checkpointing:
        callbacks += checkpoints(folder / "checkpoints", every_n_steps=checkpoint_every_n_steps)
        callbacks.append(Interruption(folder / "checkpoints"))
    if progress_bar:
        callbacks.append(Progress())
    logger = TensorBoardLogger(
        folder.parent, name=folder.name, version="", default_hp_metric=False, purge_step=purge_step
    )
    options = {"callbacks": callbacks, "logger": logger, "plugins": [WholeFile()], "precision": best_precision()}
    return DEFAULTS | options
