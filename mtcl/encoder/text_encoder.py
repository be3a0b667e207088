"""A trained or untrained encoder with its tokenizer: texts to vectors, without a run around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from mtcl.data.tokenizer import MAX_CHARACTERS, Tokenizer
from mtcl.encoder.checkpoint import config_of, encoder_config_of, encoder_of, find, given_to_tasks, read, tokenizer_of
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder
from mtcl.task.contract import Task


@dataclass(frozen=True)
class TextEncoder:
    """An encoder with its tokenizer; texts are cut to `max_length` tokens.

    `prompts` and `lengths` are those that the run's configuration gave to tasks, by name.
    """

    encoder: Encoder
    tokenizer: Tokenizer
    max_length: int
    tokens_per_chunk: int
    prompts: dict[str, str] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, *, device: str = "cpu") -> TextEncoder:
        """As trained: `path` is a run folder (its best checkpoint) or a .ckpt file."""
        saved = read(find(path))
        config = config_of(saved)
        settings = encoder_config_of(config)
        return cls(
            encoder_of(saved, settings).to(device).eval(),
            tokenizer_of(settings),
            config["data"]["max_length"],
            settings.tokens_per_chunk,
            given_to_tasks(config, "prompt"),
            given_to_tasks(config, "max_length"),
        )

    @classmethod
    def base(cls, settings: EncoderConfig, *, max_length: int, device: str = "cpu") -> TextEncoder:
        """As others trained it."""
        encoder = Encoder.load(settings).to(device).eval()
        return cls(encoder, tokenizer_of(settings), max_length, settings.tokens_per_chunk)

    @property
    def dim(self) -> int:
        return self.encoder.dim

    def prompt_of(self, task: Task) -> str:
        """What stood before the task's texts in training."""
        return self.prompts.get(task.name, task.prompt)

    def length_of(self, task: Task) -> int:
        """Tokens that the task's texts were cut to."""
        return self.lengths.get(task.name, self.max_length)

    def __call__(self, texts: Sequence[str], max_length: int | None = None) -> Tensor:
        """(T, D) float32 unit vectors on the CPU. Prompts are the caller's to put before the texts."""
        tokens = self.tokenizer([text[:MAX_CHARACTERS] for text in texts], max_length or self.max_length)
        return self.encoder.embed(tokens, tokens_per_chunk=self.tokens_per_chunk)
