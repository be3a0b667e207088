"""The configuration of tasks and their mixture, and the plan made from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from mtcl.data.plan import Plan, PlanTask
from mtcl.errors import ConfigError, at
from mtcl.losses import Loss, loss_named
from mtcl.records.mapping import from_mapping
from mtcl.task.contract import Task
from mtcl.task.pairs import Pairs
from mtcl.task.prompt import Prompt


class TaskRole(StrEnum):
    """What a run does with a task. All are evaluated; each role has its own mean, and that of `train` is `val/mean`."""

    TRAIN = "train"
    REPLAY = "replay"
    WATCH = "watch"
    HELD_OUT = "held_out"


LIMITS = ("pairs_per_task", "pairs_per_label")
UNUSED: dict[TaskRole, tuple[str, ...]] = {
    TaskRole.TRAIN: (),
    TaskRole.REPLAY: ("weight_schedule",),
    TaskRole.WATCH: ("weight", "weight_schedule", "batch_size", "loss", "loss_weight", "hard_negatives", *LIMITS),
}
"""Options that have no effect on a task in a role."""


@dataclass
class TaskConfig:
    """A task's options in a run, `tasks.NAME`; where an option is null, the run's value applies.

    Attributes:
        weight: Multiplies the task's share of the steps.
        weight_schedule: Step -> weight from that step on (micro-steps if gradients are accumulated); 0 pauses the task.
        batch_size: Pairs per sub-batch, over all ranks.
        max_length: Tokens a text is cut to.
        loss: The task's loss; if null, the default for its kind of pairs.
        loss_weight: Multiplies the task's loss.
        prompt: Put before every text of the task: one text, or {query: ..., document: ...}. Null takes the task's own,
            else the run's.
        head: Dimensions of a projection of the task's own over the shared vector; null for none.
        hard_negatives: Hard negatives per pair in a step, drawn again in each epoch; no effect if the task has none or
            its loss uses none.
        pairs_per_task: Train on this many pairs of the task; if null, `data.pairs_per_task` applies.
        pairs_per_label: Train on the pairs of this many examples per label; if null, `data.pairs_per_label` applies.
        watch: Evaluate the task, but never train it; it has no part in `val/mean`. An earlier run may have trained it.
        replay: Train the task again within the share `data.replay` of the steps; it has no part in `val/mean`. Set by
            `data.replay` with --init_from for the tasks of that run.
    """

    weight: float = 1.0
    weight_schedule: dict[int, float] = field(default_factory=dict)
    batch_size: int | None = None
    max_length: int | None = None
    loss: Loss | None = None
    loss_weight: float = 1.0
    prompt: str | dict[str, str] | None = None
    hard_negatives: int = 1
    head: int | None = None
    pairs_per_task: int | None = None
    pairs_per_label: int | None = None
    watch: bool = False
    replay: bool = False

    @classmethod
    def of(cls, name: str, given: TaskConfig | Mapping[str, Any] | None) -> TaskConfig:
        """Build it from a mapping of its attributes; `loss` may be a loss or its name.

        Raises `ConfigError` for None, which in a configuration file would remove the task.
        """
        if given is None:
            raise ConfigError(f"tasks.{name} is None: give {{}} for a task with defaults, or leave it out")
        if isinstance(given, Task) or (isinstance(given, type) and issubclass(given, Task)):
            raise ConfigError(
                f"tasks.{name} is a Task: write its class to tasks/{name}.py (or a folder that tasks_dir names), where "
                f"every process finds it, and give its options here: {{{name!r}: {{}}}}"
            )
        if isinstance(given, Mapping) and isinstance(given.get("loss"), str):
            with at(f"tasks.{name}.loss: "):
                given = {**given, "loss": loss_named(given["loss"])}
        return from_mapping(cls, given, where=f"tasks.{name}")

    def described(self) -> dict[str, Any]:
        """The options as plain values, as in a configuration."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return values | {"loss": None if self.loss is None else self.loss.described()}

    @property
    def role(self) -> TaskRole:
        """What the run does with the task."""
        return TaskRole.WATCH if self.watch else TaskRole.REPLAY if self.replay else TaskRole.TRAIN

    def check_role(self, name: str) -> None:
        """Raise `ConfigError` for an option that a task in this role does not use."""
        if self.watch and self.replay:
            raise ConfigError(f"tasks.{name} has watch and replay: remove one; a replayed task is evaluated as well")
        unused = UNUSED[self.role]
        default = TaskConfig()
        if given := [option for option in unused if getattr(self, option) != getattr(default, option)]:
            raise ConfigError(
                f"tasks.{name}.{given[0]} has no effect on a task with {self.role}: true: remove one of the two"
            )

    def __post_init__(self) -> None:
        if self.prompt is not None:
            with at("a task's "):
                Prompt.of(self.prompt)
        if self.head is not None and self.head < 1:
            raise ConfigError(f"a task's head is {self.head}: give its dimensions, or null for none")
        if self.hard_negatives < 0:
            raise ConfigError(f"a task's hard_negatives is {self.hard_negatives}: give 0 or more")
        if not 0 <= self.loss_weight < math.inf:
            raise ConfigError(f"a task's loss_weight is {self.loss_weight}: give 0 or more")
        with at("a task's "):
            check_limits(self.pairs_per_task, self.pairs_per_label)


