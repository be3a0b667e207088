"""Weights learned as the variances of the tasks (Kendall, Gal and Cipolla 2018, arXiv 1705.07115)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtcl.weighting.base import Weighting


class Uncertainty(Weighting):
    """Weights learned as the variances of the tasks, with a penalty on a large variance.

    Each of the step's K tasks has a learned log variance `s_k`, which is 0 at the start, so that all weights are 1:

        total = sum over tasks of exp(-s_k) * L_k + s_k / K

    Shapes: a scalar per task of the step, the task's share of the mean loss; a scalar.
    Source: Kendall, Gal and Cipolla 2018, arXiv 1705.07115 (without its factor 1 / 2).

    Example:
        >>> import torch
        >>> from mtcl.weighting import Uncertainty
        >>> weighting = Uncertainty()
        >>> weighting.start(["jobs", "news"])
        >>> weighting({"jobs": torch.tensor(0.5), "news": torch.tensor(0.25)}, []).item()
        0.75
        >>> [name for name, _ in weighting.named_parameters()]
        ['log_variances.jobs', 'log_variances.news']
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_variances = nn.ParameterDict()

    def start(self, tasks: list[str]) -> None:
        for task in tasks:
            self.log_variances[task] = nn.Parameter(torch.zeros(()))

    def forward(self, losses: dict[str, Tensor], shared: list[nn.Parameter]) -> Tensor:
        share = 1 / len(losses)
        terms = [(-self.log_variances[t]).exp() * loss + share * self.log_variances[t] for t, loss in losses.items()]
        return torch.stack(terms).sum()
