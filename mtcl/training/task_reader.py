"""The interface of the module that a run's data needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import lightning.pytorch as pl

from mtcl.data.store import TokenStore
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder
from mtcl.training.task_config import TaskConfig
from mtcl.types import Kind


class TaskReader(pl.LightningModule):
    """What the data needs of the module that reads it."""

    encoder: Encoder
    encoder_config: EncoderConfig

    @property
    def keep_share(self) -> float:
        """The share of a step's texts that is kept near the start of the training."""
        raise NotImplementedError

    def choose_losses(self, tasks: Mapping[str, TaskConfig], kinds: Mapping[str, Kind]) -> None:
        """Take a run's tasks; raises `ConfigError` if they do not fit."""
        raise NotImplementedError

    @property
    def reads_training_texts(self) -> bool:
        """Whether the start of a run reads training texts, so that their stores must be open."""
        raise NotImplementedError

    def teacher_file(self, task: str) -> Path | None:
        """The file of a teacher's vectors of a task's training texts; None if its loss has no teacher."""
        raise NotImplementedError

    def pooled_file(self, store: TokenStore) -> Path | None:
        """The file of pooled hidden states of a store's texts; None if steps read tokens."""
        raise NotImplementedError
