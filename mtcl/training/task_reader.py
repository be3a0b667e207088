"""What a run's data asks of the module that reads it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

import lightning.pytorch as pl

from mtcl.data.store import TokenStore
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder
from mtcl.task.kind import Kind
from mtcl.training.task_config import TaskConfig


class TaskReader(pl.LightningModule, ABC):
    """A module that takes its tasks from an `MtclDataModule`. Lightning prepares the data first, so the data asks."""

    encoder: Encoder
    encoder_config: EncoderConfig

    @abstractmethod
    def choose_tasks(self, tasks: Mapping[str, TaskConfig], kinds: Mapping[str, Kind]) -> None:
        """Take a run's tasks. Raises `ConfigError` if they do not fit the encoder, or those that the module has."""

    @abstractmethod
    def check_schedule(self) -> None:
        """Raise `ConfigError` if the learning rate's schedule does not fit into the Trainer's steps."""

    @property
    @abstractmethod
    def reads_training_texts(self) -> bool:
        """Whether the start of a run reads training texts; if so, their stores must be open."""

    @property
    @abstractmethod
    def keep_share(self) -> float:
        """The share of a step's texts whose distance from the start is measured; 0 to 1."""

    @property
    @abstractmethod
    def cost_of_padding(self) -> float:
        """What a place of padding costs in a step's chunks, as a share of a token's cost."""

    @abstractmethod
    def teacher_file(self, task: str) -> Path | None:
        """The file of a teacher's vectors of a task's training texts; None if its loss has no teacher."""

    @abstractmethod
    def pooled_file(self, store: TokenStore) -> Path | None:
        """The file of pooled hidden states of a store's texts; None if steps read tokens."""
