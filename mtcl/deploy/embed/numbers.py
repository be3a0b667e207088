"""The types of numbers that vectors are stored as: float32, float16, int8 with ranges, or one bit per dimension.

int8 is that of sentence-transformers' `quantize_embeddings`, with rounding to the nearest level: dimension d has 256
levels from `low[d]` to `high[d]`, and values outside are clipped. Binary is its `ubinary`: bit 1 for a value above
0, eight dimensions per byte, the first one in the highest bit.

Letters: n rows, D dimensions, B bytes of a row, ceil(D / 8).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from mtcl.arrays import Float32Array, FloatArray
from mtcl.errors import ConfigError, DataError, listed

if TYPE_CHECKING:
    import pyarrow as pa

NumberType = Literal["float32", "float16", "int8", "binary"]
NUMBER_TYPES: tuple[NumberType, ...] = get_args(NumberType)
LEVELS = 255
"""Steps between the lowest and the highest level of int8."""
LEAST_RANGE = 1e-6
"""A dimension that is constant in the sample still gets a range of this width."""
SAMPLE, SAMPLED_FILES = 4096, 16
"""The number of rows that the ranges of int8 are computed from, and the most files that they come from."""
LEAST_SAMPLE = 256
"""With ranges of n vectors, about 2 / n of the values of other ones are clipped (docs/embed.md has the figures)."""
MOST_CLIPPED = 0.02
"""A file with a larger share of values at the ends of their ranges gets a warning."""
File = TypeVar("File")
Stored = npt.NDArray[Any]
log = logging.getLogger("mtcl")


def sampled(files: Sequence[File]) -> tuple[list[File], int]:
    """The sample for the ranges of int8: files spread over all, and the number of rows from the start of each."""
    num = min(len(files), SAMPLED_FILES)
    return [files[number * len(files) // num] for number in range(num)], -(-SAMPLE // max(1, num))


@dataclass(frozen=True)
class Ranges:
    """The lowest and the highest value of each dimension that int8 can hold."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def of(cls, sample_nD: FloatArray) -> Ranges:
        """The ranges of a sample's values."""
        low_D = sample_nD.min(axis=0).astype(np.float32)
        high_D = np.maximum(sample_nD.max(axis=0), low_D + LEAST_RANGE).astype(np.float32)
        return cls(tuple(map(float, low_D)), tuple(map(float, high_D)))

    @classmethod
    def of_enough(cls, sample_nD: FloatArray) -> Ranges:
        """The ranges of a sample's values. Raises `DataError` if too few vectors differ."""
        if (distinct := len(np.unique(sample_nD, axis=0))) < LEAST_SAMPLE:
            raise DataError(
                f"dtype int8 takes its ranges from the first vectors of the inputs, and only {distinct:,} of them "
                f"differ, fewer than {LEAST_SAMPLE}: give more or larger inputs at first, or --dtype float16"
            )
        return cls.of(sample_nD)

    @classmethod
    def of_plain(cls, given: Any, *, dim: int) -> Ranges:
        """Read what `plain` gives. Raises `ValueError` for anything else."""
        found = np.asarray(given, dtype=np.float64)
        if found.shape != (2, dim) or not np.isfinite(found).all() or (found[1] <= found[0]).any():
            raise ValueError(f"ranges are not two rows of {dim} rising numbers")
        return cls(tuple(found[0].tolist()), tuple(found[1].tolist()))

    def plain(self) -> list[list[float]]:
        """Two rows, as sentence-transformers takes them."""
        return [list(self.low), list(self.high)]

    @property
    def lowest(self) -> Float32Array:
        """(D,) the value of the lowest level, -128."""
        return np.array(self.low, dtype=np.float32)

    @property
    def step(self) -> Float32Array:
        """(D,) the difference between two levels."""
        found_D: Float32Array = ((np.array(self.high) - np.array(self.low)) / LEVELS).astype(np.float32)
        return found_D


@dataclass(frozen=True)
class Numbers:
    """Vectors of `dim` dimensions in one of the types; `ranges` are those of int8."""

    kind: NumberType
    dim: int
    ranges: Ranges | None = None

    def __post_init__(self) -> None:
        if self.kind not in NUMBER_TYPES:
            raise ConfigError(f"dtype is {self.kind!r}: give {listed(NUMBER_TYPES)}")
        assert (self.ranges is not None) == (self.kind == "int8")

    @property
    def width(self) -> int:
        """The number of values in a stored row: dimensions, or bytes of binary vectors."""
        return -(-self.dim // 8) if self.kind == "binary" else self.dim

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the stored arrays."""
        return np.dtype({"float32": np.float32, "float16": np.float16, "int8": np.int8, "binary": np.uint8}[self.kind])

    def encode(self, vectors_nD: FloatArray) -> Stored:
        """(n, width) in the stored type."""
        match self.kind:
            case "int8":
                assert self.ranges is not None
                levels_nD: Float32Array = np.rint((vectors_nD - self.ranges.lowest) / self.ranges.step)
                return (levels_nD.clip(0, LEVELS) - 128).astype(np.int8)
            case "binary":
                return np.packbits(vectors_nD > 0, axis=1)
        return vectors_nD.astype(self.dtype)

    def decode(self, stored: Stored) -> Float32Array:
        """(n, D) float32: int8 to the middle of its level, a bit to 1 or -1."""
        match self.kind:
            case "int8":
                assert self.ranges is not None
                return (stored.astype(np.float32) + 128) * self.ranges.step + self.ranges.lowest
            case "binary":
                bits_nD = np.unpackbits(stored, axis=1, count=self.dim)
                return bits_nD.astype(np.float32) * 2 - 1
        return stored.astype(np.float32)

    def num_clipped(self, stored: Stored) -> int:
        """Values of int8 at an end of their range: those that were clipped, and hardly any others."""
        if self.ranges is None:
            return 0
        varying_D = self.ranges.step * LEVELS > 2 * LEAST_RANGE
        return int(((stored == -128) | (stored == 127))[:, varying_D].sum())

    def warn_if_clipped(self, name: str, num_clipped: int, num_rows: int) -> None:
        """Warn if many values of a file are at an end of their range."""
        share = num_clipped / max(1, num_rows * self.dim)
        if share > MOST_CLIPPED:
            log.warning(
                "%s: %.1f %% of the values are at an end of their int8 range, which comes from the first inputs, so "
                "search finds wrong neighbours: embed all inputs into another folder, with texts like these among the "
                "first ones, or with --dtype float16",
                name,
                100 * share,
            )

    def column(self, stored: Stored) -> pa.Array:
        """A fixed-size list column."""
        import pyarrow as pa

        return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(stored).reshape(-1)), self.width)

    def from_column(self, column: pa.ChunkedArray | pa.Array) -> Stored:
        """(n, width) stored values from a column that `column` made."""
        import pyarrow as pa

        chunks: Sequence[Any] = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        parts = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, self.width) for chunk in chunks]
        return np.concatenate(parts) if parts else np.empty((0, self.width), dtype=self.dtype)
