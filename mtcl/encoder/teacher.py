"""A frozen teacher (the base, another encoder or an mtcl run) and its vectors of a task's training texts.

The texts are embedded once, and the vectors are kept next to the token store. The file's name contains a digest of the
teacher's weights, so a different teacher never uses it. The file is written atomically, under a lock: if several
processes ask at once, one embeds and the others wait.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mtcl.data.store import TokenStore
from mtcl.data.tokenizer import MAX_CHARACTERS, Tokenizer
from mtcl.encoder.backbone import digest_of, pooling_of
from mtcl.encoder.checkpoint import is_checkpoint
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.hub import resolve_model
from mtcl.encoder.text_encoder import TextEncoder, tokenizer_of
from mtcl.encoder.vector_file import rows_file
from mtcl.types import IntArray, Ragged

BASE = "base"
"""A teacher's name: the encoder before training, with its initial projection."""


@dataclass(frozen=True)
class Teacher:
    """An encoder and its own tokenizer, or None if it reads the store's tokens, which include a task's prompt."""

    encoder: Encoder
    tokenizer: Tokenizer | None = None

    @classmethod
    def load(cls, name: str, *, like: EncoderConfig, own_tokenizer: str, device: torch.device) -> Teacher:
        """Load a teacher from a run folder, a checkpoint, or an encoder's folder or Hub name.

        `like` has the options that a plain encoder does not define; `own_tokenizer` is the run's tokenizer's digest.
        """
        if is_checkpoint(Path(name)):
            run = TextEncoder.load(Path(name), device=str(device))
            return cls(run.model, None if run.tokenizer.digest == own_tokenizer else run.tokenizer)
        folder = resolve_model(name)
        config = replace(like.plain(), name=name, revision=None, dim=None, pooling=pooling_of(folder) or like.pooling)
        return cls(Encoder.load(config).to(device), tokenizer_of(config))

    def tokens(self, store: TokenStore, rows: IntArray) -> Ragged:
        """The teacher's tokens for the texts `rows` of a store."""
        if self.tokenizer is None:
            return store.tokens.take(rows)
        longest = min(self.tokenizer.backend.model_max_length, 512)
        return self.tokenizer([text[:MAX_CHARACTERS] for text in store.texts().take(rows).to_pylist()], longest)


def vectors_file(
    store: TokenStore, teacher: Teacher, embed: Callable[[Encoder, Ragged], Tensor], *, precision: str
) -> Path:
    """The file (.npy) of the teacher's unit vectors (T, E), float32, in the order of the store's texts.

    `precision` is the precision that `embed` computes in. Raises `OSError` if the disk has no room for the file.
    """
    read = "store" if teacher.tokenizer is None else teacher.tokenizer.digest[:8]
    name = f"teacher-{digest_of(teacher.encoder)}-{teacher.encoder.pooling}-{read}-{precision}.npy"

    def vectors(rows: IntArray) -> Tensor:
        return embed(teacher.encoder, teacher.tokens(store, rows))

    return rows_file(store.folder / name, (len(store.tokens), teacher.encoder.dim), vectors)
