"""What a loss sees and gives.

A loss is a module only so that what it learns (a temperature) belongs to the LightningModule: DDP syncs it and the
checkpoint holds it. Its arithmetic stands in a pure function beside it. No gathering and no logging here. Letters:
N local rows, C rows of all ranks, D dimensions, K keys.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

SCORES_PER_BLOCK = 1 << 21
"""A loss never holds more scores than these at a time: 8 MiB in float32, a few times that with intermediates."""


@dataclass(frozen=True)
class Side:
    """One column of a sub-batch, anchors or positives: this rank's rows and those of all ranks, with their keys."""

    local_ND: Tensor
    local_keys_NK: Tensor
    all_CD: Tensor
    all_keys_CK: Tensor


@dataclass(frozen=True)
class View:
    """One task's sub-batch: local row n is row `own_N[n]` among all ranks' rows, on both sides."""

    anchors: Side
    positives: Side
    own_N: Tensor


def row_blocks(num_rows: int, num_candidates: int) -> list[slice]:
    """Blocks of rows whose scores against all candidates number at most `SCORES_PER_BLOCK`."""
    size = max(1, SCORES_PER_BLOCK // max(1, num_candidates))
    return [slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]


class Loss(nn.Module, ABC):
    """A task's loss: a `View` to a scalar of about 1, whatever the batch size."""

    @property
    @abstractmethod
    def temperature(self) -> Tensor:
        """What the board shows as the task's temperature (scalar)."""

    @abstractmethod
    def forward(self, view: View) -> Tensor:
        """The mean loss of the local rows."""
