"""The interface of a loss, and the arithmetic that losses share.

A loss is a module only so that its learned parameters (such as a temperature) belong to the LightningModule: DDP syncs
them and checkpoints contain them. The arithmetic is in a pure function next to each loss. Losses neither gather nor
log. Letters: N local rows, C rows of all ranks, D dimensions.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mtcl.errors import ConfigError
from mtcl.losses.relation import is_empty
from mtcl.losses.tensors import PerSide, view_of
from mtcl.losses.view import Embedded, View
from mtcl.records.described import Described
from mtcl.task.kind import Kind

SCORES_PER_BLOCK = 1 << 21
"""The most scores that a loss holds at a time: 8 MiB in float32, a few times that with intermediates."""
JUDGED = frozenset({Kind.GRADED, Kind.BINARY})


def row_blocks(num_rows: int, num_candidates: int) -> list[slice]:
    """Blocks of rows that have at most `SCORES_PER_BLOCK` scores against all candidates."""
    size = max(1, SCORES_PER_BLOCK // max(1, num_candidates))
    return [slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]


def by_blocks(of_rows: Callable[[slice], Tensor], num_rows: int, num_candidates: int) -> Tensor:
    """The results of `of_rows` for each block of rows, stacked. If there are several blocks, they are recomputed in the
    backward pass, so that only one block's scores are in memory at a time.
    """
    blocks = row_blocks(num_rows, num_candidates)
    if len(blocks) == 1:
        return of_rows(blocks[0])[None]
    return torch.stack([checkpoint(of_rows, rows, use_reentrant=False) for rows in blocks])


def log_of_count(candidates: Sequence[Embedded], hard: Embedded | None = None) -> float | Tensor:
    """The log of the number of candidates, at least 2. Empty places among the hard negatives are not counted; the
    result is then a tensor, so that the device need not wait for the count.
    """
    count = sum(len(among) for among in candidates)
    if hard is None:
        return math.log(max(2, count))
    given = (~is_empty(hard.keys_NK)).sum() + count
    return given.clamp(min=2).to(at_least_float32(hard.vectors_ND[:0]).dtype).log()


def at_least_float32(values: Tensor) -> Tensor:
    """Float64 is kept; every other dtype becomes float32."""
    return values if values.dtype == torch.float64 else values.float()


def cosines(rows_ND: Tensor, others_CD: Tensor) -> Tensor:
    """(N, C) in at least float32, even under autocast: a cosine in bfloat16 is off by 0.002, which becomes 0.4 at a
    temperature of 0.005.
    """
    with torch.autocast(rows_ND.device.type, enabled=False):
        return at_least_float32(rows_ND) @ at_least_float32(others_CD).T


def pair_cosines(view: View) -> Tensor:
    """(C,) the cosine of each pair, over all ranks."""
    first_CD, second_CD = view.anchors.all.vectors_ND, view.positives.all.vectors_ND
    return (at_least_float32(first_CD) * at_least_float32(second_CD)).sum(dim=1)


def truncated(view: View, dim: int) -> View:
    """The first `dim` dimensions of all vectors, normalised to unit length again."""
    return view.map_vectors(lambda vectors_ND: F.normalize(vectors_ND[:, :dim], dim=1))


def taught(rows: Embedded, side: str = "all candidates") -> Tensor:
    """(N, E) a teacher's vectors of the rows. Raises `ConfigError` if there are none."""
    if rows.teacher_NE is None:
        raise ConfigError(f"the loss needs a teacher's vectors of {side}: give teacher=, a tensor (N, E) per side")
    return rows.teacher_NE


class Loss(Described, nn.Module, ABC):
    """A task's loss: a scalar of about 1 for an untrained encoder.

    Losses that compare an anchor with the whole batch are divided by the log of the number of candidates, so they
    hardly grow with it. `PairBCE` of positives is an exception: SigLIP's sum over the batch grows with the batch.

    Training calls `loss(view)`. In a notebook or in your own training loop, call it with tensors:
    `loss(anchors, positives, keys=..., negatives=..., scores=..., teacher=..., log_q=...)`, described in `view_of`.
    The loss then covers one process only, and you call `keep_in_bounds()` after each optimizer step.

    To write your own loss, derive from this class and override `forward`, which gets a `View` in both cases.

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
    """The kinds of pairs that the loss supports."""
    teacher: str | None = None
    """`base`, or the folder or Hub name of the encoder whose vectors the loss needs; None if it needs none."""

    needs_contrast: bool = True
    """Whether the loss learns only from pairs that differ: positive pairs need negatives, judged pairs different
    scores. A task without any is refused before the first step."""

    uses_negatives: bool = True
    """Whether the loss uses hard negatives. A run warns if a step encodes some for a loss that uses none."""

    matches_teacher: bool = False
    """Whether embeddings must have as many dimensions as the teacher's vectors."""

    bounds: ClassVar[dict[str, tuple[float, float]]] = {}
    """The lowest and highest value of each bounded parameter, by name."""

    @property
    def temperature(self) -> Tensor:
        """The task's temperature (scalar), for logging; NaN if the loss has none."""
        return torch.tensor(torch.nan)

    def check(self, *, dim: int) -> None:
        """Raise `ConfigError` if the loss does not support embeddings of `dim` dimensions."""

    @torch.no_grad()
    def keep_in_bounds(self) -> None:
        """Clamp the learned parameters of this loss and of the losses inside it to `bounds`.

        Call it after each optimizer step, so that no value out of bounds is ever used or saved. Mtcl's own training
        does so.
        """
        for loss in self.modules():
            for name, (low, high) in loss.bounds.items() if isinstance(loss, Loss) else ():
                cast("Tensor", getattr(loss, name)).clamp_(low, high)

    @abstractmethod
    def forward(self, view: View) -> Tensor:
        """The mean loss over the local rows."""

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
        num_negatives: Tensor | None = None,
    ) -> Tensor:
        """The loss of a `View`, or of tensors, which `view_of` turns into one.

        Raises `ConfigError` if the tensors do not fit each other or the loss.
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
            num_negatives=num_negatives,
        )
        self._check_fits(view)
        return cast("Tensor", super().__call__(view))

    def _check_fits(self, view: View) -> None:
        """The checks of a run before its first step, for tensors: raise `ConfigError` if one is missing or unused."""
        name, anchors = type(self).__name__, view.anchors.local
        if view.scores_C is None and self.kinds <= JUDGED:
            raise ConfigError(f"{name} is for judged pairs: give scores=, from 0 to 1, one per pair")
        if view.scores_C is not None and not self.kinds & JUDGED:
            raise ConfigError(f"{name} is not for judged pairs: give no scores, or use CoSENT or PairBCE")
        if self.teacher is not None:
            taught(anchors, "anchors")
        elif anchors.teacher_NE is not None:
            raise ConfigError(f"{name} uses no teacher: leave out teacher=, or use a loss with one, such as TeacherMSE")
        dim = anchors.vectors_ND.shape[1]
        if self.matches_teacher and anchors.teacher_NE is not None and anchors.teacher_NE.shape[1] != dim:
            raise ConfigError(
                f"{name}: the teacher has {anchors.teacher_NE.shape[1]} dimensions, the embeddings {dim}: give the same"
            )
        self.check(dim=dim)
