"""The options of the shared encoder, `model.encoder` of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mtcl.errors import ConfigError
from mtcl.types import from_mapping

Pooling = Literal["mean", "cls", "last", "max", "weighted_mean", "sqrt_mean"]
DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
ATTENTIONS = ("auto", "unpadded", "sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention")
"""Attention from installed code. For other names, transformers downloads a kernel from the Hub and runs it."""
TOKENS_PER_CHUNK = {"cpu": 2048, "cuda": 32_768}
"""Measured on a CPU (docs/performance.md); on a GPU, a guess that kernel launches cost almost nothing at this size."""


@dataclass(frozen=True)
class EncoderConfig:
    """The encoder that all tasks share.

    Attributes:
        name: Folder or Hub name of a Hugging Face encoder.
        revision: Commit, tag or branch on the Hub.
        pooling: How the tokens' states become one vector: mean, first token (cls), last, max, weighted_mean (weights 1,
            2, 3, ...) or sqrt_mean (the sum divided by the root of the length); a list concatenates several. Null takes
            what the model declares.
        dense: Apply the layers that the model declares after its pooling.
        dim: Size of the embedding after a linear projection; null keeps the backbone's own size.
        projection: How the projection starts: pca of the base encoder's embeddings of the training texts, or random.
        attention: unpadded, for one row of tokens per chunk (`unpadded.py`), or an implementation of transformers. auto
            is sdpa on a GPU and, by measurement, unpadded on a CPU, or eager if the architecture does not support it.
        dropout: Every dropout probability of the backbone; null keeps the model's own.
        tokens_per_chunk: Tokens, including padding, that go through the backbone at once; null is 32,768 on a machine
            with a GPU and 2,048 without.
        compile: Compile the backbone by torch.compile with dynamic shapes. It takes a minute or more before the first
            step and again before the first evaluation; steps then take about 0.8 of the time (docs/performance.md).
        trust_remote_code: Run model code from the repository; only for repositories you trust.
    """

    name: str = DEFAULT_MODEL
    revision: str | None = None
    pooling: Pooling | list[Pooling] | None = None
    dense: bool = True
    dim: int | None = None
    projection: Literal["pca", "random"] = "pca"
    attention: str = "auto"
    dropout: float | None = None
    tokens_per_chunk: int | None = None
    compile: bool = False
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.pooling == []:
            raise ConfigError("model.encoder.pooling is an empty list: give at least one, or null")
        if self.dim is not None and self.dim < 1:
            raise ConfigError(f"model.encoder.dim is {self.dim}: give a positive size, or null for the backbone's own")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ConfigError(f"model.encoder.dropout is {self.dropout}: give 0 or more and less than 1")
        if self.tokens_per_chunk is not None and self.tokens_per_chunk < 1:
            raise ConfigError(f"model.encoder.tokens_per_chunk is {self.tokens_per_chunk}: give at least 1")

    @classmethod
    def of(cls, given: EncoderConfig | Mapping[str, Any] | None) -> EncoderConfig:
        """From a mapping of its attributes. Raises `ConfigError` for unknown names and values of the wrong type."""
        return from_mapping(cls, given, where="encoder")

    @property
    def chunk_size(self) -> int:
        """`tokens_per_chunk`, or this machine's default if it is null."""
        if self.tokens_per_chunk is not None:
            return self.tokens_per_chunk
        import torch

        return TOKENS_PER_CHUNK["cuda" if torch.cuda.is_available() else "cpu"]
