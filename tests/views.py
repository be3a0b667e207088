"""Views of random unit vectors for tests of losses."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mtcl.losses import Embedded, Side, View


def rows_of(vectors: Tensor, keys: Tensor, teacher: Tensor | None = None) -> Embedded:
    """Embedded drawn alike often."""
    return Embedded(vectors, keys, vectors.new_zeros(len(vectors)), teacher)


def side_of(vectors: Tensor, keys: Tensor, teacher: Tensor | None = None) -> Side:
    """The only rank's rows."""
    rows = rows_of(vectors, keys, teacher)
    return Side(rows, rows)


def unit(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random unit vectors."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1).to(dtype)


def random_view(
    pairs: int = 6,
    dim: int = 8,
    *,
    hard: int = 0,
    scores: Tensor | None = None,
    keys: Tensor | None = None,
    dtype: torch.dtype = torch.float64,
    same: bool = False,
) -> View:
    """Random vectors and teachers' vectors; row n's texts have the key n + 1, hard negatives have keys of their own."""
    keys = torch.arange(1, pairs + 1)[:, None] if keys is None else keys
    make = [unit(pairs, dim, seed=1 if same else n, dtype=dtype).requires_grad_() for n in (1, 2)]
    sides = [side_of(v, keys, unit(pairs, dim, seed=n + 10, dtype=dtype)) for n, v in enumerate(make)]
    negatives = None
    if hard:
        vectors = unit(pairs * hard, dim, seed=3, dtype=dtype).requires_grad_()
        own = torch.arange(1000, 1000 + pairs * hard)[:, None]
        negatives = side_of(vectors, own, unit(pairs * hard, dim, seed=13, dtype=dtype))
    return View(sides[0], sides[1], torch.arange(pairs), negatives, scores)
