"""Attention within each text of a row of tokens, in two ways: among padded texts, or by torch's flash attention for
texts of varying length, which needs a GPU and half precision.

Letters: n texts of a chunk, L tokens of the longest text, S tokens of the chunk without padding, F the same filled up,
h heads, g heads of keys and values, d dimensions per head.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

log = logging.getLogger("mtcl")
MULTIPLE = 16
"""Rows of tokens are filled up to a multiple of it, which suits matrix products and the images of `kernels.linear`."""
LARGEST_HEAD = 256


def padded(
    query_Fhd: Tensor,
    key_Fhd: Tensor,
    value_Fhd: Tensor,
    *,
    places_S: Tensor,
    bias_nLL: Tensor,
    scaling: float,
    dropout: float,
) -> Tensor:
    """(F, h, d), zero after the tokens: queries, keys and values are spread out to padded texts only for the scores.

    `bias_nLL` is added to each text's scores; (n, 1, L) is the same for all of its queries. torch's fused attention is
    faster forwards, but on a CPU slower forwards and backwards than plain products (docs/log.md).
    """
    rows, shape = (query_Fhd, key_Fhd, value_Fhd), (bias_nLL.shape[0], bias_nLL.shape[2])
    query, key, value = (_apply(Spread, row_Fhd, places_S, shape) for row_Fhd in rows)
    if query.is_cuda or not torch.is_grad_enabled():
        fused_nhLd = F.scaled_dot_product_attention(
            query, key, value, attn_mask=bias_nLL[:, None], dropout_p=dropout, scale=scaling
        )
        return _apply(Gather, fused_nhLd, places_S, len(query_Fhd))
    scores_nhLL = torch.matmul(query * scaling, key.transpose(2, 3))
    shares_nhLL = F.softmax(scores_nhLL + bias_nLL[:, None], dim=-1)
    attended_nhLd = torch.matmul(F.dropout(shares_nhLL, p=dropout, training=dropout > 0), value)
    return _apply(Gather, attended_nhLd, places_S, len(query_Fhd))


def bias_of(mask_nL: Tensor, dtype: torch.dtype, *, causal: bool, window: int | None) -> Tensor:
    """(n, 1, L), or (n, L, L) if `causal`: 0 where a query sees a key, very low elsewhere.

    A causal query sees itself and the keys before it, at most `window` in all.
    """
    unseen_nLL = (mask_nL == 0)[:, None]
    if causal:
        at_L = torch.arange(mask_nL.shape[1], device=mask_nL.device)
        distance_LL = at_L[:, None] - at_L
        unseen_LL = distance_LL < 0 if window is None else (distance_LL < 0) | (distance_LL >= window)
        unseen_nLL = unseen_nLL | unseen_LL
    return torch.zeros(unseen_nLL.shape, dtype=dtype, device=mask_nL.device).masked_fill_(
        unseen_nLL, torch.finfo(dtype).min / 2
    )


@cache
def has_varlen() -> bool:
    """Whether torch's flash attention for varying lengths runs on this GPU: tries it on two texts, with a gradient."""
    if not torch.cuda.is_available():
        return False
    try:
        with torch.inference_mode(mode=False), torch.enable_grad():
            mask_nL = torch.tensor([[1, 1, 1], [1, 0, 0]], device="cuda")
            rows = [torch.ones(16, 1, 8, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
            varlen(*rows, ends_m=ends_of(mask_nL, 16), longest=3, scaling=1.0, dropout=0.0).sum().backward()  # type: ignore[no-untyped-call]
    except (RuntimeError, AttributeError, TypeError) as error:  # an old GPU, or a torch in which it differs
        log.debug("torch's flash attention for varying lengths cannot be used: %s", error)
        return False
    return True


def fits_varlen(head_size: int) -> bool:
    """Whether `varlen` takes heads of this many dimensions."""
    return head_size % 8 == 0 and head_size <= LARGEST_HEAD


def ends_of(mask_nL: Tensor, num_filled: int) -> Tensor:
    """(n + 2,) int32: where each text's tokens end in the row, after a 0; the filling is one more text."""
    ends_n1 = F.pad(mask_nL.sum(dim=1).cumsum(0), (0, 1), value=num_filled)
    return F.pad(ends_n1, (1, 0)).int()  # no assignment: the host would wait for it


def varlen(
    query_Fhd: Tensor,
    key_Fgd: Tensor,
    value_Fgd: Tensor,
    *,
    ends_m: Tensor,
    longest: int,
    scaling: float,
    dropout: float,
    causal: bool = False,
    window: int | None = None,
) -> Tensor:
    """(F, h, d) by flash attention for texts of varying length, in half precision, without reading back from the GPU.

    torch.nn.attention.varlen calls the same operation, but without dropout. `g` key heads divide h.
    """
    most = max(longest, MULTIPLE)
    found: Tensor = torch.ops.aten._flash_attention_forward(
        *(query_Fhd, key_Fgd, value_Fgd, ends_m, ends_m, most, most, dropout, causal, False),
        scale=scaling,
        window_size_left=None if window is None else window - 1,
        window_size_right=None if window is None else 0,
    )[0]
    return found


class Spread(torch.autograd.Function):
    """Moves the tokens of a row (F, h, d) to their places among padding: (n, h, L, d). Its gradient is `Gather`."""

    @staticmethod
    def forward(ctx: Any, row_Fhd: Tensor, places_S: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(places_S)
        ctx.num_filled = len(row_Fhd)
        return _spread(row_Fhd, places_S, shape)

    @staticmethod
    def backward(ctx: Any, gradient_nhLd: Tensor) -> tuple[Tensor, None, None]:
        (places_S,) = ctx.saved_tensors
        return _gather(gradient_nhLd, places_S, ctx.num_filled), None, None


class Gather(torch.autograd.Function):
    """The reverse: takes what is not padding from (n, h, L, d) into a row (F, h, d), zero after the tokens."""

    @staticmethod
    def forward(ctx: Any, padded_nhLd: Tensor, places_S: Tensor, num_filled: int) -> Tensor:
        ctx.save_for_backward(places_S)
        ctx.shape = (padded_nhLd.shape[0], padded_nhLd.shape[2])
        return _gather(padded_nhLd, places_S, num_filled)

    @staticmethod
    def backward(ctx: Any, gradient_Fhd: Tensor) -> tuple[Tensor, None, None]:
        (places_S,) = ctx.saved_tensors
        return _spread(gradient_Fhd, places_S, ctx.shape), None, None


def _apply(function: Any, *arguments: Any) -> Tensor:
    found: Tensor = function.apply(*arguments)
    return found


def _spread(row_Fhd: Tensor, places_S: Tensor, shape: tuple[int, ...]) -> Tensor:
    (num_texts, longest), tokens_Shd = shape, row_Fhd[: len(places_S)]
    if len(places_S) == num_texts * longest:  # no padding
        return tokens_Shd.view(num_texts, longest, *row_Fhd.shape[1:]).transpose(1, 2)
    padded_Rhd = row_Fhd.new_zeros(num_texts * longest, *row_Fhd.shape[1:]).index_copy_(0, places_S, tokens_Shd)
    return padded_Rhd.view(num_texts, longest, *row_Fhd.shape[1:]).transpose(1, 2)


def _gather(padded_nhLd: Tensor, places_S: Tensor, num_filled: int) -> Tensor:
    rows_Rhd, num_tokens = padded_nhLd.transpose(1, 2).flatten(0, 1), len(places_S)
    if len(rows_Rhd) == num_tokens == num_filled:  # neither padding nor filling
        return rows_Rhd
    row_Fhd = rows_Rhd.new_empty(num_filled, *rows_Rhd.shape[1:])
    torch.index_select(rows_Rhd, 0, places_S, out=row_Fhd[:num_tokens])
    row_Fhd[num_tokens:].zero_()
    return row_Fhd
