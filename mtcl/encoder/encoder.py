"""The shared text encoder: a Hugging Face backbone, pooling, the model's own layers after it, an optional projection,
unit length.

All texts of a step go through one forward pass, whatever their task and role: `Encoder.forward` takes packed chunks and
returns one embedding per text, in the order of the texts. Parameters that no task uses (BERT's pooler) are never
created, because under DDP they silently stop the averaging of gradients.
"""

from __future__ import annotations

import inspect
import os
import shutil
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mtcl.arrays import Ragged
from mtcl.data.packing import Chunk, Packed, pack
from mtcl.encoder import unpadded
from mtcl.encoder.adapt import adapt
from mtcl.encoder.backbone import digest_of, hidden_size, load_backbone, num_positions
from mtcl.encoder.config import EncoderConfig, Pooling
from mtcl.encoder.declared import Declared
from mtcl.encoder.dense import Dense, Truncate, load_layers, size_after
from mtcl.encoder.finite import check_finite
from mtcl.encoder.kernels import kernels_for
from mtcl.encoder.layers import stack_of
from mtcl.encoder.malloc_trim import trim_heap
from mtcl.encoder.pca import start_as_pca
from mtcl.encoder.pooling import pool_states
from mtcl.encoder.reading import declared_of, token_types_of
from mtcl.encoder.row_attention import has_varlen
from mtcl.encoder.trial import check_runs, is_padding_read
from mtcl.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PADDING = 1 / 8
"""Cost of padding if only the pooling has any, as on a GPU in half precision (`row_attention.varlen`). It takes hardly
any time, by estimate; this is chosen to limit the pooling's memory.
"""
PADDING_READ = 1e6
"""Cost of padding if vectors depend on it: more than that of any chunk, so only texts of equal length are together."""
CHUNKS_PER_TRIM = 8
"""Trimming at every chunk costs more, because the next chunk requests the pages again (docs/log.md)."""


