"""The input of a loss: one task's sub-batch as embeddings, with each row's keys and other data that a loss may need.

Training builds a `View` from a step (`mtcl.losses.gather`), a notebook from plain tensors (`view_of`). Letters: N local
rows, C rows of all ranks, D dimensions, K keys, E dimensions of a teacher, H hard negatives per row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class Embedded:
    """Embeddings of texts, with the other data of each text.

    Attributes:
        vectors_ND: Unit vectors.
        keys_NK: int64, padded with 0. Two texts that share a key are never negatives of each other. A row whose first
            key is `mtcl.data.batch.EMPTY_PLACE` is no candidate, whatever its vector is.
        log_q_N: The log of how often each text is drawn in its role; None if unknown.
        teacher_NE: A teacher's unit vectors of the same texts, for losses that need them.

    Example:
        >>> import torch
        >>> from mtcl.losses import Embedded
        >>> rows = Embedded(torch.eye(3), keys_NK=torch.tensor([[1], [2], [2]]))
        >>> len(rows), len(rows[1:])
        (3, 2)
    """

    vectors_ND: Tensor
    keys_NK: Tensor
    log_q_N: Tensor | None = None
    teacher_NE: Tensor | None = None

    def __len__(self) -> int:
        return len(self.vectors_ND)

    def __getitem__(self, rows: slice) -> Embedded:
        log_q = None if self.log_q_N is None else self.log_q_N[rows]
        teacher = None if self.teacher_NE is None else self.teacher_NE[rows]
        return Embedded(self.vectors_ND[rows], self.keys_NK[rows], log_q, teacher)

    def map_vectors(self, apply: Callable[[Tensor], Tensor]) -> Embedded:
        return replace(self, vectors_ND=apply(self.vectors_ND))


@dataclass(frozen=True)
class Side:
    """One column of a sub-batch: this rank's rows, and the rows of all ranks.

    Example:
        >>> import torch
        >>> from mtcl.losses import Embedded, Side
        >>> rows = Embedded(torch.eye(3), keys_NK=torch.tensor([[1], [2], [3]]))
        >>> side = Side(local=rows, all=rows)  # a single process
        >>> side.local is side.all
        True
    """

    local: Embedded
    all: Embedded


@dataclass(frozen=True)
class View:
    """One task's sub-batch. Local row n is row `own_N[n]` of all ranks' rows, for anchors and for positives.

    Attributes:
        anchors: N local rows, C rows of all ranks.
        positives: The same numbers of rows; row n belongs to anchor n.
        own_N: The index of each local row among the rows of all ranks.
        negatives: Hard negatives, N * H local rows: the H negatives of the first pair, then those of the second, and so
            on. If a pair has fewer than H, its other places are empty and count nowhere.
        scores_C: Scores from 0 to 1 of judged pairs, for the rows of all ranks.

    Example:
        >>> import torch
        >>> from mtcl.losses import view_of
        >>> view = view_of(torch.eye(3), torch.eye(3), negatives=torch.eye(3))
        >>> len(view.positives.all), len(view.negatives.all), view.own_N
        (3, 3, tensor([0, 1, 2]))
    """

    anchors: Side
    positives: Side
    own_N: Tensor
    negatives: Side | None = None
    scores_C: Tensor | None = None

    @property
    def candidates(self) -> list[Embedded]:
        """What anchors are compared with: the positives of all ranks, and the hard negatives if there are any."""
        return [self.positives.all, *([] if self.negatives is None else [self.negatives.all])]

    def map_vectors(self, apply: Callable[[Tensor], Tensor]) -> View:
        """The same view with other vectors: `apply` is called on each (rows, D) tensor."""

        def side(old: Side) -> Side:
            local = old.local.map_vectors(apply)
            return Side(local, local if old.all is old.local else old.all.map_vectors(apply))

        negatives = None if self.negatives is None else side(self.negatives)
        return replace(self, anchors=side(self.anchors), positives=side(self.positives), negatives=negatives)
