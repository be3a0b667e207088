"""Writes a run's resolved configuration once training starts, so that what failed before leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from mtcl.training.module import MtclModule


class Record(Callback):
    """`config.yaml` in the run's folder, and `config.resume-N.yaml` for each time it was resumed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_start(self, trainer: pl.Trainer, pl_module: MtclModule) -> None:  # type: ignore[override]
        if not trainer.is_global_zero:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path, number = self.folder / "config.yaml", 1
        while path.exists():
            path, number = self.folder / f"config.resume-{number}.yaml", number + 1
        path.write_text(pl_module.beginning.config_text, encoding="utf-8")
