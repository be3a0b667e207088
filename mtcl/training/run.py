"""A run as its parts see it: the state of an `MtclModule`, without the module's own work.

Vectors, start, logging, resume and checks are modules of their own, which the module uses. They take a `Run`, so that
they need not know the module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder
from mtcl.errors import ConfigError
from mtcl.training.base_reference import BaseReference
from mtcl.training.datamodule import MtclDataModule
from mtcl.training.selection import Selection
from mtcl.training.task_config import TaskConfig
from mtcl.training.task_reader import TaskReader
from mtcl.weighting import Weighting


class Run(TaskReader):
    """The state of a run; `MtclModule` sets and documents it."""

    encoder: Encoder
    encoder_config: EncoderConfig
    weighting: Weighting
    losses: nn.ModuleDict
    heads: nn.ModuleDict
    base_heads: nn.ModuleDict
    task_configs: Mapping[str, TaskConfig]
    base: BaseReference
    history: dict[int, dict[str, float]]
    start_figures: dict[str, float]
    trained_before: set[str]
    selection: Selection
    eval_dims: tuple[int, ...]
    eval_groups: bool
    gradient_cosines_every_n_steps: int
    allow_changes: bool

    @property
    def data(self) -> MtclDataModule:
        """The Trainer's data."""
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, MtclDataModule):
            raise ConfigError("MtclModule reads its tasks from an MtclDataModule: trainer.fit(module, datamodule)")
        return data

    def head_of(self, task: str) -> nn.Module | None:
        """A task's own projection of the shared vector; None if it has none."""
        head: nn.Module | None = self.heads[task] if task in self.heads else None  # noqa: SIM401  (no `get` in torch 2.6)
        return head

    def dim_of(self, task: str) -> int:
        """Dimensions of the vectors that a task's loss and evaluation see."""
        head = self.head_of(task)
        return int(head.out_features) if isinstance(head, nn.Linear) else self.encoder.dim

    def described(self) -> dict[str, Any]:
        """The module's part of a configuration, as plain values."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """The settings and data that determine each step's pairs and loss."""
        raise NotImplementedError
