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
    """Losses of a step by task, times their `loss_weight`, to the loss that is trained on.

    `start` is called once with the names of all tasks, `forward` once per step with the losses of the step's tasks.

    Example:
        >>> import torch
        >>> from mtcl.weighting import Weighting
        >>> class Worst(Weighting):
        ...     def forward(self, losses, shared):
        ...         return torch.stack(list(losses.values())).max() * len(losses)
        >>> weighting = Worst()
        >>> weighting.start(["jobs", "news"])
        >>> weighting({"jobs": torch.tensor(0.25), "news": torch.tensor(0.5)}, [])
        tensor(1.)
    """

    def start(self, tasks: list[str]) -> None:
        """Make what is held for each task; called once, before the optimizer is made."""
        del tasks

    @abstractmethod
    def forward(self, losses: dict[str, Tensor], shared: list[nn.Parameter]) -> Tensor:
        """A scalar whose gradient trains everything. `losses` sum to their mean over sub-batches already; `shared` are
        parameters that all tasks use.
        """


class Mean(Weighting):
    """The weighted mean of the step's losses.

        total = sum over tasks of L_k,   L_k being a task's share of the mean already: loss_weight * loss / sub-batches

    Shapes: a scalar loss per task of the step; a scalar.
    Source: none, it is plain arithmetic. Tuned, it is hard to beat: Kurin et al. 2022, arXiv 2201.04122.

    Example:
        >>> import torch
        >>> from mtcl.weighting import Mean
        >>> Mean()({"jobs": torch.tensor(0.5), "news": torch.tensor(0.25)}, [])
        tensor(0.7500)
    """

    def forward(self, losses: dict[str, Tensor], shared: list[nn.Parameter]) -> Tensor:
        return torch.stack(list(losses.values())).sum()
