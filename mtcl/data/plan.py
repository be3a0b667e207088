"""The plan: the tasks of each step, and their pairs. It is a pure function of (seed, step).

No sampler or worker state affects the order. So a run continues exactly from a step number, on any number of ranks and
workers, and every rank knows the pairs of the others.

The share of task i is proportional to weight_i * min(pairs_i, cap)^alpha (alpha 0.5 as in GTE, arXiv 2308.03281), where
weights may change at given steps. A step has `tasks_per_step` slots, each with a sub-batch of one task; `mixture.py`
gives the task, and the position in the task's own stream of pairs. Replayed tasks, which an earlier run has trained,
have the share `replay` of the slots together, and divide it among themselves in the same way. A task's epoch is a
pseudo-random permutation computed on the fly (a Feistel network with cycle walking, Black and Rogaway 2002), so 100
million pairs need no shuffled list.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mtcl.arrays import IntArray
from mtcl.data.mixture import Cycle, Line, phases_of, replayed_before
from mtcl.data.pseudorandom import permute, stream_key
from mtcl.errors import ConfigError

MAX_BATCH = 1 << 31


@dataclass(frozen=True)
class PlanTask:
    """A task as the plan sees it: name, number of pairs, pairs per sub-batch (on all ranks together), and weight.

    With `limit`, only that many pairs are used: the first ones under a permutation that depends on (seed, name).
    """

    name: str
    num_pairs: int
    batch_size: int
    weight: float = 1.0
    limit: int | None = None
    schedule: tuple[tuple[int, float], ...] = ()
    """Steps, and the weight from each step on."""
    is_replayed: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise ConfigError(f"weight is {self.weight}: give a positive weight, or leave the task out")
        for step, weight in self.schedule:
            if step < 1 or not 0 <= weight < math.inf:
                raise ConfigError(
                    f"schedule has weight {weight} from step {step} on: give steps of at least 1 and weights of 0 or "
                    "more"
                )
        if self.batch_size < 2:
            raise ConfigError(f"batch_size is {self.batch_size}: negatives need at least 2")
        if self.batch_size > MAX_BATCH:
            raise ConfigError(f"batch_size is {self.batch_size}: give at most {MAX_BATCH:,}")
        if self.limit is not None and self.limit < 2:
            raise ConfigError(f"limit is {self.limit}: give at least 2 pairs, or null for all")

    def weight_at(self, step: int) -> float:
        """The weight at a step."""
        passed = [weight for first, weight in sorted(self.schedule) if first <= step]
        return passed[-1] if passed else self.weight

    @property
    def num_used(self) -> int:
        """Pairs per epoch."""
        return min(self.num_pairs, self.limit or self.num_pairs)


@dataclass(frozen=True)
class Draw:
    """A sub-batch: pairs of one task, and the epoch in which each is drawn; both (batch_size,) int64."""

    task: int
    pairs: IntArray
    epochs: IntArray


@dataclass(frozen=True)
class Plan:
    """Global batches by step. If `tasks_per_step` is None, a step has as many slots as the run has tasks of its own.

    `replay` is the share of the slots that the replayed tasks have together; without such tasks it has no effect.
    """

    tasks: tuple[PlanTask, ...]
    seed: int = 0
    alpha: float = 0.5
    cap: int | None = None
    tasks_per_step: int | None = None
    replay: float = 0.0

    def __post_init__(self) -> None:
        if not self.own:
            raise ConfigError("tasks is empty: give at least one task")
        if not 0 <= self.alpha < math.inf:  # NaN is neither
            raise ConfigError(f"alpha is {self.alpha}: give 0 (equal shares) to 1 (shares by number of pairs)")
        if self.cap is not None and self.cap < 1:
            raise ConfigError(f"cap is {self.cap}: give a positive number of pairs, or null for no cap")
        if self.tasks_per_step is not None and self.tasks_per_step < 1:
            raise ConfigError(f"tasks_per_step is {self.tasks_per_step}: give at least 1, or null for all tasks")
        if not 0 <= self.replay < 1:
            raise ConfigError(f"replay is {self.replay}: give a share of 0 or more and less than 1, such as 0.05")

    @property
    def own(self) -> tuple[int, ...]:
        """The numbers of the run's own tasks."""
        return tuple(number for number, task in enumerate(self.tasks) if not task.is_replayed)

    @property
    def replayed(self) -> tuple[int, ...]:
        """The numbers of the replayed tasks."""
        return tuple(number for number, task in enumerate(self.tasks) if task.is_replayed)

    @property
    def num_slots(self) -> int:
        """Sub-batches per step."""
        return self.tasks_per_step or len(self.own)

    @cached_property
    def lines(self) -> tuple[Line, Line]:
        """The slots of the run's own tasks, in phases of constant weights, and those of the replayed tasks."""
        own = [
            (self._own_before(step * self.num_slots), Cycle(self._within(self.own, step))) for step in self._changes()
        ]
        replayed = [(0, Cycle(self._within(self.replayed, 0)))] if self.replayed else []
        return Line(self.own, tuple(phases_of(own))), Line(self.replayed, tuple(phases_of(replayed)))

    def check(self) -> None:
        """Raise `ConfigError` if no task has a weight from some step on, or no replayed task has one."""
        for step in self._changes():
            self._within(self.own, step)
        if self.replayed:
            self._within(self.replayed, 0)

    def shares(self, step: int = 0) -> tuple[float, ...]:
        """Each task's share of the slots at a step; sums to 1."""
        replay = self.replay if self.replayed else 0.0
        of_task = dict(zip(self.own, (1 - replay) * np.array(self._within(self.own, step)), strict=True))
        if self.replayed:
            of_task |= dict(zip(self.replayed, replay * np.array(self._within(self.replayed, step)), strict=True))
        return tuple(float(of_task[number]) for number in range(len(self.tasks)))

    def _changes(self) -> list[int]:
        """The steps from which weights of the run's own tasks hold, in order."""
        return sorted({0, *(step for number in self.own for step, _ in self.tasks[number].schedule)})

    def _within(self, numbers: tuple[int, ...], step: int) -> tuple[float, ...]:
        """The shares of a group of tasks among themselves; they sum to 1."""
        tasks = [self.tasks[number] for number in numbers]
        sizes = np.array([min(t.num_used, self.cap or t.num_used) for t in tasks], dtype=np.float64)
        raw = np.array([t.weight_at(step) for t in tasks]) * sizes**self.alpha
        if not raw.sum():
            raise ConfigError(f"all tasks have weight 0 from step {step} on: give at least one a positive weight")
        return tuple((raw / raw.sum()).tolist())

    def _own_before(self, slot: int) -> int:
        """How many of the first `slot` slots belong to the run's own tasks."""
        return slot - (replayed_before(slot, self.replay) if self.replayed else 0)

    def _at(self, slot: int) -> tuple[int, int]:
        """The slot's task, and how many slots of that task came before."""
        own, replayed = self.lines
        before = self._own_before(slot)
        is_own = self._own_before(slot + 1) > before
        return own.at(before) if is_own else replayed.at(slot - before)

    def draws(self, step: int) -> list[Draw]:
        """The sub-batches of a step, in the order of its slots."""
        if step < 0:
            raise ConfigError(f"step {step}: give 0 or more")
        return [self._draw(slot) for slot in range(step * self.num_slots, (step + 1) * self.num_slots)]

    def _draw(self, slot: int) -> Draw:
        index, number = self._at(slot)
        task = self.tasks[index]
        positions = number * task.batch_size + np.arange(task.batch_size, dtype=np.int64)
        epochs, ranks = np.divmod(positions, task.num_used)
        pairs = np.empty_like(ranks)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            pairs[here] = permute(ranks[here], size=task.num_used, key=stream_key(self.seed, task.name, int(epoch)))
        if task.num_used < task.num_pairs:
            pairs = permute(pairs, size=task.num_pairs, key=stream_key(self.seed, task.name, "limit"))
        return Draw(index, pairs, epochs)


def few_pairs(task: PlanTask) -> list[str]:
    """A warning if a task has fewer pairs than its batch size.

    Such a run is allowed, because few-shot runs need it. A pair that repeats in a batch shares its keys with itself, so
    it is never its own negative.
    """
    if task.num_used >= task.batch_size:
        return []
    return [
        f"task {task.name!r} has {task.num_used} pairs, fewer than its batch size {task.batch_size}: pairs repeat in a "
        f"batch, which has at most {task.num_used - 1} negatives per anchor (give a batch_size of at most "
        f"{task.num_used})"
    ]


def check_divides(tasks: Iterable[PlanTask], world: int) -> None:
    """Raise `ConfigError` for a task whose batch cannot be divided among all ranks."""
    for task in tasks:
        if task.batch_size % world:
            fits = [b for b in (task.batch_size // world * world, -(-task.batch_size // world) * world) if b]
            raise ConfigError(
                f"batch_size of task {task.name!r} is {task.batch_size}, not a multiple of {world} ranks: "
                f"give {' or '.join(map(str, fits))}"
            )
