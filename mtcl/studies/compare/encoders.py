"""Wrap each kind of encoder as a function from texts to vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from mtcl.encoder.declared import Declared
from mtcl.encoder.hub import resolve_model
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.errors import ConfigError
from mtcl.studies.compare.config import EncoderSpec
from mtcl.studies.compare.endpoint import Endpoint, model_key
from mtcl.studies.compare.vectors import VectorCache
from mtcl.task.contract import Task
from mtcl.task.prompt import NO_PROMPT, Prompt


class Embedder(Protocol):
    """An encoder as a comparison sees it."""

    def __call__(self, texts: Sequence[str], max_length: int | None = None, *, task: str | None = None) -> Tensor:
        """(T, D) float32 vectors of a task's texts, on the CPU, of any length."""

    def prompt_of(self, task: Task) -> Prompt:
        """The prompts before the task's texts."""

    def length_of(self, task: Task) -> int | None:
        """Tokens the task's texts are cut to; None if the encoder decides."""


@dataclass(frozen=True)
class Plain:
    """An encoder that treats all tasks alike: their own prompts are for encoders that were trained with them."""

    embed: Callable[[Sequence[str]], Tensor]
    prompt: Prompt = NO_PROMPT

    def __call__(self, texts: Sequence[str], max_length: int | None = None, *, task: str | None = None) -> Tensor:
        return self.embed(texts)

    def prompt_of(self, task: Task) -> Prompt:
        return self.prompt

    def length_of(self, task: Task) -> None:
        return None


def encoder_of(spec: EncoderSpec, cache: Path) -> Embedder:
    """Load, or connect to, an encoder."""
    if spec.run:
        return TextEncoder.load(Path(spec.run), device=_device())
    if spec.endpoint:
        endpoint = endpoint_of(spec, cache)
        return Plain(lambda texts: torch.from_numpy(endpoint.embed(texts).copy()))
    return _sentence_transformer(spec)


def endpoint_of(spec: EncoderSpec, cache: Path) -> Endpoint:
    """The endpoint, with its vectors cached in `cache`."""
    return Endpoint(spec, VectorCache(cache / "endpoint_vectors.sqlite", model_key(spec)))


def _sentence_transformer(spec: EncoderSpec) -> Plain:
    """A model as sentence-transformers itself uses it."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ConfigError("models from the Hub need sentence-transformers: pip install 'mtcl[compare]'") from error
    folder = resolve_model(str(spec.model))
    model = SentenceTransformer(str(folder), device=_device())

    def embed(texts: Sequence[str]) -> Tensor:
        # prompts stand before the texts already; an empty one keeps the default prompt away
        found = model.encode(
            list(texts), prompt="", batch_size=spec.batch_size, convert_to_tensor=True, show_progress_bar=False
        )
        return found.float().cpu()

    return Plain(embed, Declared.read(folder, str(spec.model)).prompt)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
