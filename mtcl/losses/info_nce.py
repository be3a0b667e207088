"""InfoNCE over in-batch candidates (van den Oord et al. 2018, arXiv 1807.03748), with relations instead of a diagonal.

The loss is divided by log(C): an untrained encoder starts near 1 for any number of candidates, so tasks with
different batch sizes have the same weight (the loss scaling of MUPPET, arXiv 2101.11038).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtcl.errors import ConfigError
from mtcl.losses.base import Loss, by_blocks, cosines, log_of_count, taught
from mtcl.losses.relation import LEFT_OUT, NEGATIVE, POSITIVE, relation
from mtcl.losses.view import Embedded, View
from mtcl.task.kind import Kind

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.005, 1.0
EXACT = 40
"""Above it, log(1 + exp(x)) is x to the last digit of a float64, which cannot hold exp(x) of a large x."""


class InfoNCE(Loss):
    """Softmax over the batch: each anchor must find its own positive among candidates that are not related to it.

    With logits `s_nc = cos(anchor n, candidate c) / temperature`, row n's own positive `p`, its negatives `c` and the
    number `C` of all candidates (a missing hard negative does not count):

        loss = mean over n of -log( exp(s_np) / (exp(s_np) + sum over c of exp(s_nc)) ) / log(C)

    Candidates are the positives of the batch and the hard negatives. Those that share a key with the anchor are neither
    positives nor negatives. Without keys and multiplied by log(C), this is `MultipleNegativesRankingLoss` of
    sentence-transformers.

    Shapes: anchors and positives (N, D), hard negatives (N * H, D) or (N, H, D), keys (N,) or (N, K); a scalar.
    Source: van den Oord et al. 2018, arXiv 1807.03748.

    Args:
        temperature: Divides the cosine; a smaller value puts more weight on the nearest negatives.
        learn_temperature: Train the temperature (one scalar, kept between 0.005 and 1 by `keep_in_bounds`).
        directions: one means that the anchor finds its positive; both adds that the positive finds its anchor.
        same_side: Unrelated texts on the anchors' own side are candidates too (GTE, arXiv 2308.03281).
        multi_positive: Every positive of the batch that shares a key with the anchor is a positive of the anchor, not
            only its own (arXiv 2004.11362).
        margin: Subtracted from a positive's cosine, so that the positive must win by this much (LaBSE, arXiv
            2007.01852).
        correct_frequency: Subtract the log of how often a candidate is drawn from its score (logQ), so that frequent
            labels are not pushed away for being frequent. Frequencies are those in all pairs of the task, also with
            `pairs_per_task`.
        keys: Leave related positives out. If false, every other pair's positive is a negative, as if keys were unknown;
            related hard negatives and texts of the anchors' own side are still left out.
        guide: base, or an encoder: leave out candidates that this encoder finds nearer to the anchor than its positive
            (GISTEmbed, arXiv 2402.16829).

    Example:
        >>> import torch
        >>> from mtcl.losses import InfoNCE
        >>> anchors = positives = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> round(InfoNCE()(anchors, positives).item(), 3)  # the last two rows are negatives of each other
        0.421
        >>> round(InfoNCE()(anchors, positives, keys=torch.tensor([7, 8, 8])).item(), 3)  # related: they are not
        0.0
    """

    kinds = frozenset({Kind.POSITIVE, Kind.PARALLEL})
    bounds = {"log_temperature": (math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE))}

    def __init__(
        self,
        temperature: float = 0.05,
        learn_temperature: bool = False,
        directions: Literal["one", "both"] = "one",
        same_side: bool = False,
        multi_positive: bool = False,
        margin: float = 0.0,
        correct_frequency: bool = False,
        keys: bool = True,
        guide: str | None = None,
    ) -> None:
        super().__init__()
        if not MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE:
            raise ConfigError(f"InfoNCE temperature is {temperature}: give {MIN_TEMPERATURE} to {MAX_TEMPERATURE}")
        if not 0 <= margin < 2:
            raise ConfigError(f"InfoNCE margin is {margin}: give 0 to less than 2, the widest gap of two cosines")
        if multi_positive and not keys:
            raise ConfigError("InfoNCE keys is false, but multi_positive needs keys: leave one of them out")
        self.directions, self.same_side, self.multi_positive = directions, same_side, multi_positive
        self.margin, self.correct_frequency, self.keys, self.teacher = margin, correct_frequency, keys, guide
        self.needs_contrast = keys  # without keys, every other pair's positive is a negative
        log_temperature = torch.tensor(math.log(temperature))
        if learn_temperature:
            self.log_temperature = nn.Parameter(log_temperature)
        else:
            self.register_buffer("log_temperature", log_temperature, persistent=False)

    @property
    def temperature(self) -> Tensor:
        return self.log_temperature.exp()

    def forward(self, view: View) -> Tensor:
        hard = None if view.negatives is None else view.negatives.all
        own_side = [view.anchors.all] if self.same_side else []
        loss = self._toward(view.anchors.local, [view.positives.all, *own_side], view.own_N, hard)
        if self.directions == "both":
            own_side = [view.positives.all] if self.same_side else []
            loss = (loss + self._toward(view.positives.local, [view.anchors.all, *own_side], view.own_N)) / 2
        return loss

    def _toward(
        self, local: Embedded, candidates: list[Embedded], own_of_all_N: Tensor, hard: Embedded | None = None
    ) -> Tensor:
        """The mean over local rows; `candidates[0]` contains each row's own positive."""
        log_count = log_of_count(candidates, hard)
        candidates = candidates if hard is None else [*candidates, hard]

        def of_rows(rows: slice) -> Tensor:
            own, own_N = candidates[0], own_of_all_N[rows]
            parts = [self._scores(local[rows], own, own_N, own, own_N)]
            parts += [self._scores(local[rows], among, None, own, own_N) for among in candidates[1:]]
            logits_NC, relation_NC = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
            return info_nce(logits_NC, relation_NC).sum()

        total = by_blocks(of_rows, len(local), sum(map(len, candidates))).sum()
        return total / len(local) / log_count

    def _scores(
        self, local: Embedded, among: Embedded, own_N: Tensor | None, positives: Embedded, positive_N: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits and relation, both (N, C), against `among`. If `among` contains the rows' own positives, `own_N` says
        where.

        In either case a row's own positive is row `positive_N` of `positives`.
        """
        multi_positive = self.multi_positive and own_N is not None
        relation_NC = relation(local.keys_NK, among.keys_NK, own_N, multi_positive=multi_positive)
        if not self.keys and own_N is not None:
            relation_NC = relation_NC.masked_fill(relation_NC == LEFT_OUT, NEGATIVE)
        if self.teacher is not None:
            nearer_NC = nearer_than_positive(local, among, positives, positive_N)
            relation_NC = relation_NC.masked_fill((relation_NC == NEGATIVE) & nearer_NC, LEFT_OUT)
        logits_NC = cosines(local.vectors_ND, among.vectors_ND)
        if self.margin:
            logits_NC = logits_NC - self.margin * (relation_NC == POSITIVE)
        logits_NC = logits_NC / self.temperature
        if self.correct_frequency:
            if among.log_q_N is None:
                raise ConfigError("InfoNCE correct_frequency needs how often each candidate is drawn: give log_q=")
            logits_NC = logits_NC - among.log_q_N
        return logits_NC, relation_NC


def info_nce(logits_NC: Tensor, relation_NC: Tensor) -> Tensor:
    """(N,) -log(exp(p) / sum(exp(c))) of each row, the sum over positive p and negatives c.

    Candidates that are left out are ignored; a row without positives or without negatives gives 0. Several positives of
    a row are averaged. Logits are already divided by the temperature and masked afterwards, so a learned temperature
    has a finite gradient.
    """
    positive_NC = relation_NC == POSITIVE
    negatives_N1 = logits_NC.masked_fill(relation_NC != NEGATIVE, -math.inf).logsumexp(dim=1, keepdim=True)
    per_pair_NC = F.softplus(negatives_N1 - logits_NC, threshold=EXACT).masked_fill(~positive_NC, 0.0)
    return per_pair_NC.sum(dim=1) / positive_NC.sum(dim=1).clamp(min=1)


def nearer_than_positive(local: Embedded, among: Embedded, positives: Embedded, positive_N: Tensor) -> Tensor:
    """(N, C) bool: whether the teacher finds a candidate nearer to the anchor than the anchor's own positive."""
    anchors_NE, own_NE = taught(local, "anchors"), taught(positives, "positives")[positive_N]
    own_N1 = (anchors_NE * own_NE).sum(dim=1, keepdim=True)
    return cosines(anchors_NE, taught(among)) > own_N1
