"""A trained or untrained encoder with its tokenizer: turns texts into vectors without a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtcl.console import track
from mtcl.data.tokenizer import MAX_CHARACTERS, Tokenizer
from mtcl.encoder.checkpoint import DEFAULT_MAX_LENGTH, SavedRun
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.heads import through
from mtcl.encoder.hub import resolve_model
from mtcl.errors import ConfigError, nearest
from mtcl.task.contract import Task
from mtcl.types import Ragged

Role = Literal["query", "document"]
AT_ONCE = 4096
"""The number of texts that are tokenised and sorted by length together."""


@dataclass(frozen=True)
class TextEncoder:
    """An encoder with its tokenizer; texts are cut to `max_length` tokens.

    `prompts`, `lengths` and `heads` (projections of the shared vector) are those of the run's tasks, by name.

    >>> encoder = TextEncoder.load("runs/demo")                       # doctest: +SKIP
    >>> encoder.encode("We are hiring a data engineer.").shape        # doctest: +SKIP
    torch.Size([384])
    """

    model: Encoder
    tokenizer: Tokenizer
    max_length: int
    tokens_per_chunk: int
    prompts: dict[str, str] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    heads: Mapping[str, nn.Module] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path, *, device: str | None = None, trust_checkpoint: bool = False) -> TextEncoder:
        """Load a trained encoder.

        Args:
            path: A run folder (its best checkpoint), or a .ckpt file of any Lightning Trainer.
            device: The device to compute on; by default a GPU if there is one.
            trust_checkpoint: Run code from the base model's repository if the run did. If false, no code that a
                checkpoint names is executed.
        """
        saved = SavedRun.read(path, trust=trust_checkpoint)
        config = saved.encoder_config
        model = saved.encoder().to(device or best_device()).eval()
        if odd := [name for name, head in saved.heads.items() if head.in_features != model.dim]:
            raise saved.malformed(f"the head of task {odd[0]!r} does not fit the encoder's {model.dim} dimensions")
        size, length = config.chunk_size, saved.max_length
        return cls(model, tokenizer_of(config), length, size, saved.prompts, saved.lengths, saved.heads)

    @classmethod
    def base(
        cls,
        config: EncoderConfig | Mapping[str, Any] | None = None,
        *,
        max_length: int = DEFAULT_MAX_LENGTH,
        device: str | None = None,
    ) -> TextEncoder:
        """Load the untrained encoder."""
        config = EncoderConfig.of(config)
        model = Encoder.load(config).to(device or best_device()).eval()
        return cls(model, tokenizer_of(config), max_length, config.chunk_size)

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        return self.model.dim

    def dim_of(self, task: str | None) -> int:
        """Dimensions of the vectors of a task, or of the shared vectors."""
        head = self.heads.get(task or "")
        return self.dim if head is None else int(cast("nn.Linear", head).out_features)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def prompt_of(self, task: Task) -> str:
        """The prompt before the task's texts in training."""
        return self.prompts.get(task.name, task.prompt)

    def length_of(self, task: Task) -> int:
        """The max length, in tokens, of the task's texts in training."""
        return self.lengths.get(task.name, self.max_length)

    @overload
    def encode(
        self,
        texts: str | Sequence[str],
        *,
        task: str | None = ...,
        role: Role = ...,
        dim: int | None = ...,
        output: Literal["torch"] = ...,
        progress: bool = ...,
    ) -> Tensor: ...

    @overload
    def encode(
        self,
        texts: str | Sequence[str],
        *,
        task: str | None = ...,
        role: Role = ...,
        dim: int | None = ...,
        output: Literal["numpy"],
        progress: bool = ...,
    ) -> npt.NDArray[np.float32]: ...

    def encode(
        self,
        texts: str | Sequence[str],
        *,
        task: str | None = None,
        role: Role = "document",
        dim: int | None = None,
        output: Literal["torch", "numpy"] = "torch",
        progress: bool = False,
    ) -> Tensor | npt.NDArray[np.float32]:
        """Unit vectors in float32 on the CPU: (D,) for one text, (T, D) for a list of texts, in their order.

        Args:
            texts: One text or several. Each is cut to the task's max length, or the run's.
            task: Put this task's prompt before each text, and apply the task's head if it has one, as in training.
            role: The side of the task's pairs that the texts are on. At present both sides have the same prompt.
            dim: Keep this many leading dimensions, normalised to unit length; for encoders trained with `Matryoshka`.
            output: A torch tensor, on which further layers can be trained, or a numpy array.
            progress: Show a progress bar on a terminal.

        Raises `ConfigError` for a task that the run did not have, or a `dim` larger than the encoder's.
        """
        if role not in ("query", "document"):
            raise ConfigError(f"role is {role!r}: give query or document")
        if task is not None and task not in self.prompts:
            raise ConfigError(f"the encoder was not trained on a task {task!r}{nearest(task, self.prompts)}")
        if dim is not None and not 0 < dim <= self.dim_of(task):
            owner = "the encoder" if task not in self.heads else f"the head of {task}"
            raise ConfigError(f"dim is {dim}: give 1 to {self.dim_of(task)}, the dimensions of {owner}")
        given = [texts] if isinstance(texts, str) else list(texts)
        if odd := [text for text in given if not isinstance(text, str)]:
            raise ConfigError(f"texts holds {odd[0]!r:.60}: give strings")
        prompt, length = ("", None) if task is None else (self.prompts[task], self.lengths.get(task))
        starts = range(0, len(given), AT_ONCE)
        parts = [
            self([prompt + text for text in given[start : start + AT_ONCE]], length, task=task)
            for start in (track(starts, "encode") if progress else starts)
        ]
        vectors_TD = torch.cat(parts) if parts else torch.empty(0, self.dim_of(task))
        if dim is not None:
            vectors_TD = F.normalize(vectors_TD[:, :dim], dim=1)
        vectors = vectors_TD[0] if isinstance(texts, str) else vectors_TD
        return vectors.numpy() if output == "numpy" else vectors

    def __call__(self, texts: Sequence[str], max_length: int | None = None, *, task: str | None = None) -> Tensor:
        """(T, D) float32 unit vectors on the CPU, by the head of `task` if it has one. No prompts are added."""
        tokens = self.tokenizer([text[:MAX_CHARACTERS] for text in texts], max_length or self.max_length)
        return self.embed(tokens, task=task)

    def embed(self, tokens: Ragged, *, task: str | None = None) -> Tensor:
        """(T, D) float32 unit vectors on the CPU of tokenised texts, by the head of `task` if it has one."""
        shared_TD = self.model.embed(tokens, tokens_per_chunk=self.tokens_per_chunk)
        with torch.no_grad():
            return through(self.heads.get(task or ""), shared_TD)


def best_device() -> str:
    """A GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def tokenizer_of(config: EncoderConfig) -> Tokenizer:
    """The encoder's own tokenizer."""
    folder = resolve_model(config.name, revision=config.revision)
    return Tokenizer.load(folder, trust_remote_code=config.trust_remote_code)
