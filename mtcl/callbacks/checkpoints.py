"""Two checkpoints of a run: the best by `val/mean`, and the last to go on from.

Two callbacks, because one that monitors a metric defers its save to the end of a validation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint

from mtcl.board import VAL_MEAN

BEST, LAST = "best", "last"


def checkpoints(folder: Path, *, every_n_steps: int) -> list[ModelCheckpoint]:
    """`best.ckpt` and `last.ckpt` in `folder`; the last is written every `every_n_steps` optimizer steps."""
    names: dict[str, Any] = {"dirpath": folder, "auto_insert_metric_name": False, "enable_version_counter": False}
    best = ModelCheckpoint(
        filename=BEST, monitor=VAL_MEAN, mode="max", save_top_k=1, save_on_train_epoch_end=False, **names
    )
    last = ModelCheckpoint(filename=LAST, every_n_train_steps=every_n_steps, save_top_k=1, **names)
    return [best, last]
