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
from mtcl.encoder.backbone import hidden_size, load_backbone
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.hub import resolve_model
from mtcl.encoder.kernels import cpu_kernels
from mtcl.encoder.malloc_trim import trim_heap
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
        if config.compile:
            encoder.compile_backbone()
        return encoder

    def without_projection(self) -> Encoder:
        """An encoder with the same backbone and options that returns the pooled states, without the projection."""
        bare = Encoder(self.backbone, pooling=self.pooling)
        bare.first_position, bare.is_compiled = self.first_position, self.is_compiled
        return bare

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
        """Trained parameters of the backbone's last layer and of the projection, used by gradient methods."""
        stacks = [m for m in self.backbone.modules() if isinstance(m, nn.ModuleList) and len(m)]
        last = max(stacks, key=len)[-1] if stacks else self.backbone
        modules = [last] if self.projection is None else [last, self.projection]
        return [p for module in modules for p in module.parameters() if p.requires_grad]

    def forward(self, texts: Packed) -> Tensor:
        """(T, D) unit vectors in the order of the texts."""
        words = self._look_up(texts.chunks)
        pooled = [self._pool(n, *each) for n, each in enumerate(zip(texts.chunks, words, strict=True))]
        pooled_TH = torch.cat(pooled)[texts.place_T]
        if self.projection is not None:
            pooled_TH = self.projection(pooled_TH)
        return F.normalize(pooled_TH.float(), dim=-1)

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

    def embed(self, tokens: Ragged, *, tokens_per_chunk: int, num_at_once: int = 4096) -> Tensor:
        """(T, D) float32 on the CPU, without dropout, in the order of `tokens`; the module's mode is restored.

        There is no gradient to the encoder, but you can train your own layers on the result.
        """
        was_training, device = self.training, next(self.parameters()).device
        self.eval()
        try:
            rows = np.arange(len(tokens))
            with torch.inference_mode():
                parts = [
                    self(pack(tokens.take(some), tokens_per_chunk=tokens_per_chunk).to(device)).cpu()
                    for some in np.array_split(rows, max(1, -(-len(rows) // num_at_once)))
                    if len(some)
                ]
        finally:
            self.train(was_training)
        return torch.cat(parts) if parts else torch.empty(0, self.dim)  # the copy is not an inference tensor

    @torch.no_grad()
    def init_projection_pca(self, embeddings_TH: Tensor) -> None:
        """Start the projection as the PCA of `embeddings_TH` (float32): centred, components by decreasing variance."""
        assert self.projection is not None
        dim = self.projection.out_features
        if len(embeddings_TH) < dim:
            raise ConfigError(
                f"PCA to {dim} dimensions needs at least {dim} training texts, found {len(embeddings_TH)}"
            )
        mean_H = embeddings_TH.mean(dim=0)
        _, vectors_HH = torch.linalg.eigh(torch.cov(embeddings_TH.double().T))
        components_DH = vectors_HH.flip(1)[:, :dim].T.float()
        self.projection.weight.copy_(components_DH)
        self.projection.bias.copy_(-components_DH @ mean_H)
