"""Weights that are learned as variances of the tasks (Kendall, Gal and Cipolla 2018, arXiv 1705.07115)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtcl.weighting.base import Weighting


class Uncertainty(Weighting):
    """Sum of exp(-s) loss + s, less at the start what a mean would not have: s is 0 there, and the weights are 1."""

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
