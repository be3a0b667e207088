"""A frozen encoder that teaches: the base, another encoder or a run of mtcl; its vectors of a task's training texts.

They are embedded once and kept beside the token store. The file's name holds a digest of the teacher's weights, so
another teacher never finds it. It is written whole or not at all, under a lock: of several processes that ask at once,
one embeds and the others wait.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
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
from mtcl.files import written_whole
from mtcl.types import IntArray, Ragged

BASE = "base"
"""As a teacher's name: the encoder before training, with the projection it began with."""
BLOCK = 4096


@dataclass(frozen=True)
class Teacher:
    """An encoder, and its own tokenizer; None where it reads the store's tokens, a task's prompt among them."""

    encoder: Encoder
    tokenizer: Tokenizer | None = None

    @classmethod
    def load(cls, name: str, *, like: EncoderConfig, own_tokenizer: str, device: torch.device) -> Teacher:
        """The teacher that a run folder, a checkpoint, or a folder or Hub name of an encoder stands for.

        `like` has what a bare encoder does not say of itself; `own_tokenizer` is the digest of the run's tokenizer.
        """
        if is_checkpoint(Path(name)):
            run = TextEncoder.load(Path(name), device=str(device))
            return cls(run.model, None if run.tokenizer.digest == own_tokenizer else run.tokenizer)
        folder = resolve_model(name)
        config = replace(like, name=name, revision=None, dim=None, pooling=pooling_of(folder) or like.pooling)
        return cls(Encoder.load(config).to(device), tokenizer_of(config))

    def tokens(self, store: TokenStore, rows: IntArray) -> Ragged:
        """The texts `rows` of a store as the teacher reads them."""
        if self.tokenizer is None:
            return store.tokens.take(rows)
        longest = min(self.tokenizer.backend.model_max_length, 512)
        return self.tokenizer([text[:MAX_CHARACTERS] for text in store.texts().take(rows).to_pylist()], longest)


def vectors_file(
    store: TokenStore, teacher: Teacher, embed: Callable[[Encoder, Ragged], Tensor], *, precision: str
) -> Path:
    """The file (.npy) of the teacher's unit vectors (T, E), float32, in the order of the store's texts.

    `precision` is what `embed` computes in. Raises `OSError` where the disk has no room for the file.
    """
    from filelock import FileLock

    read = "store" if teacher.tokenizer is None else teacher.tokenizer.digest[:8]
    name = f"teacher-{digest_of(teacher.encoder)}-{teacher.encoder.pooling}-{read}-{precision}.npy"
    path = store.folder / name
    with FileLock(f"{path}.lock"):
        if not path.exists():
            with written_whole(path, alone=True) as aside:
                _write_vectors(aside, store, teacher, embed)
    return path


def _write_vectors(path: Path, store: TokenStore, teacher: Teacher, embed: Callable[[Encoder, Ragged], Tensor]) -> None:
    shape = (len(store.tokens), teacher.encoder.dim)
    vectors_TE = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    if hasattr(os, "posix_fallocate"):  # else a full disk is a SIGBUS
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    for start in range(0, len(vectors_TE), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(vectors_TE)))
        vectors_TE[rows] = embed(teacher.encoder, teacher.tokens(store, rows)).float().numpy()
    vectors_TE.flush()
