"""Assigns a task to each slot of a run, so that any part of the run has the tasks' shares.

Slots repeat in a cycle over which each task is spread evenly. So the task of any slot, and how often that task came
before, are table look-ups. A schedule of weights divides the run into phases, each with its own cycle.

Replayed tasks have a fixed share of the slots and therefore their own line of slots: `replayed_before` says which slots
of the run belong to it. The other tasks keep their order, whatever the share.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from mtcl.arrays import Float64Array, IntArray

ROUNDS_OF_SLOTS = 256
"""A cycle has this many slots times the square of the number of tasks: shares are met to about 1 in 256 steps. The
length does not depend on the slots per step, so a change of these keeps the order of slots."""


@dataclass(frozen=True)
class Cycle:
    """A cycle of slots. `shares` (tasks,) sum to 1; a task with share 0 has no slots."""

    shares: tuple[float, ...]

    @cached_property
    def slots(self) -> tuple[IntArray, IntArray]:
        """For each slot of a cycle: its task, and how often that task came before in the cycle.

        The n-th of a task's c sub-batches is due at time (n + 1/2) / c; slots are in order of these times.
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
    """A part of a run, from `first_slot` on; `before` (tasks,) counts each task's sub-batches in earlier phases."""

    first_slot: int
    cycle: Cycle
    before: tuple[int, ...]


def phases_of(cycles: list[tuple[int, Cycle]]) -> list[Phase]:
    """Phases from cycles and their first slots, in order; the first begins at 0."""
    found: list[Phase] = []
    for first_slot, cycle in cycles:
        before = (0,) * len(cycle.shares)
        if found:
            last = found[-1]
            passed = last.cycle.counts(first_slot - last.first_slot)
            before = tuple(int(n) for n in np.array(last.before) + passed)
        found.append(Phase(first_slot, cycle, before))
    return found


@dataclass(frozen=True)
class Line:
    """The slots that a group of tasks shares, counted from 0; `tasks` are the numbers of the tasks in the plan."""

    tasks: tuple[int, ...]
    phases: tuple[Phase, ...]

    def at(self, slot: int) -> tuple[int, int]:
        """The slot's task, as its number in the plan, and how many slots of that task came before."""
        phase = self.phases[bisect_right(self.phases, slot, key=lambda phase: phase.first_slot) - 1]
        index, number = phase.cycle.at(slot - phase.first_slot)
        return self.tasks[index], number + phase.before[index]


def replayed_before(slot: int, share: float) -> int:
    """How many of the first `slot` slots are replayed: the integer nearest to slot * share, as exact fractions."""
    exact = Fraction(str(share))
    return (2 * slot * exact.numerator + exact.denominator) // (2 * exact.denominator)


def apportion(shares: Float64Array, total: int) -> IntArray:
    """Integers that sum to `total`, nearest to the shares (largest remainder); at least 1 for a share above 0."""
    counts = np.maximum(shares > 0, np.floor(shares * total)).astype(np.int64)
    by_remainder = [index for index in np.argsort(-(shares * total - counts), kind="stable") if shares[index] > 0]
    missing = total - int(counts.sum())
    for turn in range(abs(missing)):
        counts[by_remainder[turn % len(by_remainder)] if missing > 0 else int(counts.argmax())] += np.sign(missing)
    return counts
