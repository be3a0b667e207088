"""The metric by which `best.ckpt` is chosen: `val/mean`, or its weighted mean with that of unseen tasks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mtcl.errors import ConfigError
from mtcl.training.metrics import VAL_MEAN, mean_of_role_tag, mean_tag
from mtcl.training.task_config import TaskRole

WEIGHTED_MEAN = mean_of_role_tag("val", "weighted")
"""(1 - unseen_weight) * mean of the run's own tasks + unseen_weight * mean of watched and held-out tasks."""
UNSEEN = (TaskRole.WATCH, TaskRole.HELD_OUT)


@dataclass(frozen=True)
class Selection:
    """`unseen_weight` is 0 to 1; with 0, unseen tasks have no part in the choice."""

    unseen_weight: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.unseen_weight <= 1:
            raise ConfigError(f"model.unseen_weight is {self.unseen_weight}: give 0 to 1")

    @property
    def tag(self) -> str:
        """The metric's name."""
        return WEIGHTED_MEAN if self.unseen_weight else VAL_MEAN

    def check(self, evaluated: Collection[str], apart: Mapping[str, str]) -> None:
        """Raise `ConfigError` if the weight has no effect, because no unseen task is evaluated on validation."""
        if self.unseen_weight and not any(apart.get(name) in UNSEEN for name in evaluated):
            raise ConfigError(
                f"model.unseen_weight is {self.unseen_weight:g}, but no watched or held-out task has a validation "
                "split: give tasks.NAME.watch: true or data.held_out, or leave it out"
            )

    def mean(self, split: str, primary: Mapping[str, float], apart: Mapping[str, str]) -> dict[str, float]:
        """The weighted mean of primary metrics by its tag; nothing if a part of it is missing. `apart` has the role of
        each task that is not the run's own.
        """
        own = [value for name, value in primary.items() if name not in apart]
        unseen = [value for name, value in primary.items() if apart.get(name) in UNSEEN]
        if mean_tag(split) != VAL_MEAN or not self.unseen_weight or not own or not unseen:
            return {}
        weight = self.unseen_weight
        return {WEIGHTED_MEAN: (1 - weight) * sum(own) / len(own) + weight * sum(unseen) / len(unseen)}
