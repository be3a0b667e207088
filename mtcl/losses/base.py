"""What a loss sees and gives.

A loss is a module only so that what it learns (a temperature) belongs to the LightningModule: DDP syncs it and the
checkpoint holds it. Its arithmetic stands in a pure function beside it. No gathering and no logging here. Letters:
N local rows, C rows of all ranks, D dimensions, K keys, E dimensions of a teacher.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mtcl.types import Described, Kind

SCORES_PER_BLOCK = 1 << 21
"""A loss never holds more scores than these at a time: 8 MiB in float32, a few times that with intermediates."""


def within(learned: Tensor, low: float, high: float) -> Tensor:
    """What is learned, put back to its bounds where a step has carried it past them, so that its gradient lives on."""
    with torch.no_grad():
        learned.clamp_(low, high)
    return learned


@dataclass(frozen=True)
class Embedded:
    """Texts as unit vectors, with what travels with them: keys padded with 0, the log of how often each is
    drawn in its role, and a teacher's unit vectors where a loss wants them.
    """

    vectors_ND: Tensor
    keys_NK: Tensor
    log_q_N: Tensor
    teacher_NE: Tensor | None = None

    def __len__(self) -> int:
        return len(self.vectors_ND)

    def __getitem__(self, rows: slice) -> Embedded:
        teacher = None if self.teacher_NE is None else self.teacher_NE[rows]
        return Embedded(self.vectors_ND[rows], self.keys_NK[rows], self.log_q_N[rows], teacher)

    def map_vectors(self, apply: Callable[[Tensor], Tensor]) -> Embedded:
        return replace(self, vectors_ND=apply(self.vectors_ND))


@dataclass(frozen=True)
class Side:
    """One column of a sub-batch: this rank's rows and those of all ranks."""

    local: Embedded
    all: Embedded


@dataclass(frozen=True)
class View:
    """One task's sub-batch: local row n is row `own_N[n]` among all ranks' rows, of anchors and of positives.

    `negatives` are hard negatives, a fixed number H for each local row, one row's after the other's; where a pair has
    fewer, its positive stands in, which keys leave out. Judged pairs have scores of 0 to 1 for all ranks' rows.
    """

    anchors: Side
    positives: Side
    own_N: Tensor
    negatives: Side | None = None
    scores_C: Tensor | None = None

    def map_vectors(self, apply: Callable[[Tensor], Tensor]) -> View:
        """The same view of other vectors: `apply` sees each (rows, D) tensor."""

        def side(old: Side) -> Side:
            local = old.local.map_vectors(apply)
            return Side(local, local if old.all is old.local else old.all.map_vectors(apply))

        negatives = None if self.negatives is None else side(self.negatives)
        return replace(self, anchors=side(self.anchors), positives=side(self.positives), negatives=negatives)


def row_blocks(num_rows: int, num_candidates: int) -> list[slice]:
    """Blocks of rows whose scores against all candidates number at most `SCORES_PER_BLOCK`."""
    size = max(1, SCORES_PER_BLOCK // max(1, num_candidates))
    return [slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]


def by_blocks(of_rows: Callable[[slice], Tensor], num_rows: int, num_candidates: int) -> Tensor:
    """What `of_rows` gives for each block of rows, stacked; several blocks are computed again in the backward pass,
    so that only one block's scores live at a time.
    """
    blocks = row_blocks(num_rows, num_candidates)
    if len(blocks) == 1:
        return of_rows(blocks[0])[None]
    return torch.stack([checkpoint(of_rows, rows, use_reentrant=False) for rows in blocks])


def at_least_float32(values: Tensor) -> Tensor:
    """Float64 as it is, all else as float32."""
    return values if values.dtype == torch.float64 else values.float()


def cosines(rows_ND: Tensor, others_CD: Tensor) -> Tensor:
    """(N, C) in float32 at least, also under autocast: a cosine in bfloat16 is off by 0.002, which a temperature of
    0.005 makes 0.4.
    """
    with torch.autocast(rows_ND.device.type, enabled=False):
        return at_least_float32(rows_ND) @ at_least_float32(others_CD).T


def pair_cosines(view: View) -> Tensor:
    """(C,) cosine of each pair of all ranks."""
    first_CD, second_CD = view.anchors.all.vectors_ND, view.positives.all.vectors_ND
    return (at_least_float32(first_CD) * at_least_float32(second_CD)).sum(dim=1)


def truncated(view: View, dim: int) -> View:
    """The first `dim` dimensions of all vectors, of unit length again."""
    return view.map_vectors(lambda vectors_ND: F.normalize(vectors_ND[:, :dim], dim=1))


class Loss(Described, nn.Module, ABC):
    """A task's loss: a `View` to a scalar of about 1, whatever the batch size."""

    kinds: frozenset[Kind] = frozenset(Kind)
    """Pairs that it has a meaning for."""
    teacher: str | None = None
    """`base`, or folder or Hub name of the encoder whose vectors the loss wants; None for none."""

    matches_teacher: bool = False
    """Whether embeddings must have as many dimensions as the teacher's."""

    @property
    def temperature(self) -> Tensor:
        """What the board shows as the task's temperature (scalar); NaN where a loss has none."""
        return torch.tensor(torch.nan)

    def check(self, *, dim: int) -> None:
        """Raise `ConfigError` if embeddings of `dim` dimensions do not fit."""

    @abstractmethod
    def forward(self, view: View) -> Tensor:
        """The mean loss of the local rows."""
