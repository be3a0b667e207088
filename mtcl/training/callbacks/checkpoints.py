"""Two checkpoints of a run: the best by `val/mean` (or `val/weighted_mean`), and the last one to resume from.

If a validation is due at the same step, the last checkpoint is written after it. Otherwise Lightning would consider the
validation done on resume, and it would be missing. All callbacks that write checkpoints derive from Lightning's
`Checkpoint`, whose callbacks run after all others, in their order: the last checkpoint contains its step's best score.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from mtcl.encoder.paths import BEST, LAST
from mtcl.training.lightning_private import is_accumulating, is_validation_due
from mtcl.training.metrics import VAL_MEAN
from mtcl.training.module import MtclModule


def save_shown(trainer: pl.Trainer, module: MtclModule, path: Path) -> None:
    """Write the run's state to `path` after its logs are on disk up to this step, because a resumed run does not log
    earlier steps again. All ranks must call it together.
    """
    if trainer.log_every_n_steps:  # type: ignore[attr-defined]
        module.metric_log.show_training()
        for logger in trainer.loggers:
            logger.save()
    trainer.save_checkpoint(path)


class BestCheckpoint(ModelCheckpoint):
    """Monitors the metric that the module chooses its best checkpoint by. Keeps its best score if the run's folder was
    moved; Lightning's class forgets it.
    """

    def setup(self, trainer: pl.Trainer, pl_module: MtclModule, stage: str) -> None:  # type: ignore[override]
        self.monitor = pl_module.run.selection.tag
        super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        moved = {key: here(state_dict[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
        best_k = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": best_k, "dirpath": self.dirpath})


class LastCheckpoint(Checkpoint):
    """Writes `last.ckpt` every n optimizer steps and at the end, and logs at the same time. Needs an `MtclModule`."""

    def __init__(self, folder: Path, *, every_n_steps: int) -> None:
        self.path, self.every_n_steps = folder / LAST, every_n_steps
        self._is_due = False
        self._saved_at = -1

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: MtclModule, *arguments: Any, **options: Any) -> None:  # type: ignore[override]
        if is_accumulating(trainer):
            return
        self._is_due |= trainer.global_step % self.every_n_steps == 0 or trainer.global_step == trainer.max_steps
        if self._is_due and not is_validation_due(trainer):
            self._save(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: MtclModule) -> None:  # type: ignore[override]
        if self._is_due and trainer.state.fn == "fit":
            self._save(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: MtclModule) -> None:  # type: ignore[override]
        """Also called if `max_time` or early stopping ended the run."""
        if self._saved_at != trainer.global_step:
            self._save(trainer, pl_module)

    def _save(self, trainer: pl.Trainer, module: MtclModule) -> None:
        self._is_due, self._saved_at = False, trainer.global_step
        save_shown(trainer, module, self.path)


def checkpoints(folder: Path, *, every_n_steps: int) -> list[Checkpoint]:
    """`best.ckpt` and `last.ckpt` in `folder`."""
    best = BestCheckpoint(
        dirpath=folder,
        filename=Path(BEST).stem,
        monitor=VAL_MEAN,
        mode="max",
        save_on_train_epoch_end=False,
        auto_insert_metric_name=False,
        enable_version_counter=False,
    )
    return [best, LastCheckpoint(folder, every_n_steps=every_n_steps)]
