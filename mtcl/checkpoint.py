"""A run's checkpoint as an encoder of texts, without the run: for comparisons, MTEB and whoever wants vectors.

Weights only; nothing in the file is executed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from mtcl.encoder import Encoder, EncoderConfig
from mtcl.errors import ConfigError, root_cause
from mtcl.hub import resolve_model
from mtcl.store import MAX_CHARACTERS, Tokenizer
from mtcl.task import Task
from mtcl.types import BEST, Ragged, offsets_of

PREFIX = "encoder."


@dataclass(frozen=True)
class TextEncoder:
    """The encoder of a checkpoint and the tokenizer it was trained with; texts are cut to `max_length` tokens.

    `prompts` are those that the run's configuration gave to tasks, by name.
    """

    encoder: Encoder
    tokenizer: Tokenizer
    max_length: int
    tokens_per_chunk: int
    prompts: dict[str, str]

    @classmethod
    def load(cls, path: Path, *, device: str = "cpu") -> TextEncoder:
        """`path` is a run folder (its best checkpoint) or a .ckpt file."""
        file = path / "checkpoints" / BEST if path.is_dir() else path
        if not file.is_file():
            raise ConfigError(f"no checkpoint {str(file)!r}: give a run folder or a .ckpt file")
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
            config = yaml.safe_load(content["mtcl"]["config"])
        except Exception as error:  # torch raises a dozen types for damaged files
            raise ConfigError(
                f"{str(file)!r} is no checkpoint of mtcl, or a damaged one ({root_cause(error)})"
            ) from error
        settings = _encoder_config(config["model"]["encoder"])
        encoder = Encoder.load(settings)
        state = {k.removeprefix(PREFIX): v for k, v in content["state_dict"].items() if k.startswith(PREFIX)}
        encoder.load_state_dict(state)
        folder = resolve_model(settings.name, revision=settings.revision)
        tokenizer = Tokenizer.load(folder, trust_remote_code=settings.trust_remote_code)
        prompts = {name: prompt for name, task in config["tasks"].items() if (prompt := task.get("prompt")) is not None}
        length, chunk = config["data"]["max_length"], settings.tokens_per_chunk
        return cls(encoder.to(device).eval(), tokenizer, length, chunk, prompts)

    @property
    def dim(self) -> int:
        return self.encoder.dim

    def prompt_of(self, task: Task) -> str:
        """What stood before the task's texts in training."""
        return self.prompts.get(task.name, task.prompt)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(T, D) float32 unit vectors on the CPU. Prompts are the caller's to put before the texts."""
        ids = self.tokenizer([text[:MAX_CHARACTERS] for text in texts], self.max_length) if len(texts) else []
        lengths = np.array([len(row) for row in ids], dtype=np.int64)
        values = np.concatenate([np.asarray(row, dtype=np.int64) for row in ids]) if len(texts) else lengths
        return self.encoder.embed(Ragged(offsets_of(lengths), values), tokens_per_chunk=self.tokens_per_chunk)


def is_checkpoint(path: Path) -> bool:
    """Whether `path` is a run folder or a .ckpt file, and not a model's folder or name."""
    return path.is_file() if path.suffix == ".ckpt" else (path / "checkpoints").is_dir()


def _encoder_config(values: dict[str, Any]) -> EncoderConfig:
    known = {field.name for field in fields(EncoderConfig)} - {"compile"}  # not worth its minute here
    return EncoderConfig(**{name: value for name, value in values.items() if name in known})
