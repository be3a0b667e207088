"""The interface of a weighting, and the plain sum.

A weighting is a module so that its parameters and state are saved in checkpoints. The weights of all but `Uncertainty`,
which learns theirs, average 1 over the step's tasks, so that changing the method does not change the learning rate.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mtcl.records.described import Described


class Weighting(Described, nn.Module, ABC):
    """Combines the losses of a step's tasks into the loss that is trained.

    `start` is called once with the names of all tasks, `forward` once per step with the losses of the step's tasks. A
    task's loss is already multiplied by its share: `loss_weight` times the share of the step's sub-batches that are the
    task's.

    Example:
        >>> import torch
        >>> from mtcl.weighting import Weighting
        >>> class Worst(Weighting):
        ...     def forward(self, losses, shared, shares):
        ...         return torch.stack(list(losses.values())).max() * len(losses)
        >>> weighting = Worst()
        >>> weighting.start(["jobs", "news"])
        >>> losses = {"jobs": torch.tensor(0.25), "news": torch.tensor(0.5)}
        >>> weighting(losses, [], {"jobs": 0.5, "news": 0.5})
        tensor(1.)
    """

    def start(self, tasks: list[str]) -> None:
        """Create the state of each task; called once, before the optimizer is made."""
        del tasks

    @abstractmethod
    def forward(self, losses: dict[str, Tensor], shared: list[nn.Parameter], shares: dict[str, float]) -> Tensor:
        """A scalar whose gradient trains everything.

        Args:
            losses: The mean loss of each of the step's tasks, multiplied by its share.
            shared: Parameters that all tasks use.
            shares: The share of each of these tasks. They sum to 1 if every `loss_weight` is 1.
        """


class Mean(Weighting):
    """The mean over the step's sub-batches of `loss_weight` times their loss. It is not divided by the weights, so with
    0.5 for every task it is half as large.

        total = sum over tasks of L_k,   where L_k is the task's mean loss, multiplied by its share

    Shapes: a scalar loss per task of the step; a scalar.
    Source: none, it is plain arithmetic. With tuned weights it is hard to beat: Kurin et al. 2022, arXiv 2201.04122.

    Example:
        >>> import torch
        >>> from mtcl.weighting import Mean
        >>> Mean()({"jobs": torch.tensor(0.5), "news": torch.tensor(0.25)}, [], {"jobs": 0.5, "news": 0.5})
        tensor(0.7500)
    """

    def forward(self, losses: dict[str, Tensor], shared: list[nn.Parameter], shares: dict[str, float]) -> Tensor:
        return torch.stack(list(losses.values())).sum()
