"""Losses towards a frozen teacher: keep what the base encoder knows, or take over what another one does."""

from __future__ import annotations

import math
from typing import Literal, cast

import torch
from torch import Tensor
from torch.nn import functional

from mtcl.errors import ConfigError
from mtcl.losses.base import Embedded, Loss, View, at_least_float32, by_blocks, cosines
from mtcl.losses.relation import NEGATIVE, relation
from mtcl.types import Kind


class TeacherMSE(Loss):
    """Squared distance of unit vectors to a teacher's (Reimers and Gurevych 2020, arXiv 2004.09813), mean over texts.

    Args:
        teacher: base is the encoder before training with its projection; else folder or Hub name of an encoder, or a
            run folder of mtcl (its best checkpoint).
        target: own draws each text to the teacher's vector of itself; anchor draws the positive to the teacher's vector
            of its anchor: a translation to where the teacher has the original.
    """

    matches_teacher = True

    def __init__(self, teacher: str = "base", target: Literal["own", "anchor"] = "own") -> None:
        super().__init__()
        self.teacher, self.target = teacher, target

    def forward(self, view: View) -> Tensor:
        anchors, positives = view.anchors.local, view.positives.local
        goals = positives.teacher_NE if self.target == "own" else anchors.teacher_NE
        assert anchors.teacher_NE is not None
        assert goals is not None
        forth = squared_distance(anchors.vectors_ND, anchors.teacher_NE)
        return (forth + squared_distance(positives.vectors_ND, goals)) / 2


class MarginMSE(Loss):
    """An anchor's margin between its positive and each negative shall be the teacher's (arXiv 2010.02666).

    Negatives are the pair's hard negatives and every unrelated positive of the batch.

    Args:
        teacher: As in TeacherMSE; it may have any number of dimensions.
        in_batch: Whether positives of other pairs are negatives, beside hard negatives; they are in any case where the
            task has no hard negatives.
    """

    kinds = frozenset({Kind.POSITIVE, Kind.PARALLEL})

    def __init__(self, teacher: str = "base", in_batch: bool = True) -> None:
        super().__init__()
        self.teacher, self.in_batch = teacher, in_batch

    def forward(self, view: View) -> Tensor:
        local, positives = view.anchors.local, view.positives.local
        candidates = [] if view.negatives is None else [view.negatives.all]
        candidates += [view.positives.all] if self.in_batch or not candidates else []
        num_candidates = sum(len(among) for among in candidates)

        def of_rows(rows: slice) -> Tensor:
            return _row_means(local[rows], positives[rows], candidates).sum()

        return by_blocks(of_rows, len(local), num_candidates).sum() / len(local)


def _row_means(anchors: Embedded, positives: Embedded, candidates: list[Embedded]) -> Tensor:
    """(N,) mean over a row's negatives of the squared difference of margins."""
    totals, counts = [], []
    for among in candidates:
        is_negative_NC = relation(anchors.keys_NK, among.keys_NK, None) == NEGATIVE
        gap_NC = margins(anchors, positives, among) - margins(anchors, positives, among, teacher=True)
        totals.append(gap_NC.square().masked_fill(~is_negative_NC, 0.0).sum(dim=1))
        counts.append(is_negative_NC.sum(dim=1))
    return torch.stack(totals).sum(dim=0) / torch.stack(counts).sum(dim=0).clamp(min=1)


class DistillKL(Loss):
    """The student's softmax over an anchor's candidates shall be the teacher's: Kullback-Leibler divergence from the
    teacher, mean over anchors, divided by log(C) as InfoNCE is (BAM distils so between tasks, arXiv 1907.04829).

    Candidates are the positives of the batch and the hard negatives. Keys leave none out: how near the teacher finds
    related texts is worth knowing.

    Args:
        teacher: As in TeacherMSE; it may have any number of dimensions.
        temperature: Divides the cosines of both.
    """

    kinds = frozenset({Kind.POSITIVE, Kind.PARALLEL})

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
        candidates = [view.positives.all, *([] if view.negatives is None else [view.negatives.all])]
        num_candidates = sum(len(among) for among in candidates)

        def of_rows(rows: slice) -> Tensor:
            ours_NC, goals_NC = (
                torch.cat([scores(local[rows], among, teacher=teacher) for among in candidates], dim=1)
                / self.temperature
                for teacher in (False, True)
            )
            return functional.kl_div(
                ours_NC.log_softmax(dim=1), goals_NC.log_softmax(dim=1), reduction="sum", log_target=True
            )

        total = by_blocks(of_rows, len(local), num_candidates).sum()
        return total / len(local) / math.log(max(2, num_candidates))


def squared_distance(vectors_ND: Tensor, goals_ND: Tensor) -> Tensor:
    """Mean over rows of the squared distance: 2 (1 - cosine) for unit vectors."""
    return (at_least_float32(vectors_ND) - goals_ND).square().sum(dim=1).mean()


def scores(rows: Embedded, candidates: Embedded, *, teacher: bool = False) -> Tensor:
    """(N, C) cosines; in the teacher's eyes if asked."""
    if not teacher:
        return cosines(rows.vectors_ND, candidates.vectors_ND)
    assert rows.teacher_NE is not None
    assert candidates.teacher_NE is not None
    return cosines(rows.teacher_NE, candidates.teacher_NE)


def margins(anchors: Embedded, positives: Embedded, candidates: Embedded, *, teacher: bool = False) -> Tensor:
    """(N, C) cosine of anchor and own positive, less that of anchor and candidate; in the teacher's eyes if asked."""
    sides = [
        rows.teacher_NE if teacher else at_least_float32(rows.vectors_ND) for rows in (anchors, positives, candidates)
    ]
    anchors_ND, positives_ND, candidates_CD = (side for side in sides if side is not None)
    return (anchors_ND * positives_ND).sum(dim=1, keepdim=True) - cosines(anchors_ND, candidates_CD)
