"""Attention without padding: a chunk's texts are one row of tokens, and attention stays within each text.

Linear layers, norms and activations, which are nearly all of the work, then have no padding except that which fills the
row up to a multiple of 16. On a CPU only attention's scores are still padded, among texts of about the same length. On
a GPU with `flash_attn` installed, flash attention's kernels for varying lengths take the row directly. transformers
knows the function as the attention implementation "unpadded". `first_position` tries out whether an architecture
supports it (it accepts position ids, and its attention has no bias of its own and, in an encoder, no window).

Letters: n texts of a chunk, L tokens of the longest text, S tokens of the chunk without padding, F the same filled up,
h heads, d dimensions per head, H dimensions of a token.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtcl.data.packing import Chunk
from mtcl.encoder.quiet import only_errors

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger("mtcl")
NAME = "unpadded"
MULTIPLE = 16
"""Rows of tokens are filled up to a multiple of it, which suits matrix products and the images of `kernels.linear`."""
BEYOND = ("softcap", "position_bias", "head_mask", "s_aux")
"""Options of attention that some architectures use and that are not supported here."""


@cache
def register() -> None:
    """Register the name with transformers. It gets no mask, because `places` already says where the tokens are."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, lambda **_: None)


def first_position(backbone: PreTrainedModel) -> int | None:
    """The position id of a text's first token that gives the same vectors as with padding; None if none does.

    Leaves the backbone with this attention if it works, and with eager attention if it does not.
    """
    register()
    was_training = backbone.training
    try:
        with only_errors():  # an architecture that cannot change its attention warns
            start = _agreeing_position(backbone)
    except (TypeError, ValueError, RuntimeError, AttributeError, LookupError) as error:
        # an architecture that is not supported may fail in any way
        log.debug("%s cannot be run without padding: %s", type(backbone).__name__, error)
        start = None
    finally:
        backbone.train(was_training)
    if start is None:
        _use_eager(backbone)
    return start


