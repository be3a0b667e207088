"""The interface of a weighting, and the plain mean.

A weighting is a module so that its parameters and state are saved in checkpoints. The weights of all but `Uncertainty`,
which learns theirs, average 1 over tasks, so that changing the method does not change the learning rate.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mtcl.records.described import Described


class Weighting(Described, nn.Module, ABC):
    """Turns a step's losses by task, already multiplied by `loss_weight`, into the loss that is trained.

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
        """Create the state of each task; called once, before the optimizer is made."""
        del tasks

    @abstractmethod
    def forward(self, losses: dict[str, Tensor], shared: list[nn.Parameter]) -> Tensor:
        """A scalar whose gradient trains everything. The sum of `losses` is already the mean over sub-batches; `shared`
        are parameters that all tasks use.
        """


class Mean(Weighting):
    """The weighted mean of the step's losses.

        total = sum over tasks of L_k,   where L_k is already a share of the mean: loss_weight * loss / sub-batches

    Shapes: a scalar loss per task of the step; a scalar.
    Source: none, it is plain arithmetic. With tuned weights it is hard to beat: Kurin et al. 2022, arXiv 2201.04122.

    Example:
        >>> import torch
        >>> from mtcl.weighting import Mean
        >>> Mean()({"jobs": torch.tensor(0.5), "news": torch.tensor(0.25)}, [])
        tensor(0.7500)
    """

    def forward(self, losses: dict[str, Tensor], shared: list[nn.Parameter]) -> Tensor:
        return torch.stack(list(losses.values())).sum()
