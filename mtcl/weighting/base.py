"""The interface of a weighting, and the plain mean.

A weighting is a module so that what it learns or carries from step to step is in the checkpoint. All keep one
convention: weights are 1 in the mean over tasks, so that a change of method is no change of the learning rate.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mtcl.types import Described


class Weighting(Described, nn.Module, ABC):
    """Losses of a step by task, times their `loss_weight`, to the loss that is trained on."""

    def start(self, tasks: list[str]) -> None:
        """Make what is held for each task; called once, before the optimizer is made."""
        del tasks

    @abstractmethod
    def forward(self, losses: dict[str, Tensor], shared: list[nn.Parameter]) -> Tensor:
        """A scalar whose gradient trains everything. `losses` sum to their mean over sub-batches already; `shared` are
        parameters that all tasks use.
        """


class Mean(Weighting):
    """The weighted mean of the step's losses."""

    def forward(self, losses: dict[str, Tensor], shared: list[nn.Parameter]) -> Tensor:
        return torch.stack(list(losses.values())).sum()
