"""A task's settings in a run, as the configuration gives them under `tasks.NAME`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from mtcl.errors import ConfigError
from mtcl.losses import Loss


@dataclass
class TaskConfig:
    """A task's part in a run; what is null is taken from the run.

    Attributes:
        weight: Multiplies the task's share of the steps.
        weight_schedule: Other weights from given steps on (micro-steps where gradients are accumulated), 0 for a pause.
        batch_size: Pairs a sub-batch, over all ranks.
        max_length: Tokens a text is cut to.
        loss: The task's loss; if null, the usual one for its kind of pairs.
        loss_weight: Multiplies the task's loss.
        prompt: Put before every text of the task; the task's own if null.
        hard_negatives: Hard negatives of each pair in a step, drawn afresh in each epoch; without effect where the task
            has none.
    """

    weight: float = 1.0
    weight_schedule: dict[int, float] = field(default_factory=dict)
    batch_size: int | None = None
    max_length: int | None = None
    loss: Loss | None = None
    loss_weight: float = 1.0
    prompt: str | None = None
    hard_negatives: int = 1

    def __post_init__(self) -> None:
        if self.hard_negatives < 0:
            raise ConfigError(f"a task's hard_negatives is {self.hard_negatives}: give 0 or more")
        if not 0 <= self.loss_weight < math.inf:
            raise ConfigError(f"a task's loss_weight is {self.loss_weight}: give 0 or more")


def schedule_of(config: TaskConfig) -> tuple[tuple[int, float], ...]:
    """The task's weights by step, in order."""
    return tuple(sorted(config.weight_schedule.items()))
