"""Finds near copies: texts that differ only in case, punctuation and white space, or in one word.

A text is read as words without punctuation and case; a Chinese, Japanese or Thai character counts as a word. It has one
hash of all its words and, from `WORDS_FOR_CHANGE` words on, one hash without each single word: texts that differ in one
word share one of these. The hash of a sequence is a polynomial of the hashes of its words, so the hashes without a word
are computed from sums before and after it, for all texts at once. A million texts take 9 s of CPU time
(docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from mtcl.arrays import IntArray, offsets_of
from mtcl.console import track
from mtcl.data.pseudorandom import UIntArray, mix

if TYPE_CHECKING:
    import pyarrow as pa

WORDS_FOR_COPY = 3
"""The least words of a text that can have near copies: otherwise `C++` and `C#` would be equal."""
WORDS_FOR_CHANGE = 8
"""The least words of a text that can have near copies with another word: `what is a dog` and `what is a cat` differ."""
BLOCK = 1 << 14
"""The number of texts that are read at a time."""
ALONE = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}])"
NOT_IN_WORDS = r"[^\p{L}\p{M}\p{N}]+"
BASE = np.uint64(0x9E3779B97F4A7C15)
INVERSE = np.uint64(pow(int(BASE), -1, 1 << 64))
"""BASE * INVERSE = 1 modulo 2^64."""


@dataclass(frozen=True)
class Prints:
    """Hashes of texts, and the number of each hash's text."""

    hashes: UIntArray
    texts: IntArray


def prints(texts: pa.Array | pa.ChunkedArray) -> Iterator[Prints]:
    """The hashes of texts, block by block. Texts with too few words have none."""
    for start in track(range(0, len(texts), BLOCK), "look for near copies"):
        codes_S, lengths_T = _words(texts.slice(start, BLOCK))
        found = _prints(codes_S, lengths_T)
        yield Prints(found.hashes, found.texts + start)


@dataclass(frozen=True)
class Copies:
    """Near copies: the numbers of the index's texts that have one, one copy of each, and the rows of all copies."""

    own: IntArray
    copies: IntArray
    rows: IntArray


class NearCopies:
    """An index of texts whose near copies are looked up. An exact copy of a text is a near copy, too."""

    def __init__(self, texts: pa.Array | pa.ChunkedArray) -> None:
        parts = list(prints(texts))
        hashes = np.concatenate([np.empty(0, dtype=np.uint64), *(part.hashes for part in parts)])
        self._owners = np.concatenate([np.empty(0, dtype=np.int64), *(part.texts for part in parts)])
        self._hashes, self._place_of_owner = np.unique(hashes, return_inverse=True)

    def among(self, texts: pa.Array | pa.ChunkedArray) -> Copies:
        """The near copies of the index's texts among `texts`."""
        copy_of_hash = np.full(len(self._hashes), -1, dtype=np.int64)
        rows = [np.empty(0, dtype=np.int64)]
        for part in prints(texts) if len(self._hashes) else ():
            places = np.searchsorted(self._hashes, part.hashes).clip(max=len(self._hashes) - 1)
            is_there = self._hashes[places] == part.hashes
            copy_of_hash[places[is_there]] = part.texts[is_there]
            rows.append(part.texts[is_there])
        copy_of_owner = copy_of_hash[self._place_of_owner]
        own, first = np.unique(self._owners[copy_of_owner >= 0], return_index=True)
        return Copies(own, copy_of_owner[copy_of_owner >= 0][first], np.unique(np.concatenate(rows)))


def _words(texts: pa.Array | pa.ChunkedArray) -> tuple[UIntArray, IntArray]:
    """The hash of each word of all texts, one text after the other, and the number of words of each text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = pc.utf8_lower(pc.utf8_normalize(texts.cast(pa.large_string()), form="NFKC"))
    plain = pc.replace_substring_regex(plain, pattern=ALONE, replacement=r" \1 ")
    plain = pc.utf8_trim(pc.replace_substring_regex(plain, pattern=NOT_IN_WORDS, replacement=" "), characters=" ")
    if isinstance(plain, pa.ChunkedArray):
        plain = plain.combine_chunks()
    split = pc.split_pattern(plain, pattern=" ")
    lengths = np.where(np.asarray(pc.binary_length(plain)) > 0, np.asarray(pc.list_value_length(split)), 0)
    words = pc.dictionary_encode(pc.list_flatten(split))
    distinct = (xxhash.xxh3_64_intdigest(word.as_py().encode()) for word in words.dictionary)
    hashes = np.fromiter(distinct, dtype=np.uint64, count=len(words.dictionary))
    return hashes[np.asarray(words.indices)][np.repeat(lengths > 0, np.maximum(lengths, 1))], lengths.astype(np.int64)


def _prints(words_S: UIntArray, lengths_T: IntArray) -> Prints:
    """The hash of the word at place i is multiplied by BASE^i; sums wrap at 2^64."""
    texts_T = np.arange(len(lengths_T))
    offsets = offsets_of(lengths_T)
    owner_S = np.repeat(texts_T, lengths_T)
    place_S = np.arange(len(words_S)) - np.repeat(offsets[:-1], lengths_T)
    powers = np.cumprod(np.full(int(lengths_T.max(initial=0)) + 1, BASE)) * INVERSE
    terms_S = words_S * powers[place_S]
    before_S = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(terms_S, dtype=np.uint64)])
    whole_T = before_S[offsets[1:]] - before_S[offsets[:-1]]
    start_S, end_S = np.repeat(before_S[offsets[:-1]], lengths_T), np.repeat(before_S[offsets[1:]], lengths_T)
    without_S = (before_S[:-1] - start_S) + (end_S - before_S[1:]) * INVERSE
    is_long_T, is_longer_S = lengths_T >= WORDS_FOR_COPY, (lengths_T >= WORDS_FOR_CHANGE)[owner_S]
    hashes = np.concatenate([whole_T[is_long_T], without_S[is_longer_S]])
    return Prints(mix(hashes), np.concatenate([texts_T[is_long_T], owner_S[is_longer_S]]))
