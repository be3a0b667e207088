"""How many pairs of each task the run has drawn, against its plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from mtcl.data.plan import Plan


@dataclass(frozen=True)
class Exposure:
    """A task's share of all pairs drawn, planned and actual, and its number of epochs."""

    task: str
    planned: float
    actual: float
    epochs: float


def planned_pairs(plan: Plan, *, num_steps: int) -> list[float]:
    """The pairs of each task in the first `num_steps` micro-steps, by the weights of all these steps."""
    changes = sorted({0, *(step for task in plan.tasks for step, _ in task.schedule if step < num_steps), num_steps})
    planned = [0.0] * len(plan.tasks)
    for first, end in pairwise(changes):
        for number, share in enumerate(plan.shares(first)):
            planned[number] += share * (end - first) * plan.num_slots * plan.tasks[number].batch_size
    return planned


def exposures(plan: Plan, pairs_drawn: Mapping[str, int], *, num_steps: int) -> list[Exposure]:
    """The exposure of each trained task after `num_steps` micro-steps, in the plan's order."""
    planned = planned_pairs(plan, num_steps=num_steps)
    total, drawn = sum(planned) or 1.0, sum(pairs_drawn.values()) or 1
    return [
        Exposure(task.name, wanted / total, found / drawn, found / task.num_used)
        for task, wanted in zip(plan.tasks, planned, strict=True)
        for found in [pairs_drawn.get(task.name, 0)]
    ]
