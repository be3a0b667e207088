"""A step's data for one rank, as tensors.

Each distinct text of the step is encoded once, across all tasks and roles; the sub-batches index into these texts.
`steps.py` assembles it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mtcl.data.packing import Packed
from mtcl.data.parcel import Parcel

EMPTY_PLACE = 2**63 - 1
"""The first key of a hard negative that a pair does not have; such a place is a candidate for no anchor."""


@dataclass(frozen=True)
class RoleTexts:
    """This rank's texts in one role: indices (n,) into the step's distinct texts, keys (n, K) padded with 0 (K is the
    same on all ranks), the log of how often each text is drawn (n,), and a teacher's vectors (n, E). The anchors of
    judged pairs have the pairs' scores (n,).
    """

    texts_N: Tensor
    keys_NK: Tensor
    log_q_N: Tensor
    teacher_NE: Tensor | None = None
    scores_N: Tensor | None = None

    def map(self, apply: Any) -> RoleTexts:
        teacher, scores = (None if given is None else apply(given) for given in (self.teacher_NE, self.scores_N))
        return RoleTexts(apply(self.texts_N), apply(self.keys_NK), apply(self.log_q_N), teacher, scores)


@dataclass(frozen=True)
class SubBatch:
    """This rank's rows of one task: anchors, positives and, if there are any, H hard negatives per row."""

    task: int
    columns: tuple[RoleTexts, ...]

    def __len__(self) -> int:
        return len(self.columns[0].texts_N)

    def map(self, apply: Any) -> SubBatch:
        return SubBatch(self.task, tuple(column.map(apply) for column in self.columns))


@dataclass(frozen=True)
class Kept:
    """The K texts of a step whose distance from the start of training is measured (`mtcl.training.keep`).

    `places_K` are their places among the step's distinct texts. `weights_K` make the weighted sum of their values an
    unbiased estimate of the mean over the rows of all sub-batches.
    """

    texts: Packed
    places_K: Tensor
    weights_K: Tensor

    def map(self, apply: Any) -> Kept:
        return Kept(self.texts.map(apply), apply(self.places_K), apply(self.weights_K))


@dataclass(frozen=True)
class StepBatch:
    """Everything a rank needs for one step. `num_texts` is the number of texts before equal ones were merged.

    If the backbone is frozen, the step has its pooled hidden states (T, H) of the distinct texts, and no tokens.
    """

    step: int
    texts: Packed
    parts: tuple[SubBatch, ...]
    num_texts: int
    pooled_TH: Tensor | None = None
    kept: Kept | None = None
    parcel: Parcel[StepBatch] | None = None

    def to(self, device: torch.device | str) -> StepBatch:
        return Parcel.of(self).to(device).open() if self.parcel is None else StepBatch.unpacked(self.parcel.to(device))

    @classmethod
    def unpacked(cls, parcel: Parcel[StepBatch]) -> StepBatch:
        """The batch in a parcel. The parcel is kept, to move the batch to a device."""
        return replace(parcel.open(), parcel=parcel)

    def map(self, apply: Any) -> StepBatch:
        pooled = None if self.pooled_TH is None else apply(self.pooled_TH)
        kept = None if self.kept is None else self.kept.map(apply)
        parts = tuple(part.map(apply) for part in self.parts)
        return StepBatch(self.step, self.texts.map(apply), parts, self.num_texts, pooled, kept)
