"""Weights from the inner products of the tasks' gradients, by TorchJD's weightings (https://torchjd.org).

The gradients are those of the last shared layer and the projection, which cost a fraction of a backward pass. TorchJD
gets only the (K, K) Gramian, and one backward pass of the weighted sum follows. Under DDP the gradients are averaged
over ranks first, so all ranks have the same weights. Letters: K tasks of the step, G numbers of a gradient.
"""

from __future__ import annotations

import importlib
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mtcl.distributed import mean_over_ranks
from mtcl.errors import ConfigError
from mtcl.weighting.base import Weighting

Method = Literal["upgrad", "pcgrad", "cagrad", "mgda", "aligned_mtl"]
CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "upgrad": ("UPGradWeighting", {}),
    "pcgrad": ("PCGradWeighting", {}),
    "cagrad": ("CAGradWeighting", {"c": 0.5}),
    "mgda": ("MGDAWeighting", {}),
    "aligned_mtl": ("AlignedMTLWeighting", {}),
}

LEAST_MEAN = 0.1
"""The lowest mean at which kept weights are used. Over the tasks that they were computed for, their mean was 1."""


class GradientWeighting(Weighting):
    """Weights from a gradient method, scaled to a mean of 1 over the step's tasks.

    With the gradients `g_k` of the tasks' losses `L_k` with respect to the shared parameters, and the method's weights
    `w` for their Gramian:

        total = sum over tasks of w_k / mean(w) * L_k,   w = method( g_i . g_j for all tasks i, j )

    Shapes: a scalar loss per task of the step, parameters that all of them use; a scalar.
    Source: TorchJD, https://torchjd.org, and the paper of each method; `pip install 'mtcl[weighting]'`.

    Args:
        method: upgrad (arXiv 2406.16232), pcgrad (2001.06782), cagrad (2110.14048), mgda (1810.04650), aligned_mtl
            (2305.19000).
        every_n_steps: Micro-steps after which a task's weight is computed again; it stays the same in between. A step
            computes the weights of all its tasks if one of them is due. A step with one task computes none.

    Example:
        >>> import torch
        >>> from mtcl.weighting import GradientWeighting
        >>> shared = torch.nn.Parameter(torch.zeros(2))
        >>> goals = {"jobs": torch.tensor([1.0, 0.0]), "news": torch.tensor([0.0, 1.0])}
        >>> weighting = GradientWeighting("mgda")
        >>> weighting.start(["jobs", "news"])
        >>> losses = {task: (shared - goal).square().sum() / 2 for task, goal in goals.items()}
        >>> weighting(losses, [shared], {"jobs": 0.5, "news": 0.5}).item()
        1.0
        >>> weighting.weights_K.tolist()
        [1.0, 1.0]
    """

    weights_K: Tensor
    ages_K: Tensor
    """Micro-steps since each task's weight was computed. Every n-th step would not do: the mixture is periodic, so
    these steps may always have the same tasks.
    """

    def __init__(self, method: Method = "upgrad", every_n_steps: int = 1) -> None:
        super().__init__()
        if every_n_steps < 1:
            raise ConfigError(f"GradientWeighting every_n_steps is {every_n_steps}: give at least 1")
        self.method, self.every_n_steps = method, every_n_steps
        self.rule = _rule(method)
        self.tasks: list[str] = []

    def start(self, tasks: list[str]) -> None:
        self.tasks = tasks
        self.register_buffer("weights_K", torch.ones(len(tasks)))
        self.register_buffer("ages_K", torch.full((len(tasks),), self.every_n_steps))

    def forward(self, losses: dict[str, Tensor], shared: list[nn.Parameter], shares: dict[str, float]) -> Tensor:
        places = [self.tasks.index(task) for task in losses]
        if len(losses) > 1 and int(self.ages_K[places].max()) >= self.every_n_steps:
            gramian_KK = gramian_of(losses, shared)
            with torch.autocast(gramian_KK.device.type, enabled=False):
                found_K = self.rule(gramian_KK).to(self.weights_K)
            found_K = mean_over_ranks(found_K)  # PCGrad draws a random order on each rank
            if torch.isfinite(found_K).all() and found_K.mean() > 0:
                self.weights_K[places] = found_K / found_K.mean()
            self.ages_K[places] = 0
        self.ages_K += 1
        weights = self.weights_K[places]
        if len(losses) == 1 or weights.mean() < LEAST_MEAN:  # the kept weights come from a step with other tasks
            weights = torch.ones_like(weights)
        return (weights / weights.mean() * torch.stack(list(losses.values()))).sum()


def gramian_of(losses: dict[str, Tensor], shared: list[nn.Parameter]) -> Tensor:
    """(K, K) inner products of the losses' gradients with respect to `shared`; the graph is kept."""
    rows = [torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True) for loss in losses.values()]
    gradients_KG = torch.stack([torch.cat([_flat(g, p) for g, p in zip(row, shared, strict=True)]) for row in rows])
    gradients_KG = mean_over_ranks(gradients_KG)
    with torch.autocast(gradients_KG.device.type, enabled=False):  # a conflict is a small difference
        return gradients_KG @ gradients_KG.T


def gradient_cosines(gramian_KK: Tensor) -> Tensor:
    """(K, K) cosines of the gradients."""
    norms_K = gramian_KK.diagonal().clamp(min=1e-30).sqrt()
    return gramian_KK / norms_K[:, None] / norms_K[None, :]


def _flat(gradient: Tensor | None, parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter).flatten().float() if gradient is None else gradient.flatten().float()


def _rule(method: str) -> Any:
    if method not in CLASSES:
        raise ConfigError(f"GradientWeighting method is {method!r}: give {', '.join(CLASSES)}")
    name, options = CLASSES[method]
    try:
        return getattr(importlib.import_module("torchjd.aggregation"), name)(**options)
    except ImportError as error:
        raise ConfigError(
            f"GradientWeighting method {method!r} needs TorchJD: pip install 'mtcl[weighting]'"
        ) from error
