"""Losses with a frozen teacher: keep the knowledge of the base encoder, or learn from another encoder."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from mtcl.errors import ConfigError
from mtcl.losses.base import Loss, at_least_float32, by_blocks, cosines, log_of_count, taught
from mtcl.losses.relation import NEGATIVE, is_empty, relation
from mtcl.losses.view import Embedded, View
from mtcl.task.kind import Kind

NO_SHARE = -1e4
"""The logit of an empty place: its share of a softmax is 0, and the divergence stays finite."""


class TeacherMSE(Loss):
    """Mean squared distance between the embeddings and the teacher's vectors.

    With the teacher's vectors `t_a` of anchors and `t_p` of positives, all of unit length:

        loss = mean over pairs of ( |a - t_a|^2 + |p - g|^2 ) / 2,   g = t_p (target own) or t_a (target anchor)

    Shapes: anchors and positives (N, D), a tuple of two teacher's tensors (N, D), the second of which may be None if
    the target is anchor; a scalar from 0 to 4.
    Source: Reimers and Gurevych 2020, arXiv 2004.09813.

    Args:
        teacher: base is the encoder before training, with its projection. Otherwise the folder or Hub name of an
            encoder, or an mtcl run folder (its best checkpoint).
        target: own pulls each text towards the teacher's vector of the same text. anchor pulls the positive towards the
            teacher's vector of its anchor, for example a translation towards its original.

    Example:
        >>> import torch
        >>> from mtcl.losses import TeacherMSE
        >>> english, german = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> taught = torch.tensor([[1.0, 0.0]])  # a teacher that knows English only
        >>> TeacherMSE(target="anchor")(english, german, teacher=(taught, None))
        tensor(1.)
    """

    matches_teacher = True
    needs_contrast = False
    uses_negatives = False

    def __init__(self, teacher: str = "base", target: Literal["own", "anchor"] = "own") -> None:
        super().__init__()
        self.teacher, self.target = teacher, target

    def forward(self, view: View) -> Tensor:
        anchors, positives = view.anchors.local, view.positives.local
        own = taught(anchors, "anchors")
        goals = taught(positives, "positives") if self.target == "own" else own
        return (squared_distance(anchors.vectors_ND, own) + squared_distance(positives.vectors_ND, goals)) / 2


class MarginMSE(Loss):
    """An anchor's margin between its positive and each negative should equal the teacher's margin.

    With the student's margin `m_nc = cos(a_n, p_n) - cos(a_n, x_c)`, the teacher's margin `t_nc`, and the negatives
    `x_c` of row n:

        loss = mean over n of the mean over c of (m_nc - t_nc)^2

    The negatives are all hard negatives and every positive of the batch, except those that share a key with the anchor.

    Shapes: anchors and positives (N, D), hard negatives (N * H, D) or (N, H, D), a tuple of the teacher's vectors of
    each, with E dimensions instead of D; a scalar.
    Source: Hofstätter et al. 2020, arXiv 2010.02666.

    Args:
        teacher: As in TeacherMSE; it may have any number of dimensions.
        in_batch: Whether positives of other pairs are negatives too. They always are if the task has no hard negatives.
            The hard negatives of all pairs of the batch are negatives of each.

    Example:
        >>> import torch
        >>> from mtcl.losses import MarginMSE
        >>> anchors = positives = torch.eye(2)  # cosine 1 with the own positive, 0 with the other: a margin of 1
        >>> teacher = (torch.eye(2), torch.tensor([[0.8, 0.6], [0.6, 0.8]]))  # margins of 0.2
        >>> round(MarginMSE()(anchors, positives, teacher=teacher).item(), 3)
        0.64
    """

    kinds = frozenset({Kind.POSITIVE, Kind.PARALLEL})

    def __init__(self, teacher: str = "base", in_batch: bool = True) -> None:
        super().__init__()
        self.teacher, self.in_batch = teacher, in_batch

    def forward(self, view: View) -> Tensor:
        local, positives = view.anchors.local, view.positives.local
        candidates = [] if view.negatives is None else [view.negatives.all]
        candidates += [view.positives.all] if self.in_batch or not candidates else []

        def of_rows(rows: slice) -> Tensor:
            return _row_means(local[rows], positives[rows], candidates).sum()

        return by_blocks(of_rows, len(local), sum(map(len, candidates))).sum() / len(local)


def _row_means(anchors: Embedded, positives: Embedded, candidates: list[Embedded]) -> Tensor:
    """(N,) the squared difference of margins, averaged over a row's negatives."""
    totals, counts = [], []
    for among in candidates:
        is_negative_NC = relation(anchors.keys_NK, among.keys_NK, None) == NEGATIVE
        taught_NC = margins(taught(anchors, "anchors"), taught(positives, "positives"), taught(among))
        gap_NC = margins(anchors.vectors_ND, positives.vectors_ND, among.vectors_ND) - taught_NC
        totals.append(gap_NC.square().masked_fill(~is_negative_NC, 0.0).sum(dim=1))
        counts.append(is_negative_NC.sum(dim=1))
    return torch.stack(totals).sum(dim=0) / torch.stack(counts).sum(dim=0).clamp(min=1)


