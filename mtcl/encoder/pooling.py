"""Poolings: from the hidden states of a text's tokens to one vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mtcl.encoder.config import Pooling


def pool_states(hidden_nLH: Tensor, mask_nL: Tensor, poolings: Sequence[Pooling]) -> Tensor:
    """(n, H), or (n, k H) for k poolings, whose results are concatenated. `mask_nL` is 1 for tokens, 0 after them."""
    found = [POOLINGS[one](hidden_nLH, mask_nL) for one in poolings]
    return found[0] if len(found) == 1 else torch.cat(found, dim=-1)


def _mean(hidden_nLH: Tensor, mask_nL: Tensor) -> Tensor:
    mask_nL1 = mask_nL.unsqueeze(-1).to(hidden_nLH.dtype)
    return (hidden_nLH * mask_nL1).sum(dim=1) / mask_nL1.sum(dim=1).clamp(min=1)


def _sqrt_mean(hidden_nLH: Tensor, mask_nL: Tensor) -> Tensor:
    """The sum of the states divided by the square root of their number."""
    mask_nL1 = mask_nL.unsqueeze(-1).to(hidden_nLH.dtype)
    return (hidden_nLH * mask_nL1).sum(dim=1) / mask_nL1.sum(dim=1).clamp(min=1).sqrt()


def _weighted_mean(hidden_nLH: Tensor, mask_nL: Tensor) -> Tensor:
    """The mean with weights 1, 2, 3, ... (SGPT, arXiv 2202.08904)."""
    weights_nL1 = (mask_nL.cumsum(dim=1) * mask_nL).unsqueeze(-1).float()
    found_nH: Tensor = (hidden_nLH * weights_nL1).sum(dim=1) / weights_nL1.sum(dim=1).clamp(min=1)
    return found_nH.to(hidden_nLH.dtype)


def _max(hidden_nLH: Tensor, mask_nL: Tensor) -> Tensor:
    return hidden_nLH.masked_fill(mask_nL.unsqueeze(-1) == 0, float("-inf")).amax(dim=1)


def _cls(hidden_nLH: Tensor, mask_nL: Tensor) -> Tensor:  # noqa: ARG001  (all poolings have one signature)
    return hidden_nLH[:, 0]


def _last(hidden_nLH: Tensor, mask_nL: Tensor) -> Tensor:
    last_n = mask_nL.sum(dim=1) - 1
    return hidden_nLH[torch.arange(len(last_n), device=last_n.device), last_n]


POOLINGS: dict[Pooling, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": _mean,
    "cls": _cls,
    "last": _last,
    "max": _max,
    "weighted_mean": _weighted_mean,
    "sqrt_mean": _sqrt_mean,
}
