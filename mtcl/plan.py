"""The plan: which tasks meet in a step, and which pairs of each. A pure function of (seed, step).

Nothing else decides order, neither sampler nor worker state, so a run continues exactly from a step number, on any
number of ranks and workers, and every rank knows what the others do.

Mixture: the share of task i is proportional to weight_i * min(pairs_i, cap)^alpha (alpha 0.5 as in GTE, arXiv
2308.03281). A step has `tasks_per_step` slots, each a sub-batch of one task. A cycle of slots is laid out once,
each task spread evenly over it, and repeats for ever, so any stretch of a run meets the shares. Slot j's task and
that task's position in its own stream of pairs are looked up in the cycle, so any step costs the same. A task's
epoch is a pseudo-random permutation computed on the fly (a Feistel network with cycle walking, Black and Rogaway
2002): 100 million pairs need no shuffled list.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mtcl.errors import ConfigError
from mtcl.types import IntArray, Ragged

UIntArray = npt.NDArray[np.uint64]
ROUNDS_OF_SLOTS = 256
"""Slots of a cycle, in multiples of tasks x tasks_per_step: shares are met to about 1 in 256 steps."""


@dataclass(frozen=True)
class PlanTask:
    """What the plan needs to know of a task: name, number of pairs, pairs a sub-batch (all ranks), and weight."""

    name: str
    num_pairs: int
    batch_size: int
    weight: float = 1.0


@dataclass(frozen=True)
class Draw:
    """A sub-batch: the pairs of one task, and the epoch each is drawn in; both (batch_size,) int64."""

    task: int
    pairs: IntArray
    epochs: IntArray


@dataclass(frozen=True)
class Plan:
    """Global batches by step. `tasks_per_step` None is as many slots as there are tasks."""

    tasks: tuple[PlanTask, ...]
    seed: int = 0
    alpha: float = 0.5
    cap: int | None = None
    tasks_per_step: int | None = None

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ConfigError("no task is configured: give at least one under `tasks:`")
        if self.alpha < 0:
            raise ConfigError(f"data.alpha is {self.alpha}: give 0 (all tasks alike) to 1 (by number of pairs)")
        if self.cap is not None and self.cap < 1:
            raise ConfigError(f"data.cap is {self.cap}: give a positive number of pairs, or null for none")
        if self.tasks_per_step is not None and self.tasks_per_step < 1:
            raise ConfigError(f"data.tasks_per_step is {self.tasks_per_step}: give at least 1, or null for all tasks")
        for task in self.tasks:
            if task.weight <= 0:
                raise ConfigError(
                    f"tasks.{task.name}.weight is {task.weight}: give a positive weight, or null for the task"
                )
            if task.batch_size < 2:
                raise ConfigError(f"tasks.{task.name}.batch_size is {task.batch_size}: negatives need at least 2")

    @property
    def num_slots(self) -> int:
        """Sub-batches a step."""
        return self.tasks_per_step or len(self.tasks)

    @cached_property
    def shares(self) -> npt.NDArray[np.float64]:
        """Share of the slots of each task; sums to 1."""
        sizes = np.array([min(t.num_pairs, self.cap or t.num_pairs) for t in self.tasks], dtype=np.float64)
        raw = np.array([t.weight for t in self.tasks]) * sizes**self.alpha
        shares: npt.NDArray[np.float64] = raw / raw.sum()
        return shares

    @cached_property
    def cycle(self) -> tuple[IntArray, IntArray]:
        """For each slot of a cycle: its task, and how often that task came before in the cycle.

        The n-th of a task's c sub-batches is due at time (n + 1/2) / c; slots are in order of time.
        """
        counts = _apportion(self.shares, ROUNDS_OF_SLOTS * len(self.tasks) * self.num_slots)
        numbers = [np.arange(count) for count in counts]
        due = np.concatenate([(n + 0.5) / len(n) for n in numbers])
        order = np.argsort(due, kind="stable")
        return np.repeat(np.arange(len(counts)), counts)[order], np.concatenate(numbers)[order]

    @cached_property
    def _per_cycle(self) -> list[int]:
        return [int(count) for count in np.bincount(self.cycle[0])]

    def draws(self, step: int) -> list[Draw]:
        """The sub-batches of a step, in the order of its slots."""
        if step < 0:
            raise ConfigError(f"step {step}: give 0 or more")
        return [self._draw(slot) for slot in range(step * self.num_slots, (step + 1) * self.num_slots)]

    def fingerprint(self) -> dict[str, object]:
        """All that decides the order of pairs, in plain values: a checkpoint holds it, a resumed run compares it."""
        return {
            "seed": self.seed,
            "alpha": self.alpha,
            "cap": self.cap,
            "tasks_per_step": self.num_slots,
            **{f"tasks.{t.name}": [t.num_pairs, t.batch_size, float(t.weight)] for t in self.tasks},
        }

    def _draw(self, slot: int) -> Draw:
        of_slot, before = self.cycle
        cycles, within = divmod(slot, len(of_slot))
        index = int(of_slot[within])
        task = self.tasks[index]
        number = cycles * self._per_cycle[index] + int(before[within])
        positions = number * task.batch_size + np.arange(task.batch_size, dtype=np.int64)
        epochs, ranks = np.divmod(positions, task.num_pairs)
        pairs = np.empty_like(ranks)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            pairs[here] = permute(ranks[here], size=task.num_pairs, key=stream_key(self.seed, task.name, int(epoch)))
        return Draw(index, pairs, epochs)


def stream_key(*parts: object) -> int:
    """A 64-bit key from plain values: equal in every process and on every machine."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "little")