def _agreeing_position(backbone: PreTrainedModel) -> int | None:
    """Run two short texts with padding and without; leaves the backbone in evaluation mode with this attention."""
    vocabulary, padding = int(backbone.config.vocab_size), backbone.config.pad_token_id or 0
    ids_nL = torch.tensor([i for i in range(vocabulary // 2, vocabulary) if i != padding])[:8].view(2, -1)
    mask_nL = torch.ones_like(ids_nL)
    mask_nL[1, -2:] = 0
    chunk = Chunk(ids_nL.masked_fill(mask_nL == 0, padding), mask_nL, mask_nL.flatten().nonzero()[:, 0])
    backbone.train(False)
    padded_nLH = backbone(input_ids=chunk.ids, attention_mask=chunk.mask).last_hidden_state
    backbone.set_attn_implementation(NAME)
    for start in (0, padding + 1):  # RoBERTa and its relatives start after the padding's id
        found_nLH = hidden_states(backbone, chunk, {"input_ids": chunk.row}, first_position=start)
        if torch.allclose(found_nLH[mask_nL == 1], padded_nLH[mask_nL == 1], rtol=1e-3, atol=1e-4):
            return start
    log.debug("%s gives other vectors without padding: keeping the padding", type(backbone).__name__)
    return None


def _use_eager(backbone: PreTrainedModel) -> None:
    """Leave the attention as it is if the architecture cannot change it."""
    if backbone.config._attn_implementation != "eager":
        backbone.set_attn_implementation("eager")


def hidden_states(backbone: nn.Module, chunk: Chunk, given: dict[str, Tensor], *, first_position: int) -> Tensor:
    """(n, L, H) hidden states of the last layer, zero at padding. `given` has ids (1, S) or word vectors (1, S, E)."""
    num_texts, longest = chunk.ids.shape
    num_more = -len(chunk.places_S) % MULTIPLE
    filled = {name: F.pad(row, (0, 0) * (row.dim() - 2) + (0, num_more)) for name, row in given.items()}
    positions_1F = F.pad(chunk.places_S % longest + first_position, (0, num_more))[None]
    found = backbone(**filled, position_ids=positions_1F, places=chunk.places_S, mask=chunk.mask)
    hidden_FH: Tensor = found.last_hidden_state[0]
    padded_RH = hidden_FH.new_zeros(num_texts * longest, hidden_FH.shape[-1])
    padded_RH = padded_RH.index_copy(0, chunk.places_S, hidden_FH[: len(chunk.places_S)])
    return padded_RH.view(num_texts, longest, -1)


def attention(
    module: nn.Module,
    query_1hFd: Tensor,
    key_1hFd: Tensor,
    value_1hFd: Tensor,
    attention_mask: None,  # noqa: ARG001  (transformers passes it)
    *,
    places: Tensor,
    mask: Tensor,
    scaling: float | None = None,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[Tensor, None]:
    """(1, F, h, d), zero after the tokens; called by transformers. `places` (S,) and `mask` (n, L) are the chunk's."""
    if asked := [name for name in BEYOND if others.get(name) is not None]:
        raise NotImplementedError(f"attention without padding does not support {', '.join(asked)}")
    causal, window = bool(getattr(module, "is_causal", False)), others.get("sliding_window")
    if window is not None and not causal:
        raise NotImplementedError("attention without padding supports windows in decoders only")
    scaling = query_1hFd.shape[-1] ** -0.5 if scaling is None else scaling
    rows = [x_1hFd[0].transpose(0, 1)[: len(places)] for x_1hFd in (query_1hFd, key_1hFd, value_1hFd)]
    if query_1hFd.is_cuda and query_1hFd.dtype in (torch.float16, torch.bfloat16) and has_flash():
        found_Shd = flash(*rows, mask=mask, scaling=scaling, dropout=dropout, causal=causal, window=window)
    else:
        groups = query_1hFd.shape[1] // key_1hFd.shape[1]  # of query heads for one key head
        rows[1:] = [row.repeat_interleave(groups, dim=1) for row in rows[1:]] if groups > 1 else rows[1:]
        bias_nLL = bias_of(mask, query_1hFd.dtype, causal=causal, window=window)
        found_Shd = padded(*rows, places_S=places, bias_nLL=bias_nLL, scaling=scaling, dropout=dropout)
    return F.pad(found_Shd, (0, 0, 0, 0, 0, query_1hFd.shape[2] - len(places)))[None], None


def padded(
    query_Shd: Tensor,
    key_Shd: Tensor,
    value_Shd: Tensor,
    *,
    places_S: Tensor,
    bias_nLL: Tensor,
    scaling: float,
    dropout: float,
) -> Tensor:
    """(S, h, d): queries, keys and values are spread out to padded texts only for the scores.

    `bias_nLL` is added to each text's scores; (n, 1, L) is the same for all of its queries. torch's fused attention is
    faster forwards, but on a CPU slower forwards and backwards than plain products (docs/log.md).
    """
    rows, shape = (query_Shd, key_Shd, value_Shd), (bias_nLL.shape[0], bias_nLL.shape[2])
    query, key, value = (_apply(Spread, row_Shd, places_S, shape) for row_Shd in rows)
    if query.is_cuda or not torch.is_grad_enabled():
        fused_nhLd = F.scaled_dot_product_attention(
            query, key, value, attn_mask=bias_nLL[:, None], dropout_p=dropout, scale=scaling
        )
        return _apply(Gather, fused_nhLd, places_S)
    scores_nhLL = torch.matmul(query * scaling, key.transpose(2, 3))
    shares_nhLL = F.softmax(scores_nhLL + bias_nLL[:, None], dim=-1)
    attended_nhLd = torch.matmul(F.dropout(shares_nhLL, p=dropout, training=dropout > 0), value)
    return _apply(Gather, attended_nhLd, places_S)


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
def has_flash() -> bool:
    """Whether `flash_attn` is installed."""
    from importlib.util import find_spec

    return find_spec("flash_attn") is not None


def flash(
    query_Shd: Tensor,
    key_Shd: Tensor,
    value_Shd: Tensor,
    *,
    mask: Tensor,
    scaling: float,
    dropout: float,
    causal: bool = False,
    window: int | None = None,
) -> Any:
    """(S, h, d) from flash attention's kernel for texts of varying length, without reading back from the GPU."""
    from flash_attn import flash_attn_varlen_func

    ends_n1 = F.pad(mask.sum(dim=1).cumsum(0), (1, 0)).int()
    longest = mask.shape[1]
    return flash_attn_varlen_func(
        *(query_Shd, key_Shd, value_Shd, ends_n1, ends_n1, longest, longest),
        dropout_p=dropout,
        softmax_scale=scaling,
        causal=causal,
        window_size=(-1, -1) if window is None else (window - 1, window - 1),
    )


class Spread(torch.autograd.Function):
    """Moves rows (S, h, d) to their places among padding: (n, h, L, d). Its gradient is `Gather`, a plain look-up."""

    @staticmethod
    def forward(ctx: Any, rows_Shd: Tensor, places_S: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(places_S)
        return _spread(rows_Shd, places_S, shape)

    @staticmethod
    def backward(ctx: Any, gradient_nhLd: Tensor) -> tuple[Tensor, None, None]:
        return _gather(gradient_nhLd, *ctx.saved_tensors), None, None


class Gather(torch.autograd.Function):
    """The reverse: takes the rows (S, h, d) that are not padding from (n, h, L, d)."""

    @staticmethod
    def forward(ctx: Any, padded_nhLd: Tensor, places_S: Tensor) -> Tensor:
        ctx.save_for_backward(places_S)
        ctx.shape = (padded_nhLd.shape[0], padded_nhLd.shape[2])
        return _gather(padded_nhLd, places_S)

    @staticmethod
    def backward(ctx: Any, gradient_Shd: Tensor) -> tuple[Tensor, None]:
        (places_S,) = ctx.saved_tensors
        return _spread(gradient_Shd, places_S, ctx.shape), None


def _apply(function: Any, *arguments: Any) -> Tensor:
    found: Tensor = function.apply(*arguments)
    return found


def _spread(rows_Shd: Tensor, places_S: Tensor, shape: tuple[int, ...]) -> Tensor:
    num_texts, longest = shape
    if len(rows_Shd) == num_texts * longest:  # no padding
        return rows_Shd.view(num_texts, longest, *rows_Shd.shape[1:]).transpose(1, 2)
    padded_Rhd = rows_Shd.new_zeros(num_texts * longest, *rows_Shd.shape[1:]).index_copy_(0, places_S, rows_Shd)
    return padded_Rhd.view(num_texts, longest, *rows_Shd.shape[1:]).transpose(1, 2)


def _gather(padded_nhLd: Tensor, places_S: Tensor) -> Tensor:
    rows_Rhd = padded_nhLd.transpose(1, 2).flatten(0, 1)
    return rows_Rhd if len(rows_Rhd) == len(places_S) else rows_Rhd.index_select(0, places_S)