class Encoder(nn.Module):
    """Turns packed texts into unit vectors (T, D) in float32."""

    activation_checkpointing = False
    """Recompute each chunk in the backward pass, so that only one chunk's activations are kept. Gradients are equal."""

    is_compiled = False
    """Whether the backbone is compiled; then the compiler's kernels are used instead of `kernels.py`."""

    is_frozen = False
    """Whether nothing of the backbone trains. It is then always in evaluation mode, so a text has one vector."""

    base_digest: str | None = None
    """The backbone's digest before adapters were injected or its type was changed, if they were."""

    first_position: int | None = None
    """Position id of a text's first token if the backbone takes chunks without padding, otherwise None."""

    token_types: tuple[int, int] | None = None
    """The type of a text's tokens and of its last token, for a backbone to which leaving them out is not all zeros."""

    reads_padding = False
    """Whether a text's vector depends on the padding after it, as with FNet, MobileBERT, ConvBERT and CANINE."""

    declared = Declared(Path())
    """How the base model is meant to be used; pooling and layers are those in effect, not always the declared ones."""

    def __init__(
        self,
        backbone: nn.Module,
        *,
        pooling: Pooling | Sequence[Pooling] = "mean",
        dense: nn.Sequential | None = None,
        dim: int | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.poolings: tuple[Pooling, ...] = (pooling,) if isinstance(pooling, str) else tuple(pooling)
        self.dense = dense
        self.pooled_dim = hidden_size(backbone) * len(self.poolings)
        """Dimensions of the pooled hidden states."""
        self.own_dim = size_after(dense, self.pooled_dim)
        """Dimensions before the projection."""
        self.num_positions = num_positions(backbone)
        self._takes_words = "inputs_embeds" in inspect.signature(backbone.forward).parameters
        self.projection = nn.Linear(self.own_dim, dim) if dim is not None else None

    @classmethod
    def load(cls, config: EncoderConfig) -> Encoder:
        """Load the encoder with the weights of `config.name`; in training mode, unlike transformers."""
        declared = declared_of(config)
        backbone = load_backbone(declared, config)
        dense = load_layers(declared, name=config.name) if config.dense else None
        pooling = declared.pooling if config.pooling is None else config.pooling
        encoder = cls(backbone, pooling=pooling, dense=dense, dim=config.dim).train()
        encoder.declared, encoder.token_types = declared, token_types_of(backbone, declared, config)
        given = {name: w for name, w in encoder.named_parameters() if not name.startswith("projection.")}
        check_finite(given, f"model {config.name!r}", advice="give another folder, or download it again")
        _check_sizes(encoder, config)
        encoder.choose_attention(config.attention)
        encoder.reads_padding = encoder.first_position is None and is_padding_read(encoder)
        encoder.adapt(config)
        if config.compile:
            encoder.compile_backbone()
        return encoder

    def adapt(self, config: EncoderConfig) -> None:
        """Freeze parameters and inject adapters, as configured. Raises `ConfigError` if the backbone does not fit."""
        if config.adapter is not None or config.frozen_dtype != "float32":
            self.base_digest = digest_of(self.backbone)
        adapt(self.backbone, config)
        self.is_frozen = config.is_frozen
        self.train(self.training)
        if config.train == "none":
            self.requires_grad_(False)
        if config.frozen_dtype != "float32":
            check_runs(self.pooled, self.backbone, config.frozen_dtype)

    def without_projection(self) -> Encoder:
        """An encoder with the same backbone, layers and options, but no projection."""
        bare = copy(self)
        bare._modules = {**self._modules, "projection": None}
        return bare

    def train(self, mode: bool = True) -> Encoder:
        super().train(mode)
        if self.is_frozen:
            self.backbone.eval()
        return self

    def pooled_by(self) -> tuple[str, ...]:
        """What determines a text's pooled hidden state besides its tokens and the backbone's weights."""
        return type(self.backbone).__name__, self.pooling

    def base_weights(self) -> str:
        """The digest of the backbone's weights; right after loading, that of the base without adapters."""
        return self.base_digest or digest_of(self.backbone)

    def compile_backbone(self) -> None:
        """Compile in place; parameter names stay the same. Raises `ConfigError` if there is no compiler."""
        compiler = os.environ.get("CXX", "g++")
        if not torch.cuda.is_available() and shutil.which(compiler) is None:
            raise ConfigError(
                f"model.encoder.compile needs a C++ compiler, found no {compiler!r}: install one, or set CXX"
            )
        self.is_compiled = True
        self.backbone.compile(dynamic=True)

    def choose_attention(self, name: str) -> None:
        """Use no padding if `name` is unpadded or auto. Raises `ConfigError` if unpadded is asked for and not possible.

        On a GPU on which torch's flash attention does not run, auto keeps the padding.
        """
        if name == unpadded.NAME or (name == "auto" and (not torch.cuda.is_available() or has_varlen())):
            if self.token_types is None:
                self.first_position = unpadded.first_position(cast("PreTrainedModel", self.backbone))
            if name == unpadded.NAME and self.first_position is None:
                raise ConfigError(
                    f"model.encoder.attention is {name!r}, which {type(self.backbone).__name__} does not support "
                    "(its vectors differ from those with padding): give auto, sdpa or eager"
                )

    @property
    def cost_of_padding(self) -> float:
        """What a place of padding costs in a chunk, as a share of a token's cost: see `pack`."""
        if self.reads_padding:
            return PADDING_READ
        takes_rows = self.first_position is not None and unpadded.half_type(self.backbone) is not None
        return PADDING if takes_rows else 1.0

    @property
    def pooling(self) -> str:
        """The poolings in one word, as a part of names and facts."""
        return "+".join(self.poolings)

    @property
    def cut(self) -> tuple[str, ...]:
        """What the model's own layers cut the vectors to, in words; no weight shows it."""
        return tuple(f"{module.size} dimensions" for module in self.dense or () if isinstance(module, Truncate))

    @property
    def dim(self) -> int:
        """D, the dimensions of a vector."""
        return self.own_dim if self.projection is None else self.projection.out_features

    def last_shared(self) -> list[nn.Parameter]:
        """Trained parameters of the backbone's last layer that has any and of the projection, for gradient methods."""
        found = stack_of(self.backbone)
        layers = [self.backbone] if found is None else reversed(found[1])
        trained = ([p for p in layer.parameters() if p.requires_grad] for layer in layers)
        last = next((layer for layer in trained if layer), [])
        head = [] if self.projection is None else [p for p in self.projection.parameters() if p.requires_grad]
        return [*last, *head]

    def forward(self, texts: Packed) -> Tensor:
        """(T, D) unit vectors in the order of the texts."""
        return self.finish(self.pooled(texts))

    def finish(self, pooled_TH: Tensor) -> Tensor:
        """(T, D) unit vectors of pooled hidden states: the part of the encoder that `train: head` trains.

        The model's own layers, the projection, unit length.
        """
        found_TD = pooled_TH.float()
        if self.dense is not None:
            found_TD = self.dense(found_TD)
        if self.projection is not None:
            found_TD = self.projection(found_TD)
        return F.normalize(found_TD.float(), dim=-1)

    def pooled(self, texts: Packed) -> Tensor:
        """(T, H) pooled hidden states, the input of `finish`."""
        words = self._look_up(texts.chunks)
        pooled = [self._pool(n, *each) for n, each in enumerate(zip(texts.chunks, words, strict=True))]
        return torch.cat(pooled)[texts.place_T]

    def _look_up(self, chunks: tuple[Chunk, ...]) -> Sequence[Tensor | None]:
        """Each chunk's word embeddings from one look-up for all chunks; None if a chunk should look up its own.

        The gradient of the whole table, nearly all zeros, is then written once instead of once per chunk.
        """
        if not torch.is_grad_enabled() or self.activation_checkpointing or not self._takes_words:
            return [None] * len(chunks)
        table = cast("PreTrainedModel", self.backbone).get_input_embeddings()
        ids = [self._ids(chunk) for chunk in chunks]
        words_SE: Tensor = table(torch.cat([some.flatten() for some in ids]))
        parts = torch.split(words_SE, [some.numel() for some in ids])
        return [part.view(*some.shape, -1) for part, some in zip(parts, ids, strict=True)]

    def _ids(self, chunk: Chunk) -> Tensor:
        """The token ids for the backbone: (n, L), or (1, S) without padding."""
        return chunk.ids if self.first_position is None else chunk.row

    def _pool(self, number: int, chunk: Chunk, words: Tensor | None) -> Tensor:
        if self.activation_checkpointing and torch.is_grad_enabled():
            pooled_nH: Tensor = checkpoint(self._pool_trimmed, number, chunk, use_reentrant=False)
            return pooled_nH
        return self.pool(chunk, words)

    def _pool_trimmed(self, number: int, chunk: Chunk) -> Tensor:
        """`pool`, in the forward pass and again in the backward pass; free pages are returned now and then."""
        if chunk.ids.device.type == "cpu" and number % CHUNKS_PER_TRIM == 0:
            trim_heap()
        return self.pool(chunk)

    def pool(self, chunk: Chunk, words: Tensor | None = None) -> Tensor:
        """(n, H) pooled hidden states of a chunk (n, L), or (n, k H) for k poolings.

        `words` are the chunk's word embeddings if they have been looked up already.
        """
        given = {"input_ids": self._ids(chunk)} if words is None else {"inputs_embeds": words}
        with kernels_for(chunk.ids.device, is_training=self.training, is_compiled=self.is_compiled):
            hidden_nLH: Tensor
            if self.first_position is None:
                hidden_nLH = self.backbone(
                    **given, **self._token_types(chunk), attention_mask=chunk.mask
                ).last_hidden_state
            else:
                hidden_nLH = unpadded.hidden_states(self.backbone, chunk, given, first_position=self.first_position)
        return pool_states(hidden_nLH, chunk.mask, self.poolings)

    def _token_types(self, chunk: Chunk) -> dict[str, Tensor]:
        """Token types (n, L), if the backbone needs them."""
        if self.token_types is None:
            return {}
        of_all, of_last = self.token_types
        ends_n1 = chunk.mask.sum(dim=1, keepdim=True) - 1
        return {"token_type_ids": torch.full_like(chunk.ids, of_all).scatter(1, ends_n1, of_last)}

    def embed(
        self, tokens: Ragged, *, tokens_per_chunk: int, num_at_once: int = 4096, is_pooled: bool = False
    ) -> Tensor:
        """(T, D) float32 on the CPU, without dropout, in the order of `tokens`; the modules' modes are restored.

        There is no gradient to the encoder, but you can train your own layers on the result. With `is_pooled`, (T, H)
        pooled hidden states instead of vectors.
        """
        apply = self.pooled if is_pooled else self
        device, padding = next(self.parameters()).device, self.cost_of_padding
        in_training = [module for module in self.modules() if module.training]
        if in_training:  # setting the mode of every module takes 0.7 ms, a text 17
            self.eval()
        try:
            rows = np.arange(len(tokens))
            with torch.inference_mode():
                parts = [
                    apply(pack(tokens.take(some), tokens_per_chunk=tokens_per_chunk, padding=padding).to(device))
                    .float()
                    .cpu()
                    for some in np.array_split(rows, max(1, -(-len(rows) // num_at_once)))
                    if len(some)
                ]
        finally:
            for module in in_training:
                module.training = True
        empty = torch.empty(0, self.pooled_dim if is_pooled else self.dim)
        return torch.cat(parts) if parts else empty  # the copy is not an inference tensor

    def init_projection_pca(self, embeddings_TH: Tensor) -> None:
        """Start the projection as the PCA of `embeddings_TH` (float32): centred, components by decreasing variance."""
        assert self.projection is not None
        start_as_pca(self.projection, embeddings_TH)


def _check_sizes(encoder: Encoder, config: EncoderConfig) -> None:
    """Raise `ConfigError` for sizes of pooling, layers and projection that do not fit."""
    if config.dim is not None and config.dim > encoder.own_dim:
        raise ConfigError(f"model.encoder.dim is {config.dim}, more than the encoder's {encoder.own_dim}")
    pooled = encoder.pooled_dim
    first = next((m.linear.in_features for m in encoder.dense or () if isinstance(m, Dense)), pooled)
    if first != pooled:
        raise ConfigError(
            f"the pooling {encoder.pooling} gives {pooled} dimensions, but a layer of model {config.name!r} takes "
            f"{first}: give the model's own pooling (null), or model.encoder.dense false"
        )
