"""A frozen teacher (the base encoder, another encoder or an mtcl run) and its vectors of a task's training texts.

The texts are embedded once, and the vectors are kept next to the token store. The file's name contains a digest of the
teacher's weights, so a different teacher never uses it. The file is written atomically, under a lock: if several
processes ask at once, one embeds and the others wait.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mtcl.arrays import IntArray, Ragged
from mtcl.data.store import TokenStore
from mtcl.encoder.backbone import function_digest
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.paths import is_checkpoint
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.encoder.vector_file import rows_file

BASE = "base"
"""A teacher's name: the encoder before training, with its initial projection."""


@dataclass(frozen=True)
class Teacher:
    """An encoder with its own tokenizer and prompts; without them, it reads the store's tokens."""

    encoder: Encoder
    own: TextEncoder | None = None

    @classmethod
    def load(cls, name: str, *, like: EncoderConfig, own_tokenizer: str, device: torch.device) -> Teacher:
        """Load a teacher from a run folder, a checkpoint, or an encoder's folder or Hub name.

        `like` has the options that a plain encoder does not define; `own_tokenizer` is the run's tokenizer's digest.
        """
        if is_checkpoint(Path(name)):
            run = TextEncoder.load(Path(name), device=str(device))
            return cls(run.model, None if run.tokenizer.digest == own_tokenizer else run)
        config = replace(like.plain(), name=name, revision=None, dim=None, pooling=None, dense=True)
        base = TextEncoder.base(config, device=str(device))
        return cls(base.model, base)

    def tokens(self, store: TokenStore, rows: IntArray) -> Ragged:
        """The teacher's tokens for the texts `rows` of a store."""
        if self.own is None:
            return store.tokens.take(rows)
        texts, sides = store.pairs.texts.take(rows).to_pylist(), np.array(store.sides[rows]).tolist()
        shortened = map(self.own.tokenizer.shortened, texts)
        prompted = [self.own.prompt[side] + text for text, side in zip(shortened, sides, strict=True)]
        return self.own.tokenizer(prompted, self.own.max_length)

    @property
    def reads(self) -> str:
        """Everything besides the store that its tokens depend on, for the name of a file."""
        if self.own is None:
            return "store"
        facts = [self.own.tokenizer.digest, self.own.max_length, self.own.prompt.plain()]
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:8]


def vectors_file(
    store: TokenStore, teacher: Teacher, embed: Callable[[Encoder, Ragged], Tensor], *, precision: str
) -> Path:
    """The file (.npy) of the teacher's unit vectors (T, E), float32, in the order of the store's texts.

    `precision` is the precision that `embed` computes in. Raises `OSError` if the disk has no room for the file.
    """
    encoder = teacher.encoder
    name = f"teacher-{function_digest(encoder)}-{encoder.pooling}-{encoder.dim}-{teacher.reads}-{precision}.npy"

    def vectors(rows: IntArray) -> Tensor:
        return embed(encoder, teacher.tokens(store, rows))

    return rows_file(store.folder / name, (len(store.tokens), encoder.dim), vectors)
