"""Wrap each kind of encoder as a function from texts to vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mtcl.encoder.hub import resolve_model
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.errors import ConfigError
from mtcl.studies.compare.config import EncoderSpec
from mtcl.studies.compare.endpoint import Endpoint, model_key
from mtcl.studies.compare.vectors import VectorCache

EmbedTexts = Callable[[Sequence[str]], Tensor]
"""Texts to (T, D) float32 vectors on the CPU, of any length."""


def encoder_of(spec: EncoderSpec, cache: Path) -> EmbedTexts:
    """Load, or connect to, an encoder."""
    if spec.run:
        return TextEncoder.load(Path(spec.run), device=_device())
    if spec.endpoint:
        endpoint = endpoint_of(spec, cache)
        return lambda texts: torch.from_numpy(endpoint.embed(texts).copy())
    return _sentence_transformer(spec)


def endpoint_of(spec: EncoderSpec, cache: Path) -> Endpoint:
    """The endpoint, with its vectors cached in `cache`."""
    return Endpoint(spec, VectorCache(cache / "endpoint_vectors.sqlite", model_key(spec)))


def _sentence_transformer(spec: EncoderSpec) -> EmbedTexts:
    """Use the folder's own modules if it has any, else mean pooling over a plain Hugging Face model."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ConfigError("models from the Hub need sentence-transformers: pip install 'mtcl[compare]'") from error
    model = SentenceTransformer(str(resolve_model(str(spec.model))), device=_device())

    def embed(texts: Sequence[str]) -> Tensor:
        found = model.encode(list(texts), batch_size=spec.batch_size, convert_to_tensor=True, show_progress_bar=False)
        return found.float().cpu()

    return embed


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
