"""The best checkpoint of a run whose folder was moved is not forgotten.

python -m pytest tests/test_checkpoints.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Checkpoint

from mtcl.training.callbacks import Interruption
from mtcl.training.callbacks.checkpoints import BestCheckpoint, checkpoints


def test_the_best_score_goes_with_a_moved_folder(tmp_path: Path) -> None:
    before, after = (checkpoints(tmp_path / name, every_n_steps=1)[0] for name in ("old", "new"))
    assert isinstance(before, BestCheckpoint)
    assert isinstance(after, BestCheckpoint)
    path = str(tmp_path / "old" / "best.ckpt")
    before.best_model_path = before.kth_best_model_path = path
    before.best_model_score = torch.tensor(0.7)
    before.best_k_models = {path: torch.tensor(0.7)}
    state: dict[str, Any] = before.state_dict()
    after.load_state_dict(state)
    assert after.best_model_score == 0.7
    assert after.best_model_path == str(tmp_path / "new" / "best.ckpt"), "the old folder's file is not ours to remove"
    assert list(after.best_k_models) == [after.best_model_path]
    assert state["best_model_path"] == path


def test_all_that_write_checkpoints_keep_their_order(tmp_path: Path) -> None:
    writers = [*checkpoints(tmp_path, every_n_steps=1), Interruption(tmp_path)]
    assert all(isinstance(callback, Checkpoint) for callback in writers)
