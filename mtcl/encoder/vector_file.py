"""Files of vectors next to a token store: computed once, block by block, and memory-mapped by every reader.

A file is written atomically, under a lock: if several processes ask at once, one computes and the others wait. Its name
must contain all that its values depend on, so that a stale file is never read. It ends with a digest of its content,
which opening the store checks (`mtcl.data.store.prepare`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from mtcl.arrays import IntArray, Ragged
from mtcl.data.intact import sign
from mtcl.data.store import TokenStore
from mtcl.encoder.backbone import function_digest
from mtcl.encoder.encoder import Encoder
from mtcl.files import written_whole

BLOCK = 4096


def rows_file(path: Path, shape: tuple[int, int], vectors_of: Callable[[IntArray], Tensor]) -> Path:
    """The file `path` (.npy, float32) of vectors, row by row; if missing, it is made by `vectors_of` of row numbers.

    Raises `OSError` if the disk has no room for the file.
    """
    from filelock import FileLock

    with FileLock(f"{path}.lock"):
        if not path.exists():
            with written_whole(path, alone=True) as aside:
                _write(aside, shape, vectors_of)
                sign(aside)
    return path


def pooled_file(store: TokenStore, encoder: Encoder, embed: Callable[[Ragged], Tensor], *, precision: str) -> Path:
    """The file of the pooled hidden states (T, H) of a frozen backbone, in the order of the store's texts.

    `precision` is the precision that `embed` computes in. Its name has a digest of all that determines a pooled state
    apart from the tokens, which the store's folder determines.
    """
    facts = [function_digest(encoder.backbone), *encoder.pooled_by(), precision]
    name = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

    def states(rows: IntArray) -> Tensor:
        return embed(store.tokens.take(rows))

    return rows_file(store.folder / f"pooled-{name}.npy", (len(store.tokens), encoder.pooled_dim), states)


def _write(path: Path, shape: tuple[int, int], vectors_of: Callable[[IntArray], Tensor]) -> None:
    vectors_TE = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    if hasattr(os, "posix_fallocate"):  # otherwise a full disk causes a SIGBUS
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    for start in range(0, len(vectors_TE), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(vectors_TE)))
        vectors_TE[rows] = vectors_of(rows).float().numpy()
    vectors_TE.flush()
