"""What a module has of each task that it trains: a loss, and a head if the task has one.

The parameters are in the module's `losses`, `heads` and `base_heads`. They are made once, when the run's tasks are
known; later stages of the same module must have the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from mtcl.data.batch import SubBatch
from mtcl.encoder.heads import through
from mtcl.errors import ConfigError
from mtcl.losses import Loss, View, default_loss
from mtcl.training.metric_log import MetricLog
from mtcl.training.task_config import TaskConfig
from mtcl.types import Kind

if TYPE_CHECKING:
    from mtcl.training.module import MtclModule


class TaskParts:
    """The losses and heads of a module's tasks."""

    def __init__(self, module: MtclModule) -> None:
        self.module = module

    def choose(self, tasks: Mapping[str, TaskConfig], kinds: Mapping[str, Kind]) -> None:
        """Take a run's tasks: each task's configured loss or the default one for its pairs, and its head.

        Raises `ConfigError` for a loss that does not support the pairs or the encoder, and for other tasks, losses or
        heads than the module has already.
        """
        module = self.module
        if module.task_configs:
            self._check_same(tasks)
            module.task_configs = tasks
            return
        if taken := [name for name in tasks if hasattr(nn.ModuleDict(), name)]:
            raise ConfigError(f"task name {taken[0]!r} is reserved by torch: rename the task")
        for name, kind in kinds.items():
            loss = _loss(name, tasks[name], kind)
            if (dim := tasks[name].head) is not None:
                self._add_head(name, dim)
            loss.check(dim=self.dim_of(name))
            module.losses[name] = loss
        module.weighting.start(list(tasks))
        module.task_configs = tasks
        module.metric_log = MetricLog(module, list(tasks))
        module.start.take_weights()

    def _check_same(self, tasks: Mapping[str, TaskConfig]) -> None:
        module = self.module
        if list(tasks) != list(module.task_configs):
            raise ConfigError(f"the module has the tasks {', '.join(module.task_configs)}: make a new one for others")
        if odd := [n for n, task in tasks.items() if task.loss is not None and task.loss is not module.losses[n]]:
            raise ConfigError(f"the module has another loss for {odd[0]!r} already: make a new module")
        if odd := [name for name, task in tasks.items() if task.head != module.task_configs[name].head]:
            raise ConfigError(f"the module has another head for {odd[0]!r} already: make a new module")

    def _add_head(self, name: str, dim: int) -> None:
        module, shared = self.module, self.module.encoder.dim
        if dim > shared:
            raise ConfigError(f"tasks.{name}.head is {dim}, more than the encoder's {shared}: give fewer")
        head = nn.Linear(shared, dim).to(module.device)
        module.heads[name], module.base_heads[name] = head, deepcopy(head).requires_grad_(False)

    def losses(self, parts: Sequence[SubBatch], views: Sequence[View]) -> dict[str, Tensor]:
        """The losses of a step's sub-batches by task, each with its weight in the mean over sub-batches."""
        module, found = self.module, dict[str, Tensor]()
        names = list(module.task_configs)
        for part, view in zip(parts, views, strict=True):
            name = names[part.task]
            if (head := self.head_of(name)) is not None:
                view = view.map_vectors(partial(through, head))
            loss_of = self.loss_of(name)
            loss: Tensor = loss_of(view)
            share = module.task_configs[name].loss_weight * loss / len(parts)
            found[name] = found[name] + share if name in found else share
            module.metric_log.observe(part.task, view, loss_of, loss)
        return found

    def loss_of(self, task: str) -> Loss:
        """A task's loss."""
        return cast("Loss", self.module.losses[task])

    def head_of(self, task: str) -> nn.Linear | None:
        """A task's own projection of the shared vector; None if it has none."""
        heads = self.module.heads
        return cast("nn.Linear", heads[task]) if task in heads else None

    def dim_of(self, task: str) -> int:
        """Dimensions of the vectors that a task's loss and evaluation see."""
        head = self.head_of(task)
        return self.module.encoder.dim if head is None else head.out_features


def _loss(name: str, task: TaskConfig, kind: Kind) -> Loss:
    """The loss of a task with this kind of pairs."""
    loss = task.loss or default_loss(kind)
    if kind not in loss.kinds:
        raise ConfigError(
            f"tasks.{name}.loss is {type(loss).__name__}, for {' or '.join(sorted(loss.kinds))} pairs, but the "
            f"task has {kind} pairs: the default there is {type(default_loss(kind)).__name__}"
        )
    return loss
