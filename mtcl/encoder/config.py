"""The options of the shared encoder, `model.encoder` of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from mtcl.errors import ConfigError
from mtcl.records.mapping import from_mapping

Pooling = Literal["mean", "cls", "last", "max", "weighted_mean", "sqrt_mean"]
DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
ATTENTIONS = ("auto", "unpadded", "sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention")
"""Attention from installed code. For other names, transformers downloads a kernel from the Hub and runs it."""
TOKENS_PER_CHUNK = {"cpu": 2048, "cuda": 131_072}
"""Measured (docs/performance.md). A GPU is fastest with one chunk per step."""
RECOMPUTED_ON_GPU = 32_768
"""With activation checkpointing on a GPU, where a chunk's activations are what takes memory."""


@dataclass(frozen=True)
class LoraConfig:
    """Adapters of low rank (LoRA, arXiv 2106.09685): W x becomes W x + alpha / r * B A x, and only A and B train.

    Attributes:
        r: Rank of the adapters.
        alpha: Scale of the adapters; their product is multiplied by alpha / r.
        dropout: Dropout probability of the adapters' input.
        target_modules: Names of the linear layers that get an adapter, such as [query, value]; null for all linear
            layers of the layer stack.
    """

    r: int = 16
    alpha: float = 32
    dropout: float = 0.0
    target_modules: list[str] | None = None

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ConfigError(f"model.encoder.lora.r is {self.r}: give at least 1")
        if self.alpha <= 0:
            raise ConfigError(f"model.encoder.lora.alpha is {self.alpha}: give more than 0")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.encoder.lora.dropout is {self.dropout}: give 0 or more and less than 1")
        if self.target_modules is not None and not self.target_modules:
            raise ConfigError("model.encoder.lora.target_modules is empty: name linear layers, or give null for all")


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
            is unpadded where the architecture supports it, otherwise eager on a CPU and sdpa on a GPU.
        dropout: Every dropout probability of the backbone; null keeps the model's own.
        tokens_per_chunk: Tokens, including padding, that go through the backbone at once; null is 2,048 on a CPU,
            131,072 on a machine with a GPU, and 32,768 there with activation_checkpointing.
        compile: Compile the backbone by torch.compile with dynamic shapes. It takes a minute or more before the first
            step and again before the first evaluation; steps then take about 0.8 of the time (docs/performance.md).
        trust_remote_code: Run model code from the repository; only for repositories you trust.
        train: Which parameters of the encoder train: all; lora, the adapters and the projection; head, only the
            projection (and heads of tasks, losses), on outputs of the frozen backbone that are computed once; none.
        freeze_layers: The embeddings and this many lowest layers don't train.
        lora: The adapters of `train: lora`; null for the defaults.
        frozen_dtype: Type of the weights of a frozen backbone (train lora, head or none). bfloat16 halves their memory
            at a precision of 3 digits; what trains stays float32.
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
    train: Literal["all", "lora", "head", "none"] = "all"
    freeze_layers: int = 0
    lora: LoraConfig | None = None
    frozen_dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if self.pooling == []:
            raise ConfigError("model.encoder.pooling is an empty list: give at least one, or null")
        if self.dim is not None and self.dim < 1:
            raise ConfigError(f"model.encoder.dim is {self.dim}: give a positive size, or null for the backbone's own")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ConfigError(f"model.encoder.dropout is {self.dropout}: give 0 or more and less than 1")
        if self.tokens_per_chunk is not None and self.tokens_per_chunk < 1:
            raise ConfigError(f"model.encoder.tokens_per_chunk is {self.tokens_per_chunk}: give at least 1")
        self._check_training()

    def _check_training(self) -> None:
        train = self.train
        if self.freeze_layers < 0:
            raise ConfigError(f"model.encoder.freeze_layers is {self.freeze_layers}: give 0 or more")
        if self.lora is not None and train != "lora":
            raise ConfigError(f"model.encoder.lora is set, but train is {train}: give train: lora, or lora: null")
        if self.freeze_layers and self.is_frozen:
            raise ConfigError(
                f"model.encoder.freeze_layers is {self.freeze_layers}, but train is {train}, which freezes all layers: "
                "give freeze_layers: 0, or train: all or lora"
            )
        if self.frozen_dtype != "float32" and train == "all":
            raise ConfigError(
                f"model.encoder.frozen_dtype is {self.frozen_dtype}, but train is all, and weights that train are "
                "float32: give train: lora, head or none, or frozen_dtype: float32"
            )

    @property
    def is_frozen(self) -> bool:
        """Whether nothing of the backbone trains."""
        return self.train in ("head", "none")

    @property
    def adapter(self) -> LoraConfig | None:
        """The adapters that the encoder has; None if it has none."""
        return (self.lora or LoraConfig()) if self.train == "lora" else None

    @property
    def tuning(self) -> dict[str, Any]:
        """Which parameters train, as plain values; only what is not the default, so that older checkpoints agree."""
        found = {"train": self.train, "freeze_layers": self.freeze_layers, "frozen_dtype": self.frozen_dtype}
        changed = {name: value for name, value in found.items() if value != getattr(EncoderConfig, name)}
        return changed | ({} if self.adapter is None else {"lora": asdict(self.adapter)})

    def plain(self) -> EncoderConfig:
        """The same encoder without adapters and frozen parameters."""
        return replace(self, train="all", freeze_layers=0, lora=None, frozen_dtype="float32")

    @classmethod
    def of(cls, given: EncoderConfig | Mapping[str, Any] | None) -> EncoderConfig:
        """From a mapping of its attributes. Raises `ConfigError` for unknown names and values of the wrong type."""
        return from_mapping(cls, given, where="encoder")

    def chunk_size(self, *, recomputes: bool = False) -> int:
        """`tokens_per_chunk`, or this machine's default if it is null; `recomputes` is activation checkpointing."""
        if self.tokens_per_chunk is not None:
            return self.tokens_per_chunk
        import torch

        if torch.cuda.is_available():
            return RECOMPUTED_ON_GPU if recomputes else TOKENS_PER_CHUNK["cuda"]
        return TOKENS_PER_CHUNK["cpu"]
