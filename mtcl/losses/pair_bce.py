"""Binary cross-entropy on the cosine of pairs, with learned scale and bias.

On pairs labelled 0 and 1 it is the recipe reported for LiPost (arXiv 2405.11344); on positives, with every unrelated
text of the batch as a 0, it is SigLIP's loss (arXiv 2303.15343).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtcl.errors import ConfigError
from mtcl.losses.base import Embedded, Loss, View, by_blocks, cosines, pair_cosines, within
from mtcl.losses.relation import LEFT_OUT, POSITIVE, relation
from mtcl.types import Kind


class PairBCE(Loss):
    """Each pair by itself: the scaled and shifted cosine is the log odds that it is a 1.

    Args:
        scale: The cosine's factor at the start; learned.
        bias: What is added to it at the start; learned.
    """

    kinds = frozenset({Kind.BINARY, Kind.POSITIVE, Kind.PARALLEL})

    def __init__(self, scale: float = 10.0, bias: float = -10.0) -> None:
        super().__init__()
        if not 0 < scale <= 100:
            raise ConfigError(f"PairBCE scale is {scale}: give more than 0, at most 100")
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = nn.Parameter(torch.tensor(bias))

    @property
    def temperature(self) -> Tensor:
        return 1 / self.scale

    @property
    def scale(self) -> Tensor:
        return within(self.log_scale, -math.inf, math.log(100)).exp()

    def forward(self, view: View) -> Tensor:
        if view.scores_C is not None:
            logits_C = pair_cosines(view) * self.scale + self.bias
            return F.binary_cross_entropy_with_logits(logits_C[view.own_N], view.scores_C[view.own_N].to(logits_C))
        candidates = [view.positives.all, *([] if view.negatives is None else [view.negatives.all])]
        local, num_candidates = view.anchors.local, sum(len(rows) for rows in candidates)

        def of_rows(rows: slice) -> Tensor:
            parts = [self._rows(local[rows], c, None if n else view.own_N[rows]) for n, c in enumerate(candidates)]
            return torch.stack(parts).sum()

        return by_blocks(of_rows, len(local), num_candidates).sum() / len(local)

    def _rows(self, local: Embedded, among: Embedded, own_N: Tensor | None) -> Tensor:
        relation_NC = relation(local.keys_NK, among.keys_NK, own_N)
        logits_NC = cosines(local.vectors_ND, among.vectors_ND) * self.scale + self.bias
        return sigmoid_loss(logits_NC, relation_NC)


def sigmoid_loss(logits_NC: Tensor, relation_NC: Tensor) -> Tensor:
    """Sum over rows and candidates of -log sigmoid(z * logit), z +1 for positives, -1 for negatives (SigLIP, eq. 1)."""
    signs_NC = torch.where(relation_NC == POSITIVE, 1.0, -1.0).to(logits_NC)
    return F.softplus(-signs_NC * logits_NC).masked_fill(relation_NC == LEFT_OUT, 0.0).sum()
