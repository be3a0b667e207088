"""Binary cross-entropy on the cosine of pairs, with learned scale and bias.

On pairs labelled 0 and 1 this is the recipe reported for LiPost (arXiv 2405.11344). On positive pairs, where every
unrelated text of the batch counts as a 0, it is SigLIP's loss (arXiv 2303.15343).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtcl.errors import ConfigError
from mtcl.losses.base import Loss, by_blocks, cosines, pair_cosines
from mtcl.losses.relation import LEFT_OUT, POSITIVE, relation
from mtcl.losses.view import Embedded, View
from mtcl.task.kind import Kind

MAX_SCALE = 100.0


class PairBCE(Loss):
    """Binary cross-entropy of each pair on its own: its scaled and shifted cosine is the log odds of label 1.

    For pairs with labels `y`, with the logit `x = scale * cosine + bias`:

        loss = mean over pairs of -( y log sigmoid(x) + (1 - y) log sigmoid(-x) )

    Without labels, each anchor n is compared with all candidates c that do not share a key with it, and `z` is 1 for
    its own positive and -1 for the others:

        loss = 1 / N * sum over n and c of -log sigmoid(z_nc x_nc)

    Shapes: anchors and positives (N, D); scores (N,), or hard negatives (N * H, D) or (N, H, D); a scalar.
    Source: arXiv 2405.11344 (LiPost) with labels, arXiv 2303.15343 (SigLIP, equation 1) without.

    Args:
        scale: Initial factor of the cosine; learned, and kept at 100 or less by `keep_in_bounds`.
        bias: Initial value added to the scaled cosine; learned.

    Example:
        >>> import torch
        >>> from mtcl.losses import PairBCE
        >>> anchors = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> others = torch.tensor([[1.0, 0.0], [1.0, 0.0]])  # cosines 1 and 0
        >>> loss = PairBCE(scale=10.0, bias=-5.0)
        >>> round(loss(anchors, others, scores=torch.tensor([1.0, 0.0])).item(), 3)
        0.007
        >>> round(loss(anchors, others, scores=torch.tensor([0.0, 1.0])).item(), 3)
        5.007
    """

    kinds = frozenset({Kind.BINARY, Kind.POSITIVE, Kind.PARALLEL})
    bounds = {"log_scale": (-math.inf, math.log(MAX_SCALE))}

    def __init__(self, scale: float = 10.0, bias: float = -10.0) -> None:
        super().__init__()
        if not 0 < scale <= MAX_SCALE:
            raise ConfigError(f"PairBCE scale is {scale}: give more than 0, at most {MAX_SCALE:g}")
        if not math.isfinite(bias):
            raise ConfigError(f"PairBCE bias is {bias}: give a number, such as -10.0")
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = nn.Parameter(torch.tensor(bias))

    @property
    def temperature(self) -> Tensor:
        return 1 / self.scale

    @property
    def scale(self) -> Tensor:
        """The factor of the cosines, learned as its logarithm."""
        return self.log_scale.exp()

    def forward(self, view: View) -> Tensor:
        if view.scores_C is not None:
            logits_C = pair_cosines(view) * self.scale + self.bias
            return F.binary_cross_entropy_with_logits(logits_C[view.own_N], view.scores_C[view.own_N].to(logits_C))
        local, candidates = view.anchors.local, view.candidates

        def of_rows(rows: slice) -> Tensor:
            parts = [self._rows(local[rows], c, None if n else view.own_N[rows]) for n, c in enumerate(candidates)]
            return torch.stack(parts).sum()

        return by_blocks(of_rows, len(local), sum(map(len, candidates))).sum() / len(local)

    def _rows(self, local: Embedded, among: Embedded, own_N: Tensor | None) -> Tensor:
        relation_NC = relation(local.keys_NK, among.keys_NK, own_N)
        logits_NC = cosines(local.vectors_ND, among.vectors_ND) * self.scale + self.bias
        return sigmoid_loss(logits_NC, relation_NC)


def sigmoid_loss(logits_NC: Tensor, relation_NC: Tensor) -> Tensor:
    """Sum over rows and candidates of -log sigmoid(z * logit), z 1 for positives, -1 for negatives (SigLIP eq. 1)."""
    signs_NC = torch.where(relation_NC == POSITIVE, 1.0, -1.0).to(logits_NC)
    return F.softplus(-signs_NC * logits_NC).masked_fill(relation_NC == LEFT_OUT, 0.0).sum()
