"""A task's training metrics: accuracy within the batch, cosines, and the share that keys leave out."""

from __future__ import annotations

import torch
from torch import Tensor

from mtcl.losses import View
from mtcl.losses.base import cosines, row_blocks
from mtcl.losses.relation import NEGATIVE, relation


@torch.no_grad()
def observe(view: View, loss: Tensor, temperature: Tensor) -> Tensor:
    """The values of `metrics.TASK_TRAIN` for one sub-batch, as one tensor on the device.

    The accuracy is the share of anchors whose positive is nearer than all negatives among the candidates, of those
    anchors that have any; hard negatives do not count. Where there are none, and for judged pairs, metrics of negatives
    are NaN.
    """
    num_rows, num_candidates = len(view.own_N), len(view.positives.all)
    sums = [_sums(view, rows) for rows in row_blocks(num_rows, num_candidates)]
    right, num_asked, own, negative, num_negatives = torch.stack(sums).sum(dim=0)
    left_out = 1 - (num_negatives + num_rows) / (num_rows * num_candidates)
    of_negatives = [right / num_asked, negative / num_negatives, left_out]
    if view.scores_C is not None:
        of_negatives = [torch.full_like(right, torch.nan)] * 3
    accuracy, cosine_negatives, left_out = of_negatives
    values = [loss, accuracy, temperature.to(loss.device), own / num_rows, cosine_negatives, left_out]
    return torch.stack([value.detach().float() for value in values])


def _sums(view: View, rows: slice) -> Tensor:
    """Sums over a block of rows: right answers, anchors with negatives, cosine of positives, cosine of negatives,
    number of negatives.
    """
    own_N, anchors, candidates = view.own_N[rows], view.anchors.local[rows], view.positives.all
    cosine_NC = cosines(anchors.vectors_ND, candidates.vectors_ND)
    negative_NC = relation(anchors.keys_NK, candidates.keys_NK, own_N) == NEGATIVE
    positive_N = cosine_NC.gather(1, own_N[:, None])[:, 0]
    hardest_N = cosine_NC.masked_fill(~negative_NC, -torch.inf).amax(dim=1)
    asked_N = negative_NC.any(dim=1)
    right_N = asked_N & (positive_N > hardest_N)
    sums = [right_N.sum(), asked_N.sum(), positive_N.sum(), (cosine_NC * negative_NC).sum(), negative_NC.sum()]
    return torch.stack(sums).float()
