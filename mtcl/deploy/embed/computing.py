"""The vectors of a window: each distinct text once, sorted by length, in chunks of few tokens.

The last bits of a text's vector depend on the texts in the same chunk, so chunks are a function of the window only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from mtcl.arrays import Float32Array, IntArray, Ragged
from mtcl.deploy.embed.numbers import NumberType
from mtcl.deploy.embed.settings import FileFormat, Settings
from mtcl.deploy.embed.shards import Columns
from mtcl.encoder.precision import Precision
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.errors import ConfigError
from mtcl.task.prompt import SideName

WINDOW = 16_384
"""Rows that are encoded and written together: enough texts of each length to leave little padding."""
PROBES = ["Hello, World!", "naïve CAFÉ", "日本語 텍스트", "🙂 #hash_tag @user", "ﬁ  x\u200by\u0301"]
"""Texts on which tokenizers differ: case, accents, scripts, emoji, spaces."""


@dataclass(frozen=True)
class Choice:
    """What a user chooses about the vectors.

    Attributes:
        task: With its prompt, max length and head as in training; None for the shared vectors and the run's prompt.
        role: query or document.
        dim: A number of leading dimensions that the encoder was trained at; None for all.
        any_dim: Accept any `dim`.
        dtype: The type of the stored numbers.
        precision: What the encoder computes in: float32, or matrix products in bf16.
    """

    task: str | None = None
    role: SideName = "document"
    dim: int | None = None
    any_dim: bool = False
    dtype: NumberType = "float32"
    precision: Precision = "float32"


@dataclass(frozen=True)
class Computer:
    """An encoder, used for one task and role at one number of dimensions."""

    encoder: TextEncoder
    choice: Choice
    prompt: str
    max_length: int
    dim: int

    @classmethod
    def of(cls, encoder: TextEncoder, choice: Choice) -> Computer:
        """Raises `ConfigError` for a task, role, dimension or precision that the encoder does not have."""
        as_input = encoder.input_format(choice.task, choice.role)
        encoder = replace(encoder, precision=choice.precision)
        return cls(encoder, choice, as_input.prompt, as_input.max_length, _dim(encoder, choice))

    def settings(self, columns: Columns, *, file_format: FileFormat, window: int) -> Settings:
        """The settings of a folder of these vectors, without the ranges of int8."""
        return Settings(
            fingerprint=self.encoder.fingerprint(),
            tokens=tokens_of(self.encoder, self.max_length),
            head=self.encoder.head_fingerprint(self.choice.task),
            task=self.choice.task,
            role=self.choice.role,
            prompt=self.prompt,
            max_length=self.max_length,
            dim=self.dim,
            dtype=self.choice.dtype,
            precision=self.choice.precision,
            format=file_format,
            text=columns.text,
            id=columns.id,
            keep=list(columns.copied),
            window=window,
        )

    def distinct(self, texts: list[str]) -> Distinct:
        """The distinct texts, with the prompt before each."""
        places: dict[str, int] = {}
        of_row = np.fromiter((places.setdefault(text, len(places)) for text in texts), np.int64, len(texts))
        shortened = self.encoder.tokenizer.shortened
        return Distinct([self.prompt + shortened(text) for text in places], of_row)

    def vectors(self, tokens: Ragged) -> Float32Array:
        """(T, D) unit vectors of tokenised texts."""
        order = np.argsort(-tokens.lengths(), kind="stable")
        sorted_TD = self.encoder.embed(tokens.take(order), task=self.choice.task)
        if self.dim < sorted_TD.shape[1]:
            sorted_TD = torch.nn.functional.normalize(sorted_TD[:, : self.dim], dim=1)
        found_TD = np.empty(tuple(sorted_TD.shape), dtype=np.float32)
        found_TD[order] = sorted_TD.numpy()
        return found_TD

    def encode(self, texts: list[str]) -> Float32Array:
        """(n, D) unit vectors of one window's texts, tokenised in this process."""
        distinct = self.distinct(texts)
        return self.vectors(self.encoder.tokenizer(distinct.texts, self.max_length))[distinct.of_row]


@dataclass(frozen=True)
class Distinct:
    """A window's distinct texts, and for each row the number of its text."""

    texts: list[str]
    of_row: IntArray


def _dim(encoder: TextEncoder, choice: Choice) -> int:
    trained, dim = encoder.dims_of(choice.task), choice.dim
    if dim is None:
        return trained[0]
    if dim in trained or (choice.any_dim and 0 < dim <= trained[0]):
        return dim
    if not 0 < dim <= trained[0]:
        raise ConfigError(f"dim is {dim}: give 1 to {trained[0]}, the dimensions of the vectors")
    known = ", ".join(map(str, trained))
    raise ConfigError(f"dim is {dim}, and the encoder was trained at {known}: give one of these, or --any_dim too")


def tokens_of(encoder: TextEncoder, max_length: int) -> str:
    """A digest of the tokens of a few texts: the fingerprint of weights does not show another tokenizer."""
    return encoder.tokenizer.tokens_digest(PROBES, max_length)
