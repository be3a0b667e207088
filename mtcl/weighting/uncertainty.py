"""Weights learned as the variances of the tasks (Kendall, Gal and Cipolla 2018, arXiv 1705.07115)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtcl.weighting.base import Weighting


class Uncertainty(Weighting):
    """Weights learned as the variances of the tasks, with a penalty on a large variance.

    Each task has a learned log variance `s_k`, which is 0 at the start, so that all weights are 1. A task's share is
    its `loss_weight` times the share of the step's sub-batches that are the task's, and `L_k` is its mean loss `l_k`
    multiplied by that share:

        total = sum over tasks of exp(-s_k) * L_k + share_k * s_k = sum over tasks of share_k * (exp(-s_k) * l_k + s_k)

    `s_k` is learned from the loss alone: exp(-s_k) goes to 1 / l_k, whatever the share. So `loss_weight` and the
    mixture keep their meaning, and gradients accumulated over several steps are those of one large step.

    Shapes: a scalar per task of the step, its mean loss multiplied by its share; a scalar.
    Source: Kendall, Gal and Cipolla 2018, arXiv 1705.07115 (without its factor 1 / 2).

    Example:
        >>> import torch
        >>> from mtcl.weighting import Uncertainty
        >>> weighting = Uncertainty()
        >>> weighting.start(["jobs", "news"])
        >>> losses = {"jobs": torch.tensor(0.5), "news": torch.tensor(0.25)}
        >>> weighting(losses, [], {"jobs": 0.5, "news": 0.5}).item()
        0.75
        >>> [name for name, _ in weighting.named_parameters()]
        ['log_variances.jobs', 'log_variances.news']
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_variances = nn.Module()  # a ParameterDict cannot have tasks named like its methods, such as `copy`

    def start(self, tasks: list[str]) -> None:
        for task in tasks:
            self.log_variances.register_parameter(task, nn.Parameter(torch.zeros(())))

    def forward(self, losses: dict[str, Tensor], shared: list[nn.Parameter], shares: dict[str, float]) -> Tensor:
        s = {task: self.log_variances.get_parameter(task) for task in losses}
        return torch.stack([(-s[t]).exp() * loss + shares[t] * s[t] for t, loss in losses.items()]).sum()
