"""The shared text encoder: a Hugging Face backbone, pooling, an optional projection, unit length.

All texts of a step go through one forward pass, whatever their task and role: `Encoder.forward` takes packed chunks and
returns one embedding per text, in the order of the texts. Parameters that no task uses (BERT's pooler) are never
created, because under DDP they silently stop the averaging of gradients.
"""

from __future__ import annotations

import inspect
import os
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mtcl.data.packing import Chunk, Packed, pack
from mtcl.encoder import unpadded
from mtcl.encoder.adapt import adapt
from mtcl.encoder.backbone import digest_of, hidden_size, load_backbone
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.hub import resolve_model
from mtcl.encoder.kernels import cpu_kernels
from mtcl.encoder.layers import stack_of
from mtcl.encoder.malloc_trim import trim_heap
from mtcl.encoder.pca import start_as_pca
from mtcl.errors import ConfigError
from mtcl.types import Ragged

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHUNKS_PER_TRIM = 8
"""Trimming at every chunk costs more, because the next chunk requests the pages again (docs/performance.md)."""


class Encoder(nn.Module):
    """Turns packed texts into unit vectors (T, D) in float32."""

    activation_checkpointing = False
    """Recompute each chunk in the backward pass, so that only one chunk's activations are kept. Gradients are equal."""

    is_compiled = False
    """If so, the compiler's kernels are used instead of `kernels.py`."""

    is_frozen = False
    """Whether nothing of the backbone trains. It is then always in evaluation mode, so a text has one vector."""

    base_digest: str | None = None
    """The backbone's fingerprint before adapters were injected or its type was changed, if they were."""

    first_position: int | None = None
    """Position id of a text's first token if the backbone takes chunks without padding, otherwise None."""

    def __init__(self, backbone: nn.Module, *, pooling: str = "mean", dim: int | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling
        self.hidden = hidden_size(backbone)
        self._takes_words = "inputs_embeds" in inspect.signature(backbone.forward).parameters
        self.projection = nn.Linear(self.hidden, dim) if dim is not None else None

    @classmethod
    def load(cls, config: EncoderConfig) -> Encoder:
        """Load the encoder with the weights of `config.name`; in training mode, unlike transformers."""
        backbone = load_backbone(resolve_model(config.name, revision=config.revision), config)
        if config.dim is not None and config.dim > hidden_size(backbone):
            raise ConfigError(f"model.encoder.dim is {config.dim}, more than the backbone's {hidden_size(backbone)}")
        encoder = cls(backbone, pooling=config.pooling, dim=config.dim).train()
        encoder.choose_attention(config.attention)
        adapt(encoder, config)
        if config.compile:
            encoder.compile_backbone()
        return encoder

    def without_projection(self) -> Encoder:
        """An encoder with the same backbone and options that returns the pooled states, without the projection."""
        bare = Encoder(self.backbone, pooling=self.pooling)
        bare.first_position, bare.is_compiled = self.first_position, self.is_compiled
        bare.is_frozen = self.is_frozen
        return bare

    def train(self, mode: bool = True) -> Encoder:
        super().train(mode)
        if self.is_frozen:
            self.backbone.eval()
        return self

    def pooled_by(self) -> tuple[str, ...]:
        """What determines a text's pooled hidden state besides its tokens and the backbone's weights."""
        return type(self.backbone).__name__, self.pooling

    def fingerprint(self) -> str:
        """The fingerprint of the backbone's weights; right after loading, that of the base without adapters."""
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
        """Use no padding if `name` is unpadded or, on a CPU, auto. Raises `ConfigError` if unpadded is not possible."""
        if name == unpadded.NAME or (name == "auto" and not torch.cuda.is_available()):
            self.first_position = unpadded.first_position(cast("PreTrainedModel", self.backbone))
            if name == unpadded.NAME and self.first_position is None:
                raise ConfigError(
                    f"model.encoder.attention is {name!r}, which {type(self.backbone).__name__} does not support "
                    "(its vectors differ from those with padding): give auto, sdpa or eager"
                )

    def check_length(self, task: str, max_length: int) -> None:
        """Raise `ConfigError` for a max length larger than the backbone's number of positions."""
        positions = getattr(self.backbone.config, "max_position_embeddings", None)
        if isinstance(positions, int) and max_length > positions:
            raise ConfigError(f"task {task!r}: max_length is {max_length}, but the encoder reads {positions} tokens")

    @property
    def dim(self) -> int:
        return self.hidden if self.projection is None else self.projection.out_features

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
        """(T, D) unit vectors of pooled hidden states: the part of the encoder that `train: head` trains."""
        found_TD = pooled_TH.float()
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
        """(n, H) pooled hidden states of a chunk (n, L). `words` are its word embeddings if already looked up."""
        given = {"input_ids": self._ids(chunk)} if words is None else {"inputs_embeds": words}
        with nullcontext() if self.is_compiled else cpu_kernels(chunk.ids.device):
            hidden_nLH: Tensor
            if self.first_position is None:
                hidden_nLH = self.backbone(**given, attention_mask=chunk.mask).last_hidden_state
            else:
                hidden_nLH = unpadded.hidden_states(self.backbone, chunk, given, first_position=self.first_position)
        if self.pooling == "cls":
            return hidden_nLH[:, 0]
        if self.pooling == "last":
            last_n = chunk.mask.sum(dim=1) - 1
            return hidden_nLH[torch.arange(len(last_n), device=last_n.device), last_n]
        mask_nL1 = chunk.mask.unsqueeze(-1).to(hidden_nLH.dtype)
        return (hidden_nLH * mask_nL1).sum(dim=1) / mask_nL1.sum(dim=1).clamp(min=1)

    def embed(
        self, tokens: Ragged, *, tokens_per_chunk: int, num_at_once: int = 4096, is_pooled: bool = False
    ) -> Tensor:
        """(T, D) float32 on the CPU, without dropout, in the order of `tokens`; the module's mode is restored.

        There is no gradient to the encoder, but you can train your own layers on the result. With `is_pooled`, (T, H)
        pooled hidden states instead of vectors.
        """
        apply = self.pooled if is_pooled else self
        was_training, device = self.training, next(self.parameters()).device
        self.eval()
        try:
            rows = np.arange(len(tokens))
            with torch.inference_mode():
                parts = [
                    apply(pack(tokens.take(some), tokens_per_chunk=tokens_per_chunk).to(device)).float().cpu()
                    for some in np.array_split(rows, max(1, -(-len(rows) // num_at_once)))
                    if len(some)
                ]
        finally:
            self.train(was_training)
        empty = torch.empty(0, self.hidden if is_pooled else self.dim)
        return torch.cat(parts) if parts else empty  # the copy is not an inference tensor

    def init_projection_pca(self, embeddings_TH: Tensor) -> None:
        """Start the projection as the PCA of `embeddings_TH` (float32): centred, components by decreasing variance."""
        assert self.projection is not None
        start_as_pca(self.projection, embeddings_TH)
