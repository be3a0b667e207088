"""Which task each slot of a run belongs to, so that any stretch of a run meets the tasks' shares.

Slots are laid out once as a cycle, each task spread evenly over it, which repeats for ever: the task of any slot, and
how often that task came before, are looked up. A schedule of weights makes phases, each with a cycle of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mtcl.types import IntArray

ROUNDS_OF_SLOTS = 256
"""Slots of a cycle, in multiples of the square of the number of tasks: shares are met to about 1 in 256 steps. How many
slots make a step has no part in it, so the order of slots stays when that changes."""
FloatVector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cycle:
    """Slots by task. `shares` (tasks,) sum to 1; a task of share 0 has no slot."""

    shares: tuple[float, ...]

    @cached_property
    def slots(self) -> tuple[IntArray, IntArray]:
        """For each slot of a cycle: its task, and how often that task came before in the cycle.

        The n-th of a task's c sub-batches is due at time (n + 1/2) / c; slots are in order of time.
        """
        counts = apportion(np.array(self.shares), ROUNDS_OF_SLOTS * len(self.shares) ** 2)
        numbers = [np.arange(count) for count in counts]
        due = np.concatenate([(n + 0.5) / max(1, len(n)) for n in numbers])
        order = np.argsort(due, kind="stable")
        return np.repeat(np.arange(len(counts)), counts)[order], np.concatenate(numbers)[order]

    @cached_property
    def per_cycle(self) -> IntArray:
        """(tasks,) sub-batches of each task in a cycle."""
        return np.bincount(self.slots[0], minlength=len(self.shares))

    def at(self, slot: int) -> tuple[int, int]:
        """The slot's task, and how many slots of that task came before."""
        of_slot, before = self.slots
        cycles, within = divmod(slot, len(of_slot))
        task = int(of_slot[within])
        return task, cycles * int(self.per_cycle[task]) + int(before[within])

    def counts(self, num_slots: int) -> IntArray:
        """(tasks,) sub-batches of each task in the first `num_slots` slots."""
        cycles, within = divmod(num_slots, len(self.slots[0]))
        return cycles * self.per_cycle + np.bincount(self.slots[0][:within], minlength=len(self.shares))


@dataclass(frozen=True)
class Phase:
    """A stretch of a run from `first_slot` on; `before` (tasks,) sub-batches of each task came earlier."""

    first_slot: int
    cycle: Cycle
    before: tuple[int, ...]


def phases_of(cycles: list[tuple[int, Cycle]]) -> list[Phase]:
    """Phases from cycles and the slots they begin at, in order; the first begins at 0."""
    found: list[Phase] = []
    for first_slot, cycle in cycles:
        before = (0,) * len(cycle.shares)
        if found:
            last = found[-1]
            passed = last.cycle.counts(first_slot - last.first_slot)
            before = tuple(int(n) for n in np.array(last.before) + passed)
        found.append(Phase(first_slot, cycle, before))
    return found


def apportion(shares: FloatVector, total: int) -> IntArray:
    """Whole numbers that sum to `total`, nearest to the shares (largest remainder); at least 1 for a share above 0."""
    counts = np.maximum(shares > 0, np.floor(shares * total)).astype(np.int64)
    by_remainder = [index for index in np.argsort(-(shares * total - counts), kind="stable") if shares[index] > 0]
    missing = total - int(counts.sum())
    for turn in range(abs(missing)):
        counts[by_remainder[turn % len(by_remainder)] if missing > 0 else int(counts.argmax())] += np.sign(missing)
    return counts
