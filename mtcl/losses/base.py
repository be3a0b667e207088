"""The interface of a loss, and the arithmetic that losses share.

A loss is a module only so that what it learns (a temperature) belongs to the LightningModule: DDP syncs it and the
checkpoint holds it. Its arithmetic is in a pure function beside it. No gathering and no logging here. Letters: N local
rows, C rows of all ranks, D dimensions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mtcl.errors import ConfigError
from mtcl.losses.tensors import PerSide, view_of
from mtcl.losses.view import Embedded, View
from mtcl.types import Described, Kind

SCORES_PER_BLOCK = 1 << 21
"""A loss never holds more scores than these at a time: 8 MiB in float32, a few times that with intermediates."""
JUDGED = frozenset({Kind.GRADED, Kind.BINARY})


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


def taught(rows: Embedded, side: str) -> Tensor:
    """(N, E) a teacher's vectors of the rows. Raises `ConfigError` where there are none."""
    if rows.teacher_NE is None:
        raise ConfigError(f"the loss needs a teacher's vectors of {side}: give teacher=, one tensor (N, E) per side")
    return rows.teacher_NE


class Loss(Described, nn.Module, ABC):
    """A task's loss: a scalar of about 1 for an untrained encoder, whatever the batch size.

    Training calls `loss(view)`. Alone, in a notebook or in a training loop of your own, a loss takes tensors:
    `loss(anchors, positives, keys=..., negatives=..., scores=..., teacher=..., log_q=...)`, as `view_of` explains them.
    There the loss is of one process, and whoever steps the optimizer calls `keep_in_bounds()` after it.

    A loss of your own derives from this class and overrides `forward`, which gets a `View` in both cases.

    Example:
        >>> import torch
        >>> from mtcl.losses import Loss, View
        >>> class Distance(Loss):
        ...     def forward(self, view: View) -> torch.Tensor:
        ...         gap_ND = view.anchors.local.vectors_ND - view.positives.local.vectors_ND
        ...         return gap_ND.square().sum(dim=1).mean() / 2
        >>> Distance()(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
        tensor(1.)
    """

    kinds: frozenset[Kind] = frozenset(Kind)
    """Kinds of pairs that the loss is for."""
    teacher: str | None = None
    """`base`, or folder or Hub name of the encoder whose vectors the loss wants; None for none."""

    matches_teacher: bool = False
    """Whether embeddings must have as many dimensions as the teacher's."""

    bounds: ClassVar[dict[str, tuple[float, float]]] = {}
    """The lowest and highest value of each parameter that has them, by its name."""

    @property
    def temperature(self) -> Tensor:
        """What the board shows as the task's temperature (scalar); NaN where a loss has none."""
        return torch.tensor(torch.nan)

    def check(self, *, dim: int) -> None:
        """Raise `ConfigError` if embeddings of `dim` dimensions do not fit."""

    @torch.no_grad()
    def keep_in_bounds(self) -> None:
        """Clamp what is learned, here and in the losses inside, to `bounds`.

        To be called after each optimizer step, so that a value that the step carried too far is never used, and never
        in a checkpoint. Mtcl's own training does so.
        """
        for loss in self.modules():
            for name, (low, high) in loss.bounds.items() if isinstance(loss, Loss) else ():
                cast("Tensor", getattr(loss, name)).clamp_(low, high)

    @abstractmethod
    def forward(self, view: View) -> Tensor:
        """The mean loss of the local rows."""

    def __call__(
        self,
        anchors: Tensor | View,
        positives: Tensor | None = None,
        *,
        keys: Tensor | PerSide | None = None,
        negatives: Tensor | None = None,
        scores: Tensor | None = None,
        teacher: PerSide | None = None,
        log_q: Tensor | PerSide | None = None,
    ) -> Tensor:
        """The loss of a `View`, or of the view that `view_of` makes of tensors.

        Raises `ConfigError` if tensors do not fit each other or the loss.
        """
        if isinstance(anchors, View):
            return cast("Tensor", super().__call__(anchors))
        view = view_of(
            anchors,
            cast("Tensor", positives),
            keys=keys,
            negatives=negatives,
            scores=scores,
            teacher=teacher,
            log_q=log_q,
        )
        self._check_fits(view)
        return cast("Tensor", super().__call__(view))

    def _check_fits(self, view: View) -> None:
        """What a run checks before its first step, for tensors: raise `ConfigError` for what lacks or has no use."""
        name, anchors = type(self).__name__, view.anchors.local
        if view.scores_C is None and self.kinds <= JUDGED:
            raise ConfigError(f"{name} is for judged pairs: give scores=, from 0 to 1, one for each pair")
        if view.scores_C is not None and not self.kinds & JUDGED:
            raise ConfigError(f"{name} is not for judged pairs: give no scores, or take CoSENT or PairBCE")
        if self.teacher is not None:
            taught(anchors, "anchors")
        elif anchors.teacher_NE is not None:
            raise ConfigError(f"{name} has no teacher: give none, or a loss that has, such as TeacherMSE")
        dim = anchors.vectors_ND.shape[1]
        if self.matches_teacher and anchors.teacher_NE is not None and anchors.teacher_NE.shape[1] != dim:
            raise ConfigError(
                f"{name}: the teacher has {anchors.teacher_NE.shape[1]} dimensions, the embeddings {dim}: give as many"
            )
        self.check(dim=dim)
