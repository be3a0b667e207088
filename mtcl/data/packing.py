"""Packs texts of any length into a few dense chunks: sorted by length and divided at the lowest cost.

This happens where the batch is assembled (in a worker process), so that the training process only multiplies matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtcl.arrays import IntArray, Ragged, offsets_of
from mtcl.data.parcel import Parcel

LAUNCH = {"cpu": 128, "cuda": 16_384}
"""A chunk's fixed time, as a number of tokens that take as long. On two cores in bf16 it is 15 ms, where 2,048 tokens
take 210 ms. On a GPU the host starts kernels for 20 ms per chunk (6 layers, forward and backward) or 40 ms (12 layers),
whatever the chunk's size (docs/performance.md).
"""


@dataclass(frozen=True)
class Chunk:
    """Texts of similar length: token ids (n, L), mask (n, L), 1 for a token and 0 for padding, and the flat positions
    (S,) of the tokens in both, text after text; all int64.
    """

    ids: Tensor
    mask: Tensor
    places_S: Tensor

    @property
    def row(self) -> Tensor:
        """(1, S) ids without padding, text after text."""
        return self.ids.flatten()[self.places_S][None]

    def map(self, apply: Any) -> Chunk:
        return Chunk(apply(self.ids), apply(self.mask), apply(self.places_S))


@dataclass(frozen=True)
class Packed:
    """Chunks, and the place of each text: text t is row `place_T[t]` of the concatenated rows of all chunks."""

    chunks: tuple[Chunk, ...]
    place_T: Tensor
    num_tokens: int

    def to(self, device: torch.device | str) -> Packed:
        return self if self.place_T.device == torch.device(device) else Parcel.of(self).to(device).open()

    @property
    def num_padded(self) -> int:
        """Tokens and padding together."""
        return sum(chunk.ids.numel() for chunk in self.chunks)

    def map(self, apply: Any) -> Packed:
        return Packed(tuple(chunk.map(apply) for chunk in self.chunks), apply(self.place_T), self.num_tokens)


def pack(tokens: Ragged, *, tokens_per_chunk: int, launch: int | None = None, padding: float = 1.0) -> Packed:
    """Pack texts into chunks of at most `tokens_per_chunk` tokens with padding; a longer text gets its own chunk.

    A place of padding costs `padding` tokens. With 1 or more, `launch` is a chunk's fixed cost in tokens, by default
    `launch_cost()`; with less, chunks are as few as possible.
    """
    lengths = tokens.lengths()
    order = np.argsort(-lengths, kind="stable")
    if padding < 1:
        ends = filled_ends(lengths[order], tokens_per_chunk=tokens_per_chunk, padding=padding)
    else:
        launch = launch_cost() if launch is None else launch
        ends = chunk_ends(lengths[order], tokens_per_chunk=tokens_per_chunk, launch=launch, padding=padding)
    chunks = [
        _chunk(tokens.take(order[start:end]), int(lengths[order[start]]))
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return Packed(tuple(chunks), torch.from_numpy(place), int(lengths.sum()))


@cache
def launch_cost() -> int:
    """`LAUNCH` of this machine. Call it in the main process: in a forked worker no GPU seems to be there."""
    return LAUNCH["cuda" if torch.cuda.is_available() else "cpu"]


def chunk_ends(lengths: IntArray, *, tokens_per_chunk: int, launch: int, padding: float = 1.0) -> list[int]:
    """The ends of the chunks among texts of falling `lengths`, with the lowest total cost, by dynamic programming.

    A chunk costs its tokens, `padding` tokens for each place of padding, and `launch` tokens.
    """
    widths = np.maximum(lengths, 1)
    before = offsets_of(widths)
    cost = np.full(len(lengths) + 1, np.inf)
    cost[0] = 0
    came_from = np.zeros(len(lengths) + 1, dtype=np.int64)
    for start, width in enumerate(widths.tolist()):
        most = min(max(1, tokens_per_chunk // width), len(lengths) - start)
        reached = slice(start + 1, start + 1 + most)
        tokens = before[reached] - before[start]
        found = cost[start] + launch + tokens + padding * (width * np.arange(1, most + 1) - tokens)
        better = found < cost[reached]
        cost[reached][better] = found[better]
        came_from[reached][better] = start
    ends = []
    end = len(lengths)
    while end:
        ends.append(end)
        end = int(came_from[end])
    return ends[::-1]


def filled_ends(lengths: IntArray, *, tokens_per_chunk: int, padding: float) -> list[int]:
    """The ends of the fewest chunks among texts of falling `lengths`, each filled up to `tokens_per_chunk`.

    A place of padding counts as `padding` tokens.
    """
    ends = []
    start = 0
    while start < len(lengths):
        padded = max(1, lengths[start]) * np.arange(1, len(lengths) - start + 1)
        sizes = padding * padded + (1 - padding) * np.cumsum(lengths[start:])
        start += max(1, int(np.searchsorted(sizes, tokens_per_chunk, side="right")))
        ends.append(start)
    return ends


def _chunk(tokens: Ragged, width: int) -> Chunk:
    mask = np.arange(width) < tokens.lengths()[:, None]
    arrays = tokens.padded(width, 0), mask.astype(np.int64), np.flatnonzero(mask)
    return Chunk(*(torch.from_numpy(array) for array in arrays))
