"""Wrap each kind of encoder as a function from texts to vectors."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mtcl.console import track
from mtcl.encoder.declared import Declared
from mtcl.encoder.hub import resolve_model
from mtcl.encoder.paths import PathKind, checkpoint_at, kind_of_path
from mtcl.encoder.precision import precision_of
from mtcl.encoder.text_encoder import TextEncoder, best_device
from mtcl.errors import ConfigError, root_cause
from mtcl.studies.compare.config import EncoderSpec
from mtcl.studies.compare.endpoint import Endpoint, model_key
from mtcl.studies.compare.vectors import VectorCache
from mtcl.task.contract import Task
from mtcl.task.prompt import NO_PROMPT, Prompt

log = logging.getLogger("mtcl")
BLOCK = 1024


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


@dataclass(frozen=True)
class Local:
    """An mtcl run or a model on this machine. Each text's vector is kept on the disk, in steps of `BLOCK` texts."""

    encoder: TextEncoder
    cache: Path
    label: str
    is_run: bool = True

    def __call__(self, texts: Sequence[str], max_length: int | None = None, *, task: str | None = None) -> Tensor:
        encoder, length = self.encoder, max_length or self.encoder.max_length
        head = task if task in encoder.heads else None
        weights = (encoder.fingerprint(), encoder.head_fingerprint(head), encoder.tokenizer.digest)
        facts = (*weights, length, encoder.precision, best_device())
        cache = VectorCache(self.cache / "encoder_vectors.sqlite", repr(facts))
        known = cache.get(texts)
        missing = sorted({*texts} - known.keys(), key=len)
        for start in track(range(0, len(missing), BLOCK), f"{self.label}: {task}"):
            some = missing[start : start + BLOCK]
            found = dict(zip(some, encoder(some, length, task=head).numpy(), strict=True))
            cache.put(found)
            known |= found
        return torch.from_numpy(np.stack([known[text] for text in texts]))

    def prompt_of(self, task: Task) -> Prompt:
        return self.encoder.prompt_of(task) if self.is_run else self.encoder.prompt

    def length_of(self, task: Task) -> int | None:
        return self.encoder.length_of(task) if self.is_run else None


def check_found(spec: EncoderSpec) -> None:
    """Raises `ConfigError` if a run or model is not there; its weights are read when its turn comes."""
    for run in spec.runs:
        if kind_of_path(run) is PathKind.CHECKPOINT:
            checkpoint_at(Path(run))
    if spec.model:
        resolve_model(spec.model)


def encoders_of(name: str, spec: EncoderSpec, cache: Path, precision: str) -> Iterator[Embedder]:
    """Load, or connect to, an encoder; one per seed, if it is given as several runs."""
    for run in spec.runs:
        yield Local(TextEncoder.load(Path(run), precision=precision_of(precision)), cache, name)
    if spec.endpoint:
        endpoint = endpoint_of(spec, cache)
        yield Plain(lambda texts: torch.from_numpy(endpoint.embed(texts).copy()))
    if spec.model:
        yield _model(name, spec, cache, precision)


def _model(name: str, spec: EncoderSpec, cache: Path, precision: str) -> Embedder:
    """A model as it declares itself, or an exported run; by sentence-transformers, if a model declares what mtcl cannot
    apply.
    """
    try:
        encoder = TextEncoder.load(str(spec.model), precision=precision_of(precision))
    except ConfigError as error:
        if importlib.util.find_spec("sentence_transformers") is None:
            raise
        log.info("%s: read by sentence-transformers (%s)", name, error)
        return _sentence_transformer(spec)
    return Local(encoder, cache, name, is_run=bool(encoder.facts.tasks))


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
    declared = Declared.read(folder, str(spec.model))  # refuses a folder's own code, which the library would run
    try:
        model = SentenceTransformer(str(folder), device=best_device(), model_kwargs={"use_safetensors": True})
    except Exception as error:  # of the library, of transformers and of torch
        raise ConfigError(f"model {spec.model!r} cannot be read ({root_cause(error)})") from error

    def embed(texts: Sequence[str]) -> Tensor:
        # prompts stand before the texts already; an empty one keeps the default prompt away
        found = model.encode(
            list(texts), prompt="", batch_size=spec.batch_size, convert_to_tensor=True, show_progress_bar=False
        )
        return found.float().cpu()

    return Plain(embed, declared.prompt)
