"""A frozen encoder's vectors of a task's training texts, embedded once and kept beside the token store.

The file's name holds a digest of the teacher's weights, so another teacher never finds it. Written aside under a lock,
renamed when whole: of several processes that ask at once, one embeds and the others wait.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from mtcl.encoder import Encoder, digest_of
from mtcl.store import MAX_CHARACTERS, Tokenizer, TokenStore
from mtcl.types import Ragged

BASE = "base"
"""As a teacher's name: the encoder before training, with the projection it began with."""
BLOCK = 4096


def vectors_file(
    store: TokenStore, encoder: Encoder, embed: Callable[[Encoder, Ragged], Tensor], tokenizer: Tokenizer | None = None
) -> Path:
    """The file (.npy) of the teacher's unit vectors (T, E), float32, in the order of the store's texts.

    `tokenizer` is the teacher's own; None where it reads the store's tokens.
    """
    from filelock import FileLock

    read = "store" if tokenizer is None else tokenizer.digest[:8]
    path = store.folder / f"teacher-{digest_of(encoder)}-{encoder.pooling}-{read}.npy"
    with FileLock(f"{path}.lock"):
        if not path.exists():
            for left_over in path.parent.glob(f".{path.name}.*"):
                left_over.unlink()
            aside = path.with_name(f".{path.name}.{os.getpid()}")
            vectors_TE = np.lib.format.open_memmap(
                aside, mode="w+", dtype=np.float32, shape=(len(store.tokens), encoder.dim)
            )
            for start in range(0, len(vectors_TE), BLOCK):
                rows = np.arange(start, min(start + BLOCK, len(vectors_TE)))
                tokens = store.tokens.take(rows) if tokenizer is None else _tokens(store, rows, tokenizer)
                vectors_TE[rows] = embed(encoder, tokens).float().numpy()
            vectors_TE.flush()
            aside.rename(path)
    return path


def _tokens(store: TokenStore, rows: np.ndarray[tuple[int], np.dtype[np.int64]], tokenizer: Tokenizer) -> Ragged:
    longest = min(tokenizer.backend.model_max_length, 512)
    texts = [text[:MAX_CHARACTERS] for text in store.texts().take(rows).to_pylist()]
    return tokenizer(texts, longest)