@dataclass(frozen=True)
class MixtureConfig:
    """The options of `data` that determine the plan, with the defaults of runs and of a study's arms."""

    batch_size: int = 64
    tasks_per_step: int | None = None
    alpha: float = 0.5
    cap: int | None = None
    pairs_per_task: int | None = None
    replay: float = 0.0
    pairs_per_label: int | None = None

    def __post_init__(self) -> None:
        with at("data."):
            check_limits(self.pairs_per_task, self.pairs_per_label)

    def per_label(self, tasks: Mapping[str, TaskConfig]) -> dict[str, int]:
        """The examples per label that each task trains on, of the tasks with such a limit. A task's own limit of either
        kind wins; the run's does not apply to replayed tasks.
        """
        found = {}
        for name, task in tasks.items():
            run_wide = None if task.pairs_per_task is not None or task.replay else self.pairs_per_label
            if (limit := task.pairs_per_label or run_wide) is not None:
                found[name] = limit
        return found

    def check_labels(self, tasks: Mapping[str, TaskConfig], known: Mapping[str, Task]) -> None:
        """Raise `ConfigError` for a limit per label on a task whose pairs have no labels, as far as its class says."""
        for name in self.per_label(tasks):
            pairs = known[name].pairs
            if isinstance(pairs, Pairs) and not pairs.has_labels:
                raise self.no_labels(name, tasks[name], type(pairs).__name__)

    def no_labels(self, name: str, task: TaskConfig, pairs: str) -> ConfigError:
        """The error of a limit per label on a task whose pairs have no labels."""
        own = task.pairs_per_label
        key = "data.pairs_per_label" if own is None else f"tasks.{name}.pairs_per_label"
        limit = self.pairs_per_label if own is None else own
        return ConfigError(
            f"{key} is {limit}, but the pairs of task {name!r} ({pairs}) have no labels: give "
            f"tasks.{name}.pairs_per_task, the number of pairs in all"
        )

    def plan(self, tasks: Mapping[str, TaskConfig], num_pairs: Mapping[str, int], *, seed: int) -> Plan:
        """The plan of the tasks, in their order. Raises `ConfigError` if the values allow none."""
        planned = tuple(self._planned(name, task, num_pairs[name]) for name, task in tasks.items())
        with at("data.", tasks="tasks"):
            return Plan(
                planned,
                seed=seed,
                alpha=self.alpha,
                cap=self.cap,
                tasks_per_step=self.tasks_per_step,
                replay=self.replay,
            )

    def _planned(self, name: str, task: TaskConfig, num_pairs: int) -> PlanTask:
        schedule = tuple(sorted(task.weight_schedule.items()))
        batch_size = self.batch_size if task.batch_size is None else task.batch_size
        own, is_own = task.pairs_per_task, task.pairs_per_task is not None or task.pairs_per_label is not None
        limit_key = f"tasks.{name}.pairs_per_task" if is_own else "data.pairs_per_task"
        size_key = "data.batch_size" if task.batch_size is None else f"tasks.{name}.batch_size"
        with at(f"tasks.{name}.", schedule=f"tasks.{name}.weight_schedule", limit=limit_key, batch_size=size_key):
            limit = own if is_own else self.pairs_per_task
            return PlanTask(
                name,
                num_pairs,
                batch_size,
                weight=task.weight,
                limit=limit,
                schedule=schedule,
                is_replayed=task.replay,
            )


def check_limits(pairs_per_task: int | None, pairs_per_label: int | None) -> None:
    """Raise `ConfigError` for both limits at once, or for a number of examples below 1."""
    if pairs_per_label is not None and pairs_per_label < 1:
        raise ConfigError(f"pairs_per_label is {pairs_per_label}: give at least 1 example of each label, or null")
    if pairs_per_task is not None and pairs_per_label is not None:
        raise ConfigError(
            f"pairs_per_label is {pairs_per_label} and pairs_per_task {pairs_per_task}: give one of the two"
        )