def permute(ranks: IntArray, *, size: int, key: int) -> IntArray:
    """Where each rank in [0, size) goes under the permutation that `key` names, vectorised.

    A generalised Feistel network on pairs (left, right) of a domain of left x right numbers, just above `size`; what
    falls outside of `size` walks on along its cycle until it is inside.
    """
    lefts = np.uint64(math.isqrt(size - 1) + 1)
    rights = np.uint64(-(-size // int(lefts)))
    found = ranks.astype(np.uint64)
    outside = np.ones(len(found), dtype=bool)
    while outside.any():
        found[outside] = _feistel(found[outside], lefts, rights, key)
        outside = found >= size
    return found.astype(np.int64)


def draw_positives(groups: Ragged, anchors: IntArray, positives: IntArray, *, keys: UIntArray) -> IntArray:
    """A member of each anchor's group (`positives` holds group indices) but the anchor; `keys` are the random bits.

    Members are sorted, so the k-th member that is not the anchor is found without a search.
    """
    starts = groups.offsets[positives]
    choices = (groups.offsets[positives + 1] - starts - 1).astype(np.uint64)
    at = starts + (keys % choices).astype(np.int64)
    member = groups.values[at]
    return np.where(member >= anchors, groups.values[at + 1], member)


def mix(values: UIntArray) -> UIntArray:
    """The finaliser of splitmix64 (Steele et al. 2014): 64 well-mixed bits from 64, modulo 2^64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _feistel(values: UIntArray, lefts: np.uint64, rights: np.uint64, key: int) -> UIntArray:
    """Each half-round adds to one half a function of the other: invertible, whatever the function."""
    round_keys = [np.uint64((key + 0x9E3779B97F4A7C15 * number) % (1 << 64)) for number in range(1, 5)]
    left, right = values % lefts, values // lefts
    for one, other in (round_keys[:2], round_keys[2:]):
        left = (left + mix(right ^ one) % lefts) % lefts
        right = (right + mix(left ^ other) % rights) % rights
    return left + right * lefts


def _apportion(shares: npt.NDArray[np.float64], total: int) -> IntArray:
    """Whole numbers that sum to `total`, nearest to the shares (largest remainder), at least 1 each."""
    counts = np.maximum(1, np.floor(shares * total)).astype(np.int64)
    by_remainder = np.argsort(-(shares * total - counts), kind="stable")
    missing = total - int(counts.sum())
    for turn in range(abs(missing)):
        counts[by_remainder[turn % len(counts)] if missing > 0 else int(counts.argmax())] += np.sign(missing)
    return counts
