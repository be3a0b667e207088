"""Writes a run's configuration into its folder when training starts, and into each checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from mtcl.files import remember_root, write_text
from mtcl.training.module import MtclModule


class SaveConfig(Callback):
    """Writes `config.yaml` to the run's folder, and `config.resume-N.yaml` each time the run is resumed.

    Args:
        folder: The run's folder.
        text: The whole configuration; made from the module, the data and the Trainer if None.
    """

    def __init__(self, folder: Path, text: str | None = None) -> None:
        self.folder, self.text = folder, text

    def on_train_start(self, trainer: pl.Trainer, pl_module: MtclModule) -> None:  # type: ignore[override]
        """Not earlier, so that a run that fails before its first step leaves no files."""
        if not trainer.is_global_zero:
            return
        if pl_module.data.root is not None:
            remember_root(pl_module.data.root, cache=pl_module.data.cache)
        path, number = self.folder / "config.yaml", 1
        while path.exists():
            path, number = self.folder / f"config.resume-{number}.yaml", number + 1
        write_text(path, self.text or pl_module.config_text())

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self.text is not None:
            checkpoint.setdefault("mtcl", {})["config"] = self.text
