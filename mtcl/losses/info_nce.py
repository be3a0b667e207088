"""InfoNCE over in-batch candidates (van den Oord et al. 2018, arXiv 1807.03748), with relations in the place of a
diagonal.

The loss is divided by log(C): an untrained encoder starts near 1 for any number of candidates, so tasks of
different batch sizes weigh the same (the loss scaling of MUPPET, arXiv 2101.11038).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mtcl.errors import ConfigError
from mtcl.losses.base import Loss, Side, View, row_blocks
from mtcl.relation import LEFT_OUT, POSITIVE, relation

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.005, 1.0


class InfoNCE(Loss):
    """Softmax over the batch: each anchor is to find its positive among all candidates that are not related to it.

    Args:
        temperature: Divides the cosine; smaller looks harder at the nearest negatives.
        learn_temperature: Train it (a scalar of its own, kept within 0.005 and 1).
        directions: anchor finds positive (one), or also positive finds anchor (both).
    """

    def __init__(
        self, temperature: float = 0.05, learn_temperature: bool = False, directions: Literal["one", "both"] = "one"
    ) -> None:
        super().__init__()
        if not MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE:
            raise ConfigError(f"InfoNCE temperature is {temperature}: give {MIN_TEMPERATURE} to {MAX_TEMPERATURE}")
        self.directions = directions
        log_temperature = torch.tensor(math.log(temperature))
        if learn_temperature:
            self.log_temperature = nn.Parameter(log_temperature)
        else:
            self.register_buffer("log_temperature", log_temperature, persistent=False)

    @property
    def temperature(self) -> Tensor:
        return self.log_temperature.exp().clamp(MIN_TEMPERATURE, MAX_TEMPERATURE)

    def forward(self, view: View) -> Tensor:
        loss = self._toward(view.anchors, view.positives, view.own_N)
        if self.directions == "both":
            loss = (loss + self._toward(view.positives, view.anchors, view.own_N)) / 2
        return loss

    def _toward(self, local: Side, candidates: Side, own_N: Tensor) -> Tensor:
        """The mean over local rows, a block of the score matrix at a time where it is large."""
        blocks = row_blocks(len(own_N), len(candidates.all_CD))
        if len(blocks) == 1:
            return self._rows(local, candidates, own_N, blocks[0])
        means = [checkpoint(self._rows, local, candidates, own_N, rows, use_reentrant=False) for rows in blocks]
        shares = [(rows.stop - rows.start) / len(own_N) for rows in blocks]
        return torch.stack([mean * share for mean, share in zip(means, shares, strict=True)]).sum()

    def _rows(self, local: Side, candidates: Side, own_N: Tensor, rows: slice) -> Tensor:
        relation_NC = relation(local.local_keys_NK[rows], candidates.all_keys_CK, own_N[rows])
        return info_nce(local.local_ND[rows] @ candidates.all_CD.T, relation_NC, self.temperature)


def info_nce(cosine_NC: Tensor, relation_NC: Tensor, temperature: Tensor | float) -> Tensor:
    """Mean over rows of -log(exp(p/t) / sum(exp(c/t))), the sum over positive p and negatives c, divided by log(C).

    Candidates left out take no part; a row without positives or without negatives contributes 0. Several positives of a
    row are averaged. Masks come after the temperature, so a learned one has a finite gradient.
    """
    logits_NC = cosine_NC.float() / temperature if cosine_NC.dtype != torch.float64 else cosine_NC / temperature
    positive_NC = relation_NC == POSITIVE
    negative_NC = logits_NC.masked_fill(positive_NC | (relation_NC == LEFT_OUT), -math.inf)
    hardest_N1 = negative_NC.detach().amax(dim=1, keepdim=True).clamp(min=-1e4)
    negatives_N1 = hardest_N1 + (negative_NC - hardest_N1).exp().sum(dim=1, keepdim=True).clamp(min=1e-30).log()
    per_pair_NC = (torch.logaddexp(negatives_N1, logits_NC) - logits_NC).masked_fill(~positive_NC, 0.0)
    per_row_N = per_pair_NC.sum(dim=1) / positive_NC.sum(dim=1).clamp(min=1)
    return per_row_N.mean() / math.log(max(2, cosine_NC.shape[1]))
