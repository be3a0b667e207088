"""Attention without padding: a chunk's texts are one row of tokens, and attention stays within each text.

Linear layers, norms and activations, which are nearly all of the work, then have no padding except that which fills the
row up to a multiple of 16. On a CPU and in float32 only attention's scores are still padded, among texts of about the
same length. On a GPU in half precision, torch's flash attention for varying lengths takes the row directly.
transformers knows the function as the attention implementation "unpadded". `first_position` tries out whether an
architecture supports it (it accepts position ids, and its attention has no bias of its own and, in an encoder, no
window).

Letters: n texts of a chunk, L tokens of the longest text, S tokens of the chunk without padding, F the same filled up,
h heads, d dimensions per head, H dimensions of a token.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtcl.data.packing import Chunk
from mtcl.encoder.quiet import only_errors
from mtcl.encoder.row_attention import MULTIPLE, bias_of, ends_of, fits_varlen, has_varlen, padded, varlen

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger("mtcl")
NAME = "unpadded"
HALVES = (torch.float16, torch.bfloat16)
BEYOND = ("softcap", "position_bias", "head_mask", "s_aux")
"""Options of attention that some architectures use and that are not supported here."""


class Row(NamedTuple):
    """Where a chunk's texts are in its row. `ends_m` (see `ends_of`) and `half` are None if `varlen` is not used."""

    places_S: Tensor
    mask_nL: Tensor
    ends_m: Tensor | None
    half: torch.dtype | None


@cache
def register() -> None:
    """Register the name with transformers. It gets no mask, because `Row` already says where the tokens are."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, lambda **_: None)


def first_position(backbone: PreTrainedModel) -> int | None:
    """The position id of a text's first token that gives the same vectors as with padding; None if none does.

    Leaves the backbone with this attention if it works, and with its present one if it does not.
    """
    register()
    was_training, present = backbone.training, backbone.config._attn_implementation
    try:
        with only_errors():  # an architecture that cannot change its attention warns
            start = _agreeing_position(backbone)
    except (TypeError, ValueError, RuntimeError, AttributeError, LookupError) as error:
        # an architecture that is not supported may fail in any way
        log.debug("%s cannot be run without padding: %s", type(backbone).__name__, error)
        start = None
    finally:
        backbone.train(was_training)
    if start is None and backbone.config._attn_implementation != present:
        backbone.set_attn_implementation(present)
    return start


def _agreeing_position(backbone: PreTrainedModel) -> int | None:
    """Run two short texts with padding and without; leaves the backbone in evaluation mode with this attention."""
    vocabulary, padding = int(backbone.config.vocab_size), backbone.config.pad_token_id or 0
    ids_nL = torch.tensor([i for i in range(vocabulary // 2, vocabulary) if i != padding])[:8].view(2, -1)
    ids_nL[0, 1] = padding  # a text may have the padding token in it
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


def hidden_states(backbone: nn.Module, chunk: Chunk, given: dict[str, Tensor], *, first_position: int) -> Tensor:
    """(n, L, H) hidden states of the last layer, zero at padding. `given` has ids (1, S) or word vectors (1, S, E)."""
    num_texts, longest = chunk.ids.shape
    num_more = -len(chunk.places_S) % MULTIPLE
    filled = {name: F.pad(row, (0, 0) * (row.dim() - 2) + (0, num_more)) for name, row in given.items()}
    positions_1F = F.pad(_positions(chunk, first_position), (0, num_more))[None]
    half = half_type(backbone)
    ends = None if half is None else ends_of(chunk.mask, positions_1F.shape[1])
    places_S, mask_nL = chunk.places_S, chunk.mask
    if not (mask_nL.is_cuda or torch.is_grad_enabled()):
        # torch's fused attention on a CPU handles what is beyond a multiple of 16 one by one
        wider = -longest % MULTIPLE
        places_S, mask_nL = places_S + places_S // longest * wider, F.pad(mask_nL, (0, wider))
    row = Row(places_S, mask_nL, ends, half)
    found = backbone(**filled, position_ids=positions_1F, row=row)
    hidden_FH: Tensor = found.last_hidden_state[0]
    padded_RH = hidden_FH.new_zeros(num_texts * longest, hidden_FH.shape[-1])
    padded_RH = padded_RH.index_copy(0, chunk.places_S, hidden_FH[: len(chunk.places_S)])
    return padded_RH.view(num_texts, longest, -1)


def _positions(chunk: Chunk, first_position: int) -> Tensor:
    """(S,) position ids. RoBERTa and its relatives do not count a padding token in a text (`<pad>`), which gets the
    padding's id as its position.
    """
    if first_position == 0:
        return chunk.places_S % chunk.ids.shape[1]
    padding = first_position - 1
    counts_nL = (chunk.ids != padding).long()
    found_nL = counts_nL.cumsum(dim=1) * counts_nL + padding
    return found_nL.flatten()[chunk.places_S]


def attention(
    module: nn.Module,
    query_1hFd: Tensor,
    key_1hFd: Tensor,
    value_1hFd: Tensor,
    attention_mask: None,  # noqa: ARG001  (transformers passes it)
    *,
    row: Row,
    scaling: float | None = None,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[Tensor, None]:
    """(1, F, h, d); called by transformers."""
    if asked := [name for name in BEYOND if others.get(name) is not None]:
        raise NotImplementedError(f"attention without padding does not support {', '.join(asked)}")
    causal, window = bool(getattr(module, "is_causal", False)), others.get("sliding_window")
    if window is not None and not causal:
        raise NotImplementedError("attention without padding supports windows in decoders only")
    scaling = query_1hFd.shape[-1] ** -0.5 if scaling is None else scaling
    # views: a select's gradient would be a copy
    rows = [x_1hFd.transpose(1, 2).flatten(0, 1) for x_1hFd in (query_1hFd, key_1hFd, value_1hFd)]
    if row.ends_m is not None:
        halves, longest = (x_Fhd.to(row.half) for x_Fhd in rows), row.mask_nL.shape[1]
        found_Fhd = varlen(
            *halves,
            ends_m=row.ends_m,
            longest=longest,
            scaling=scaling,
            dropout=dropout,
            causal=causal,
            window=window,
        )
        return found_Fhd[None], None
    groups = query_1hFd.shape[1] // key_1hFd.shape[1]  # of query heads for one key head
    rows[1:] = [x_Fhd.repeat_interleave(groups, dim=1) for x_Fhd in rows[1:]] if groups > 1 else rows[1:]
    bias_nLL = bias_of(row.mask_nL, query_1hFd.dtype, causal=causal, window=window)
    found_Fhd = padded(*rows, places_S=row.places_S, bias_nLL=bias_nLL, scaling=scaling, dropout=dropout)
    return found_Fhd[None], None


def half_type(backbone: nn.Module) -> torch.dtype | None:
    """The half precision in which `varlen` computes attention here; None if it does not."""
    weight, config = next(backbone.parameters()), cast("Any", backbone.config)
    if not weight.is_cuda or not has_varlen():
        return None
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else weight.dtype
    return dtype if dtype in HALVES and fits_varlen(head_size) else None
