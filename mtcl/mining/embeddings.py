"""Embeddings of many texts on disk, in shards, so that finished shards survive if the process is killed.

Shards are written atomically and memory-mapped, so only the rows that are read take memory.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from mtcl.arrays import Float32Array, IntArray, Ragged
from mtcl.console import track
from mtcl.data.intact import is_signed, sign
from mtcl.files import written_whole

SHARD = 8192


class Embeddings:
    """(T, D) float32 in files of `SHARD` rows; rows can be read in any order."""

    def __init__(self, paths: list[Path]) -> None:
        self._shards: list[Float32Array] = [np.load(path, mmap_mode="r") for path in paths]
        self.dim = self._shards[0].shape[1]

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def take(self, rows: IntArray) -> Float32Array:
        """(len(rows), D) copy in memory."""
        taken = np.empty((len(rows), self.dim), dtype=np.float32)
        for number in np.unique(rows // SHARD):
            here = rows // SHARD == number
            taken[here] = self._shards[number][rows[here] % SHARD]
        return taken


def embeddings_of(
    tokens: Ragged, embed: Callable[[Ragged], Tensor], folder: Path, *, what: str = "texts"
) -> Embeddings:
    """The embeddings of `tokens` by `embed`; shards that already exist in `folder` are reused if they are undamaged.

    The name of `folder` must depend on everything that changes the values. `what` labels the progress bar.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in track(range(-(-len(tokens) // SHARD)), f"embed {what}"):
        path = folder / f"{number:06d}.npy"
        if not (path.exists() and is_signed(path)):
            rows = np.arange(number * SHARD, min((number + 1) * SHARD, len(tokens)))
            with written_whole(path) as aside:
                with aside.open("wb") as file:
                    np.save(file, embed(tokens.take(rows)).numpy())
                sign(aside)
        paths.append(path)
    return Embeddings(paths)
