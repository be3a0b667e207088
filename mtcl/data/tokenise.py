"""Tokenises the texts of a store in chunks. Memory use does not grow with the number of tokens.

The tokenizer's own threads use all cores: they take about 50 us per text, Python 2 us for the rest. Finished chunks are
kept next to the store until it is complete, so a build that continues after a kill does not tokenise them again. The
name of a chunk's file has a hash of its texts.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xxhash

from mtcl.arrays import IntArray, Ragged, offsets_of
from mtcl.console import track
from mtcl.files import written_whole
from mtcl.task.spill import let_go

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 4096
"""The number of texts that the tokenizer reads at a time."""
CHUNK = 64 * BATCH
"""The number of texts in a finished chunk's file."""
Read = Callable[[list[str], IntArray], tuple[Ragged, int]]
"""From texts and their sides to tokens, and the number of texts that were cut before."""


@dataclass(frozen=True)
class Tokenised:
    """Tokens of N texts, hashes (N,) that are equal for equal tokens, and the number of texts that were cut before."""

    tokens: Ragged
    identity: IntArray
    num_cut: int


def tokenise(
    folder: Path, texts: pa.Array, sides: IntArray, read: Read, *, dtype: type[np.generic], kept: Path, title: str
) -> tuple[int, int]:
    """Write tokens and identities of all texts to `folder`, and return how many were cut and how many differ as tokens.

    `kept` is the folder of finished chunks; there are none if all texts are in one chunk.
    """
    lengths, identity = np.zeros(len(texts), dtype=np.int64), np.empty(len(texts), dtype=np.int64)
    num_cut = 0
    with growing_array(folder / "tokens_values.npy", dtype) as write:
        for start in range(0, len(texts), CHUNK):
            some, end = texts.slice(start, CHUNK), min(start + CHUNK, len(texts))
            told = f"tokenise {title}" + (f", {start:,} of {len(texts):,}" if len(texts) > CHUNK else "")
            if len(texts) <= CHUNK:
                found = _tokenised(some, sides, read, told)
            else:
                found = _kept(kept, some, sides[start:end], read, told)
            write(found.tokens.values)
            lengths[start:end], identity[start:end] = found.tokens.lengths(), found.identity
            num_cut += found.num_cut
            let_go()
    np.save(folder / "tokens_offsets.npy", offsets_of(lengths))
    np.save(folder / "identity.npy", identity)
    return num_cut, len(np.unique(identity))


def _kept(folder: Path, texts: pa.Array, sides: IntArray, read: Read, told: str) -> Tokenised:
    """A chunk that an earlier build has finished, or else this one."""
    path = folder / f"{_digest(texts, sides)}.npz"
    try:
        with np.load(path) as file:
            return Tokenised(Ragged(file["offsets"], file["values"]), file["identity"], int(file["num_cut"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # there is none, or it is damaged
        found = _tokenised(texts, sides, read, told)
        with written_whole(path, alone=True) as aside, aside.open("wb") as file:
            np.savez(
                file,
                offsets=found.tokens.offsets,
                values=found.tokens.values,
                identity=found.identity,
                num_cut=found.num_cut,
            )
        return found


def _tokenised(texts: pa.Array, sides: IntArray, read: Read, told: str) -> Tokenised:
    """The next batch is tokenised, outside of Python's lock, while the current one is hashed."""

    def batch(start: int) -> tuple[Ragged, int]:
        return read(texts.slice(start, BATCH).to_pylist(), sides[start : start + BATCH])

    parts, hashes, num_cut = [], [], 0
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(batch, 0)
        for start in track(range(0, len(texts), BATCH), told):
            tokens, cut = ahead.result()
            ahead = pool.submit(batch, start + BATCH)
            parts.append(tokens)
            hashes += [xxhash.xxh3_64_intdigest(tokens[row].tobytes()) for row in range(len(tokens))]
            num_cut += cut
    lengths = np.concatenate([part.lengths() for part in parts])
    tokens = Ragged(offsets_of(lengths), np.concatenate([part.values for part in parts]))
    return Tokenised(tokens, np.array(hashes, dtype=np.uint64).view(np.int64), num_cut)


def _digest(texts: pa.Array, sides: IntArray) -> str:
    import pyarrow as pa

    texts = texts.cast(pa.large_string())
    offsets = np.frombuffer(texts.buffers()[1], dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    digest = xxhash.xxh3_128(memoryview(texts.buffers()[2])[offsets[0] : offsets[-1]])
    digest.update((offsets - offsets[0]).tobytes())
    digest.update(np.ascontiguousarray(sides).tobytes())
    return digest.hexdigest()


@contextmanager
def growing_array(path: Path, dtype: type[np.generic]) -> Iterator[Callable[[npt.NDArray[Any]], None]]:
    """Write a one-dimensional .npy file piece by piece; numpy's header has room for the final size."""
    size = 0
    with path.open("wb") as file:

        def write_header() -> None:
            file.seek(0)
            settings = {
                "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
                "fortran_order": False,
                "shape": (size,),
            }
            np.lib.format.write_array_header_1_0(file, settings)

        def write(piece: npt.NDArray[Any]) -> None:
            nonlocal size
            file.write(np.ascontiguousarray(piece, dtype=dtype).data)
            size += len(piece)

        write_header()
        yield write
        write_header()
