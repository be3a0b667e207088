"""Embeddings of many texts on disk, in shards: what a killed process has finished is there for the next one.

A shard is whole or absent; shards are memory-mapped, so only the rows that are read take memory.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mtcl.console import track
from mtcl.files import written_whole
from mtcl.types import IntArray, Ragged

SHARD = 8192
FloatArray = npt.NDArray[np.float32]


class Embeddings:
    """(T, D) float32 as files of `SHARD` rows; rows are read in any order."""

    def __init__(self, paths: list[Path]) -> None:
        self._shards: list[FloatArray] = [np.load(path, mmap_mode="r") for path in paths]
        self.dim = self._shards[0].shape[1]

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def take(self, rows: IntArray) -> FloatArray:
        """(len(rows), D) in memory."""
        taken = np.empty((len(rows), self.dim), dtype=np.float32)
        for number in np.unique(rows // SHARD):
            here = rows // SHARD == number
            taken[here] = self._shards[number][rows[here] % SHARD]
        return taken


def embeddings_of(
    tokens: Ragged, embed: Callable[[Ragged], Tensor], folder: Path, *, what: str = "texts"
) -> Embeddings:
    """The embeddings of `tokens` by `embed`, shards that `folder` holds already left as they are.

    `folder` must be named after all that decides the values; `what` is said beside the progress over shards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in track(range(-(-len(tokens) // SHARD)), f"embed {what}"):
        path = folder / f"{number:06d}.npy"
        if not path.exists():
            rows = np.arange(number * SHARD, min((number + 1) * SHARD, len(tokens)))
            with written_whole(path) as aside, aside.open("wb") as file:
                np.save(file, embed(tokens.take(rows)).numpy())
        paths.append(path)
    return Embeddings(paths)
