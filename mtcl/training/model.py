"""What a run trains: the encoder, each task's loss, a head for tasks that have one, and the weighting of the losses.

The losses and heads are made once, when the run's tasks are known. `MtclModule` registers all of it with Lightning and
gives its parameters their names in a checkpoint.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from mtcl.data.batch import SubBatch
from mtcl.encoder.adapt import freeze_unused
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.heads import through
from mtcl.errors import ConfigError
from mtcl.losses import Loss, View, default_loss
from mtcl.task.kind import Kind
from mtcl.training.base_reference import BaseReference
from mtcl.training.task_config import TaskConfig
from mtcl.weighting import Weighting

Observe = Callable[[int, View, Loss, Tensor], None]
"""Called with a sub-batch's task number, its rows, its loss function and its loss."""


class Model:
    """The encoder of `config` with the losses and heads of the tasks, and the base encoder that it is compared with."""

    def __init__(self, config: EncoderConfig, weighting: Weighting, *, activation_checkpointing: bool = False) -> None:
        self.config, self.weighting = config, weighting
        self.encoder = Encoder.load(config)
        self.encoder.activation_checkpointing = activation_checkpointing
        self.base = BaseReference(config, self.encoder)
        freeze_unused(self.encoder)
        self.heads, self.base_heads = nn.ModuleDict(), nn.ModuleDict()
        """The tasks' own projections of the shared vector, by task, now and at the start of training."""
        self.losses = nn.ModuleDict()
        self.tasks: Mapping[str, TaskConfig] = {}
        """The options of the tasks that are trained; empty until they are known."""

    def choose(self, tasks: Mapping[str, TaskConfig], kinds: Mapping[str, Kind], device: torch.device) -> bool:
        """Take a run's tasks, and return whether they are new: each task's configured loss or the default one for its
        pairs, and its head.

        Raises `ConfigError` for a loss that does not support the pairs or the encoder, and for other tasks, losses or
        heads than there are already.
        """
        if self.tasks:
            self._check_same(tasks)
            self.tasks = tasks
            return False
        if taken := [name for name in tasks if hasattr(nn.ModuleDict(), name)]:
            raise ConfigError(f"task name {taken[0]!r} is reserved by torch: rename the task")
        for name, kind in kinds.items():
            loss = _loss(name, tasks[name], kind)
            if (dim := tasks[name].head) is not None:
                self._add_head(name, dim, device)
            loss.check(dim=self.dim_of(name))
            self.losses[name] = loss
        self.weighting.start(list(tasks))
        self.tasks = tasks
        return True

    def _check_same(self, tasks: Mapping[str, TaskConfig]) -> None:
        if list(tasks) != list(self.tasks):
            raise ConfigError(f"the module has the tasks {', '.join(self.tasks)}: make a new one for others")
        if odd := [n for n, task in tasks.items() if task.loss is not None and task.loss is not self.losses[n]]:
            raise ConfigError(f"the module has another loss for {odd[0]!r} already: make a new module")
        if odd := [name for name, task in tasks.items() if task.head != self.tasks[name].head]:
            raise ConfigError(f"the module has another head for {odd[0]!r} already: make a new module")

    def _add_head(self, name: str, dim: int, device: torch.device) -> None:
        if dim > self.encoder.dim:
            raise ConfigError(f"tasks.{name}.head is {dim}, more than the encoder's {self.encoder.dim}: give fewer")
        head = nn.Linear(self.encoder.dim, dim).to(device)
        self.heads[name], self.base_heads[name] = head, deepcopy(head).requires_grad_(False)

    def task_losses(self, parts: Sequence[SubBatch], views: Sequence[View], observe: Observe) -> dict[str, Tensor]:
        """The losses of a step's tasks, each multiplied by the task's share (`shares`)."""
        names, found = list(self.tasks), dict[str, Tensor]()
        for part, view in zip(parts, views, strict=True):
            name = names[part.task]
            if (head := self.head_of(name)) is not None:
                view = view.map_vectors(partial(through, head))
            loss_of = self.loss_of(name)
            loss: Tensor = loss_of(view)
            term = self.tasks[name].loss_weight * loss / len(parts)
            found[name] = found[name] + term if name in found else term
            observe(part.task, view, loss_of, loss)
        return found

    def shares(self, parts: Sequence[SubBatch]) -> dict[str, float]:
        """The share of each of a step's tasks in its loss: `loss_weight` times its share of the sub-batches."""
        names = list(self.tasks)
        counts = Counter(names[part.task] for part in parts)
        return {name: self.tasks[name].loss_weight * count / len(parts) for name, count in counts.items()}

    def loss_of(self, task: str) -> Loss:
        """A task's loss."""
        return cast("Loss", self.losses[task])

    def head_of(self, task: str) -> nn.Linear | None:
        """A task's own projection of the shared vector; None if it has none."""
        return cast("nn.Linear", self.heads[task]) if task in self.heads else None

    def dim_of(self, task: str) -> int:
        """Dimensions of the vectors that a task's loss and evaluation see."""
        head = self.head_of(task)
        return self.encoder.dim if head is None else head.out_features


def _loss(name: str, task: TaskConfig, kind: Kind) -> Loss:
    """The loss of a task with this kind of pairs."""
    loss = task.loss or default_loss(kind)
    if kind not in loss.kinds:
        raise ConfigError(
            f"tasks.{name}.loss is {type(loss).__name__}, for {' or '.join(sorted(loss.kinds))} pairs, but the "
            f"task has {kind} pairs: the default there is {type(default_loss(kind)).__name__}"
        )
    return loss