class DistillKL(Loss):
    """Kullback-Leibler divergence of the student's softmax over an anchor's candidates from the teacher's.

    `q_n` and `t_n` are the softmax of student and teacher over the cosines of anchor n with all C candidates, divided
    by the temperature:

        loss = mean over n of sum over c of t_nc log(t_nc / q_nc) / log(C)

    Candidates are the positives of the batch and the hard negatives. Keys leave none out, because the student should
    also learn how near the teacher finds related texts.

    Shapes: anchors and positives (N, D), hard negatives (N * H, D) or (N, H, D), a tuple of the teacher's vectors of
    each, with E dimensions instead of D; a scalar.
    Source: Hinton et al. 2015, arXiv 1503.02531; BAM distils between tasks in this way (arXiv 1907.04829).

    Args:
        teacher: As in TeacherMSE; it may have any number of dimensions.
        temperature: Divides the cosines of student and teacher.

    Example:
        >>> import torch
        >>> from mtcl.losses import DistillKL
        >>> anchors = positives = torch.eye(2)
        >>> DistillKL()(anchors, positives, teacher=(torch.eye(2), torch.eye(2)))
        tensor(0.)
        >>> round(DistillKL()(anchors, positives, teacher=(torch.eye(2), torch.ones(2, 2))).item(), 3)
        13.427
    """

    kinds = frozenset({Kind.POSITIVE, Kind.PARALLEL})
    needs_contrast = False

    def __init__(self, teacher: str = "base", temperature: float = 0.05) -> None:
        super().__init__()
        if not 0 < temperature <= 1:
            raise ConfigError(f"DistillKL temperature is {temperature}: give more than 0, at most 1")
        self.teacher = teacher
        self.register_buffer("fixed_temperature", torch.tensor(temperature), persistent=False)

    @property
    def temperature(self) -> Tensor:
        return cast("Tensor", self.fixed_temperature)

    def forward(self, view: View) -> Tensor:
        local = view.anchors.local
        hard = None if view.negatives is None else view.negatives.all
        candidates = view.candidates
        is_empty_C = None if hard is None else torch.cat([is_empty(among.keys_NK) for among in candidates])

        def of_rows(rows: slice) -> Tensor:
            own = local[rows]
            goal_NE = taught(own, "anchors")
            ours_NC = torch.cat([cosines(own.vectors_ND, among.vectors_ND) for among in candidates], dim=1)
            goals_NC = torch.cat([cosines(goal_NE, taught(among)) for among in candidates], dim=1)
            ours_NC, goals_NC = ours_NC / self.temperature, goals_NC / self.temperature
            if is_empty_C is not None:
                ours_NC, goals_NC = (x.masked_fill(is_empty_C, NO_SHARE) for x in (ours_NC, goals_NC))
            return F.kl_div(ours_NC.log_softmax(dim=1), goals_NC.log_softmax(dim=1), reduction="sum", log_target=True)

        total = by_blocks(of_rows, len(local), sum(map(len, candidates))).sum()
        return total / len(local) / log_of_count([view.positives.all], hard)


def squared_distance(vectors_ND: Tensor, goals_ND: Tensor) -> Tensor:
    """The squared distance, averaged over rows: 2 (1 - cosine) for unit vectors."""
    return (at_least_float32(vectors_ND) - goals_ND).square().sum(dim=1).mean()


def margins(anchors_ND: Tensor, positives_ND: Tensor, candidates_CD: Tensor) -> Tensor:
    """(N, C) cosine of anchor and own positive minus cosine of anchor and candidate, of unit vectors."""
    own_N1 = (at_least_float32(anchors_ND) * at_least_float32(positives_ND)).sum(dim=1, keepdim=True)
    return own_N1 - cosines(anchors_ND, candidates_CD)
