"""Losses that wrap others: at several dimensions (Matryoshka), a weighted sum, and a spread-out regulariser.

They all use the vectors of one forward pass and one gather.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from mtcl.errors import ConfigError
from mtcl.losses.base import Loss, by_blocks, cosines, truncated
from mtcl.losses.relation import NEGATIVE, relation
from mtcl.losses.view import Embedded, View
from mtcl.task.kind import Kind


class WeightedSum(Loss):
    """A weighted mean of losses on the same pairs, for example InfoNCE and TeacherMSE.

        loss = sum over losses of weight * loss / sum of weights

    Shapes: those of the losses inside; a scalar.
    Source: none, it is plain arithmetic.

    Args:
        losses: At least one; those with a teacher must have the same one.
        weights: One per loss; all 1 if null.

    Example:
        >>> import torch
        >>> from mtcl.losses import DistillKL, TeacherMSE, WeightedSum
        >>> anchors, positives = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])
        >>> teacher = (anchors, anchors)
        >>> loss = WeightedSum([TeacherMSE(), DistillKL(temperature=1.0)], weights=[3.0, 1.0])
        >>> round(loss(anchors, positives, teacher=teacher).item(), 3)
        0.415
    """

    def __init__(self, losses: list[Loss], weights: list[float] | None = None) -> None:
        super().__init__()
        weights = [1.0] * len(losses) if weights is None else weights
        if not losses or len(weights) != len(losses) or min(weights) < 0 or not 0 < sum(weights) < math.inf:
            raise ConfigError(f"WeightedSum has {len(losses)} losses and weights {weights}: give one >= 0 per loss")
        teachers = {loss.teacher for loss in losses if loss.teacher}
        if len(teachers) > 1:
            raise ConfigError(f"WeightedSum has losses of the teachers {', '.join(sorted(teachers))}: give one teacher")
        self.parts = nn.ModuleList(losses)
        self.shares = [weight / sum(weights) for weight in weights]
        self.teacher = next(iter(teachers), None)
        self.matches_teacher = any(loss.matches_teacher for loss in losses)
        self.needs_contrast = all(loss.needs_contrast for loss in losses)
        self.uses_negatives = any(loss.uses_negatives for loss in losses)
        self.kinds = frozenset.intersection(*(loss.kinds for loss in losses))

    @property
    def temperature(self) -> Tensor:
        return cast("Loss", self.parts[0]).temperature

    def check(self, *, dim: int) -> None:
        for part in self.parts:
            cast("Loss", part).check(dim=dim)

    def forward(self, view: View) -> Tensor:
        values = [share * part(view) for share, part in zip(self.shares, self.parts, strict=True)]
        return torch.stack(values).sum()


class Matryoshka(Loss):
    """A loss at several numbers of leading dimensions, so that embeddings can be truncated.

    `loss_d` is the loss of the first d dimensions, normalised to unit length again:

        loss = (loss_D + weight * sum over d of loss_d) / (1 + weight * number of d)

    Shapes: those of the loss inside, with more dimensions D than each of `dims`; a scalar.
    Source: Kusupati et al. 2022, arXiv 2205.13147.

    Args:
        loss: The loss to compute at each number of dimensions.
        dims: Numbers of leading dimensions, in addition to all of them; each once, in any order.
        weight: Weight of the loss at each of `dims`; the loss at full size has weight 1. The result is their weighted
            mean.

    Example:
        >>> import torch
        >>> from mtcl.losses import InfoNCE, Matryoshka
        >>> anchors = positives = torch.tensor([[0.8, 0.6], [0.8, -0.6]])  # the same in the first dimension
        >>> round(InfoNCE()(anchors, positives).item(), 3)
        0.0
        >>> round(Matryoshka(InfoNCE(), dims=[1])(anchors, positives).item(), 3)
        0.333
    """

    def __init__(self, loss: Loss, dims: list[int], weight: float = 0.5) -> None:
        super().__init__()
        if not dims or min(dims) < 1 or not 0 < weight < math.inf:
            raise ConfigError(f"Matryoshka has dims {dims} and weight {weight}: give sizes and a weight above 0")
        if len(set(dims)) < len(dims):
            raise ConfigError(f"Matryoshka has dims {dims}: name each size once; weight gives all of them more weight")
        if loss.matches_teacher:
            raise ConfigError("Matryoshka cannot cut a teacher's vectors: put TeacherMSE next to it in a WeightedSum")
        self.loss, self.dims, self.weight = loss, dims, weight
        self.teacher, self.kinds, self.needs_contrast = loss.teacher, loss.kinds, loss.needs_contrast
        self.uses_negatives = loss.uses_negatives

    @property
    def temperature(self) -> Tensor:
        return self.loss.temperature

    def check(self, *, dim: int) -> None:
        if max(self.dims) >= dim:
            raise ConfigError(f"Matryoshka dims are {self.dims}: give less than the embedding's {dim}")
        self.loss.check(dim=dim)

    def forward(self, view: View) -> Tensor:
        total = self.loss(view) + self.weight * sum(self.loss(truncated(view, dim)) for dim in self.dims)
        return total / (1 + self.weight * len(self.dims))


class SpreadOut(Loss):
    """Adds the second moment of unrelated texts' cosines to a loss: unrelated texts should be as orthogonal as random
    directions.

    Over all M couples of an anchor and a positive of the batch that share no key:

        loss = loss inside + weight * max(0, 1 / M * sum over couples of cos^2 - 1 / D)

    Shapes: those of the loss inside; a scalar.
    Source: GOR, Zhang et al. 2017, arXiv 1708.06320 (its second moment).

    Args:
        loss: The task's loss.
        weight: Weight of the regulariser, which is 0 if the mean squared cosine is at most 1 / dimensions.

    Example:
        >>> import torch
        >>> from mtcl.losses import InfoNCE, SpreadOut
        >>> texts = torch.tensor([[1.0, 0.0], [1.0, 0.0]])  # collapsed: unrelated texts have cosine 1
        >>> round(InfoNCE()(texts, texts).item(), 3)
        1.0
        >>> round(SpreadOut(InfoNCE(), weight=1.0)(texts, texts).item(), 3)
        1.5
    """

    kinds = frozenset({Kind.POSITIVE, Kind.PARALLEL})

    def __init__(self, loss: Loss, weight: float = 0.1) -> None:
        super().__init__()
        if not 0 < weight < math.inf:
            raise ConfigError(f"SpreadOut weight is {weight}: give more than 0")
        self.loss, self.weight = loss, weight
        self.teacher, self.matches_teacher = loss.teacher, loss.matches_teacher
        self.needs_contrast, self.uses_negatives = loss.needs_contrast, loss.uses_negatives
        self.kinds = SpreadOut.kinds & loss.kinds

    @property
    def temperature(self) -> Tensor:
        return self.loss.temperature

    def check(self, *, dim: int) -> None:
        self.loss.check(dim=dim)

    def forward(self, view: View) -> Tensor:
        return self.loss(view) + self.weight * spread(view.anchors.all, view.positives.all)


def spread(anchors: Embedded, positives: Embedded) -> Tensor:
    """max(0, mean squared cosine of unrelated texts - 1 / dimensions)."""

    def of_rows(rows: slice) -> Tensor:
        some = anchors[rows]
        is_unrelated_NC = relation(some.keys_NK, positives.keys_NK, None) == NEGATIVE
        squares_NC = cosines(some.vectors_ND, positives.vectors_ND).square()
        return torch.stack([(squares_NC * is_unrelated_NC).sum(), is_unrelated_NC.sum().to(squares_NC)])

    total_and_count = by_blocks(of_rows, len(anchors), len(positives)).sum(dim=0)
    mean = total_and_count[0] / total_and_count[1].clamp(min=1)
    return (mean - 1 / anchors.vectors_ND.shape[1]).clamp(min=0)
