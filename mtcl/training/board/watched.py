"""What the board keeps of a task: its sampled points, and what it showed before the first step and shows now."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from mtcl.arrays import IntArray
from mtcl.evaluation.pool import Items, Pool, Result
from mtcl.training.board.judging import Judging
from mtcl.training.board.neighbours import Neighbours
from mtcl.training.board.points import Point, described
from mtcl.training.board.spread import Spread


@dataclass(frozen=True)
class Watched:
    """A task's validation pool, and the text indices (T,) of its sampled points."""

    pool: Pool
    points: IntArray

    @cached_property
    def judging(self) -> Judging:
        return Judging(self.pool)

    @cached_property
    def described(self) -> list[Point]:
        return described(self.pool, self.points)


@dataclass(frozen=True)
class Before:
    """A task before the first step: item scores, neighbours, and the vectors (T, D) of its points, if known."""

    items: Items
    neighbours: Neighbours
    vectors_TD: Tensor | None = None


@dataclass(frozen=True)
class Now:
    """A task in the last validation."""

    result: Result
    neighbours: Neighbours
    spread: Spread
    vectors_TD: Tensor
