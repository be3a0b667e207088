"""Distinct texts and their numbers, in memory that does not grow with the lengths of the texts.

A text is known by 128 bits of xxh3: among 10^9 texts, two have equal bits with a chance below 10^-20. For each text, a
table with open addressing needs 28 to 40 bytes; numpy searches it for many texts at a time. The texts themselves are
appended to a file (`spill.py`). docs/log.md compares this with DuckDB and Polars.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import xxhash

from mtcl.arrays import IntArray
from mtcl.errors import DataError
from mtcl.task.spill import Growing, passing

if TYPE_CHECKING:
    import pyarrow as pa

    Column: TypeAlias = pa.Array | pa.ChunkedArray

BLOCK = 1 << 17
"""Texts that are handled at a time."""
ROOM = 1 << 9
"""Texts that a numbering has room for at first; a power of two, and doubled when it is full."""
FREE = -1
Hashes = npt.NDArray[np.uint64]


class Numbering:
    """Numbers distinct texts from 0, in the order of their first occurrence."""

    def __init__(self) -> None:
        self._num = self._num_bytes = 0
        self._hashes_T2: Hashes = np.empty((ROOM, 2), dtype=np.uint64)
        self._slots = self._free_slots()
        self._offsets, self._content = Growing(), Growing()
        self._offsets.write(np.zeros(1, dtype=np.int64).tobytes())
        self._known: dict[int, tuple[Column, IntArray]] = {}

    def __len__(self) -> int:
        return self._num

    def of(self, column: Column) -> IntArray:
        """(N,) the number of each text; a new text gets the next one. Raises `DataError` for a null."""
        if id(column) not in self._known:  # the column is kept, too, so no other object has its id
            if column.null_count:
                raise DataError(f"{column.null_count:,} texts are null: leave those rows out")
            numbers: IntArray = np.empty(len(column), dtype=np.int64)
            start = 0
            for block in blocks_of(column):
                numbers[start : start + len(block)] = self._of_block(block)
                start += len(block)
            self._known[id(column)] = column, numbers
        return self._known[id(column)][1]

    def texts(self) -> pa.LargeStringArray:
        """(T,) the distinct texts in the order of their numbers."""
        import pyarrow as pa

        return pa.LargeStringArray.from_buffers(self._num, self._offsets.buffer(), self._content.buffer())

    def _of_block(self, texts: pa.LargeStringArray) -> IntArray:
        import pyarrow as pa

        encoded = texts.dictionary_encode()
        distinct = encoded.dictionary.cast(pa.large_binary())
        digests = b"".join(map(xxhash.xxh3_128_digest, distinct.to_pylist()))
        hashes_D2 = np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2)
        numbers_D = self._find(hashes_D2)
        new = np.flatnonzero(numbers_D == FREE)
        numbers_D[new] = self._add(hashes_D2[new])
        self._append(distinct.take(pa.array(new)))
        numbers: IntArray = numbers_D[np.asarray(encoded.indices)]
        return numbers

    def _find(self, hashes_D2: Hashes) -> IntArray:
        """(D,) the number of the text with each hash, `FREE` if there is none."""
        numbers_D = np.full(len(hashes_D2), FREE, dtype=np.int64)
        open_D, places = np.arange(len(hashes_D2)), self._first_places(hashes_D2)
        while len(open_D):
            found = self._slots[places]
            is_taken = found != FREE
            open_D, places, found = open_D[is_taken], places[is_taken], found[is_taken]
            is_same = (self._hashes_T2[found] == hashes_D2[open_D]).all(axis=1)
            numbers_D[open_D[is_same]] = found[is_same]
            open_D, places = open_D[~is_same], (places[~is_same] + 1) % len(self._slots)
        return numbers_D

    def _add(self, hashes_D2: Hashes) -> IntArray:
        """(D,) the next numbers, for texts with these hashes, which are distinct and new."""
        numbers_D = np.arange(self._num, self._num + len(hashes_D2))
        first, self._num = self._num, self._num + len(hashes_D2)
        while self._num > len(self._hashes_T2):
            self._hashes_T2, before = np.empty((2 * len(self._hashes_T2), 2), dtype=np.uint64), self._hashes_T2
            self._hashes_T2[:first] = before[:first]
        self._hashes_T2[numbers_D] = hashes_D2
        if len(self._slots) < 2 * len(self._hashes_T2):
            self._slots, first = self._free_slots(), 0
        for start in range(first, self._num, BLOCK):
            self._place(np.arange(start, min(start + BLOCK, self._num)))
        return numbers_D

    def _place(self, numbers: IntArray) -> None:
        """Put each number into the first free slot from its own place on."""
        places = self._first_places(self._hashes_T2[numbers])
        while len(numbers):
            is_free = self._slots[places] == FREE
            self._slots[places[is_free]] = numbers[is_free]
            is_open = self._slots[places] != numbers  # also where two of them wanted the same slot
            numbers, places = numbers[is_open], (places[is_open] + 1) % len(self._slots)

    def _first_places(self, hashes: Hashes) -> IntArray:
        return (hashes[:, 0] & np.uint64(len(self._slots) - 1)).astype(np.int64)

    def _free_slots(self) -> IntArray:
        """As many slots as keep at least half of them free."""
        return np.full(2 * len(self._hashes_T2), FREE, dtype=np.int32)

    def _append(self, new: pa.LargeBinaryArray) -> None:
        lengths = np.diff(np.frombuffer(new.buffers()[1], dtype=np.int64, count=len(new) + 1))
        self._offsets.write((self._num_bytes + np.cumsum(lengths)).tobytes())
        self._content.write(new.buffers()[2].to_pybytes() if len(new) else b"")
        self._num_bytes += int(lengths.sum())


def blocks_of(column: Column) -> Iterator[pa.LargeStringArray]:
    """The texts of a column, at most `BLOCK` at a time."""
    import pyarrow as pa

    chunks = [column] if isinstance(column, pa.Array) else column.chunks
    blocks = (chunk.slice(start, BLOCK) for chunk in chunks for start in range(0, len(chunk), BLOCK))
    for block in passing(blocks):
        yield block.cast(pa.large_string())


def in_order(numbers: IntArray, *, size: int) -> IntArray:
    """The distinct numbers below `size`, in the order of their first occurrence."""
    first = np.full(size, len(numbers))
    for start in reversed(range(0, len(numbers), BLOCK)):  # of equal numbers, the last assignment counts
        block = numbers[start : start + BLOCK]
        first[block[::-1]] = np.arange(start, start + len(block))[::-1]
    found = np.flatnonzero(first < len(numbers))
    return found[np.argsort(first[found])]


def occurring(numbers: IntArray, *, size: int) -> IntArray:
    """The distinct numbers below `size`, sorted."""
    is_there = np.zeros(size, dtype=np.bool_)
    is_there[numbers] = True
    return np.flatnonzero(is_there)
