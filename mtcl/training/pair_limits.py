"""How many of its pairs a run trains a task on, for the log and for the table at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mtcl.data.plan import Plan
from mtcl.data.store import TokenStore
from mtcl.data.subset import labels_of


@dataclass(frozen=True)
class PairLimit:
    """The pairs that a run trains a task on, of those that its training split has."""

    num_used: int
    num_whole: int
    per_label: int | None = None
    num_labels: int = 0

    def __str__(self) -> str:
        """For example `124 of 29,898 pairs: 4 examples of each of 31 labels`."""
        said = f"{self.num_used:,} of {self.num_whole:,} pairs"
        if self.per_label is None:
            return said
        upto = "" if self.num_used == self.per_label * self.num_labels else "up to "
        return f"{said}: {upto}{self.per_label:,} examples of each of {self.num_labels:,} labels"


def pair_limits(plan: Plan, stores: Mapping[str, TokenStore], per_label: Mapping[str, int]) -> dict[str, PairLimit]:
    """The pairs that each task trains on, of the tasks that do not train on all of theirs.

    `stores` are those of the training splits, and `per_label` has the examples of each label for tasks with such a
    limit.
    """
    found = {}
    for task in plan.tasks:
        store, num_labels = stores[task.name], 0
        if task.name in per_label:
            num_labels = len(np.unique(labels_of(store.pairs)))
        if task.num_used < store.num_whole:
            found[task.name] = PairLimit(task.num_used, store.num_whole, per_label.get(task.name), num_labels)
    return found
