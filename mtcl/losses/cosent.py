"""CoSENT: cosines of pairs in the order of their scores (Su 2022, https://kexue.fm/archives/8847)."""

from __future__ import annotations

import torch
from torch import Tensor

from mtcl.errors import ConfigError
from mtcl.losses.base import Loss, by_blocks, pair_cosines
from mtcl.losses.view import View
from mtcl.task.kind import Kind

NO_COUPLE = -1e4
"""The gap of two pairs that are not a couple: its exponential is 0, and the gradient is finite if no scores differ."""


class CoSENT(Loss):
    """Of any two pairs, the one with the higher score should have the higher cosine; only the order counts.

    With M couples (i, j) of pairs, where score i > score j:

        loss = log( 1 + sum over couples of exp((cos_j - cos_i) / temperature) ) / log(1 + M)

    All pairs of all ranks are compared, so every rank has the same value and the gradient of the whole batch.

    Shapes: anchors and positives (N, D), scores (N,); a scalar.
    Source: Su 2022, https://kexue.fm/archives/8847. Times log(1 + M), it is `CoSENTLoss` of sentence-transformers.

    Args:
        temperature: Divides the difference of two cosines.

    Example:
        >>> import torch
        >>> from mtcl.losses import CoSENT
        >>> anchors = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        >>> others = torch.tensor([[0.8, 0.6], [0.6, 0.8]])  # cosines 0.8 and 0.6
        >>> round(CoSENT()(anchors, others, scores=torch.tensor([0.9, 0.1])).item(), 3)
        0.026
        >>> round(CoSENT()(anchors, others, scores=torch.tensor([0.1, 0.9])).item(), 3)
        5.797
    """

    kinds = frozenset({Kind.GRADED, Kind.BINARY})

    def __init__(self, temperature: float = 0.05) -> None:
        super().__init__()
        if not 0.005 <= temperature <= 1:
            raise ConfigError(f"CoSENT temperature is {temperature}: give 0.005 to 1")
        self._temperature = temperature

    @property
    def temperature(self) -> Tensor:
        return torch.tensor(self._temperature)

    def forward(self, view: View) -> Tensor:
        assert view.scores_C is not None
        return cosent(pair_cosines(view), view.scores_C, self._temperature)


def cosent(cosine_P: Tensor, scores_P: Tensor, temperature: Tensor | float) -> Tensor:
    """log(1 + sum over couples (i, j) with score i > score j of exp((cos j - cos i) / t)), divided by its value when
    all cosines are equal.
    """
    scaled_P = cosine_P / temperature

    def of_rows(rows: slice) -> Tensor:
        """The log of the rows' sum, and their number of couples."""
        is_couple_NP = scores_P[rows, None] > scores_P[None, :]
        gaps_NP = (scaled_P[None, :] - scaled_P[rows, None]).masked_fill(~is_couple_NP, NO_COUPLE)
        return torch.stack([gaps_NP.flatten().logsumexp(dim=0), is_couple_NP.sum().to(scaled_P)])

    log_sums_B, couples_B = by_blocks(of_rows, len(cosine_P), len(cosine_P)).unbind(dim=1)
    total = torch.cat([log_sums_B, log_sums_B.new_zeros(1)]).logsumexp(dim=0)
    return total / torch.log1p(couples_B.detach().sum().clamp(min=1))
