"""Keys: 64-bit hashes that mark related texts. Two texts that share a key are never negatives of each other. Evaluation
does not use them (`relevance.py`).

Every text has its own key, which ignores case, spacing and how accents are written (as one character or as two: NFC and
NFD). Every anchor also has the keys of all its positives in the table, so a plain table of two columns is protected
too. Ids (of a document, a cluster, a connected component) give more keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple
from unicodedata import normalize

import numpy as np
import numpy.typing as npt
import xxhash

from mtcl.arrays import IntArray, Ragged
from mtcl.task.pairs.numbering import blocks_of
from mtcl.task.pairs.parts import Entries, first_of_equals, grouped

if TYPE_CHECKING:
    import pyarrow as pa

    from mtcl.task.pairs.numbering import Column


class Links(NamedTuple):
    """`texts[i]` belongs to `ids[i]`: a document id, a cluster, a connected component."""

    texts: Column
    ids: Column


def text_key(text: str) -> int:
    """A text's own key: the same for texts that differ only in case, spacing and how accents are written."""
    return int(_keys([text], _of_text)[0])


def text_keys(texts: Column) -> npt.NDArray[np.int64]:
    """(N,) each text's own key."""
    parts = [_keys(block.to_pylist(), _of_text) for block in blocks_of(texts)]
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])


def id_key(name: str) -> int:
    """The key of a document id, cluster or component; it differs from the key of a text with the same characters."""
    return int(_keys([name], _of_id)[0])


def id_keys(ids: Column) -> npt.NDArray[np.int64]:
    """(N,) the key of each id."""
    parts = [np.empty(0, dtype=np.int64)]
    for block in blocks_of(ids):
        encoded = block.dictionary_encode()
        parts.append(_keys(encoded.dictionary.to_pylist(), _of_id)[np.asarray(encoded.indices)])
    return np.concatenate(parts)


def _of_text(text: str) -> str:
    composed = text if text.isascii() else normalize("NFC", text)
    return f"text:{' '.join(composed.split()).casefold()}"


def _of_id(name: str) -> str:
    return f"id:{name}"


def _keys(texts: list[str], marked: Callable[[str], str]) -> npt.NDArray[np.int64]:
    hashes = [xxhash.xxh3_64_intdigest(marked(text).encode()) for text in texts]
    keys = np.array(hashes, dtype=np.uint64).view(np.int64)
    keys[keys == 0] = 1  # 0 pads rows of keys
    return keys


def keys_of(
    texts: Column,
    known: Sequence[tuple[IntArray, IntArray]],
    links: Sequence[tuple[IntArray, npt.NDArray[np.int64]]] = (),
) -> Ragged:
    """Each text's own key, the keys of its positives in `known` (anchors, positives), and other keys in `links` (texts,
    keys). Texts are given by their numbers.

    Texts with the same own key get the same keys.
    """
    own = text_keys(texts)
    first_T = _first_with_key(own)
    entries = [Entries(np.arange(len(own)), own)]
    entries += [Entries(anchors, own, positives) for anchors, positives in known]
    entries += [Entries(rows, keys) for rows, keys in links]
    if (first_T == np.arange(len(first_T))).all():
        return grouped(entries, num_rows=len(own))
    return grouped([one._replace(rows=first_T[one.rows]) for one in entries], num_rows=len(own)).take(first_T)


def _first_with_key(own: IntArray) -> IntArray:
    """(T,) the first text with the same own key. Few texts have equal keys, so only those are compared."""
    ordered = np.sort(own)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    first_T = np.arange(len(own))
    if len(repeated):
        places = np.searchsorted(repeated, own).clip(max=len(repeated) - 1)
        rows = np.flatnonzero(repeated[places] == own)
        first_T[rows] = rows[first_of_equals(places[rows])]
    return first_T


def index_in(values: pa.Array, among: pa.Array) -> IntArray:
    """Position of each value in `among`, which has distinct values; -1 if it is not there."""
    import pyarrow.compute as pc

    found = pc.fill_null(pc.index_in(values.cast(among.type), value_set=among), -1)
    return np.asarray(found, dtype=np.int64)
