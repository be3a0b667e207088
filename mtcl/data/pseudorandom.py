"""Pseudo-random functions of plain numbers: the same in every process and on every machine, without any state.

`permute` shuffles without a list of what is shuffled, so an epoch of 100 million pairs takes no memory.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt

from mtcl.arrays import IntArray

UIntArray = npt.NDArray[np.uint64]


def stream_key(*parts: object) -> int:
    """A 64-bit key from plain values, the same in every process and on every machine."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "little")


def mix(values: UIntArray) -> UIntArray:
    """The finaliser of splitmix64 (Steele et al. 2014): 64 well-mixed bits from 64, modulo 2^64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def permute(ranks: IntArray, *, size: int, key: int) -> IntArray:
    """The image of each rank in [0, size) under the permutation given by `key`, vectorised.

    A generalised Feistel network permutes pairs (left, right), whose number is just above `size`. A result outside of
    `size` is permuted again until it is inside (cycle walking).
    """
    lefts = np.uint64(math.isqrt(size - 1) + 1)
    rights = np.uint64(-(-size // int(lefts)))
    found = ranks.astype(np.uint64)
    outside = np.ones(len(found), dtype=bool)
    while outside.any():
        found[outside] = _feistel(found[outside], lefts, rights, key)
        outside = found >= size
    return found.astype(np.int64)


def _feistel(values: UIntArray, lefts: np.uint64, rights: np.uint64, key: int) -> UIntArray:
    """Each half-round adds a function of one half to the other half, which is invertible for any function."""
    round_keys = [np.uint64((key + 0x9E3779B97F4A7C15 * number) % (1 << 64)) for number in range(1, 5)]
    left, right = values % lefts, values // lefts
    for one, other in (round_keys[:2], round_keys[2:]):
        left = (left + mix(right ^ one) % lefts) % lefts
        right = (right + mix(left ^ other) % rights) % rights
    return left + right * lefts
