"""Keys: 64-bit hashes that mark related texts. Two texts that share a key are never negatives of each other. They don't
say what is relevant in evaluation (`relevance.py`).

Every text has its own key, which ignores case and spacing, and every anchor also has the keys of all its positives in
the table, so this works for a plain table of two columns too. Ids (of a document, a cluster, a connected component)
give more keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from mtcl.types import IntArray, Ragged, group

if TYPE_CHECKING:
    import pyarrow as pa


class Links(NamedTuple):
    """`texts[i]` belongs to `ids[i]`: a document id, a cluster, a connected component."""

    texts: pa.Array
    ids: pa.Array


def text_key(text: str) -> int:
    """A text's own key: the same for texts that differ only in case and spacing."""
    return _signed(xxhash.xxh3_64_intdigest(("text:" + " ".join(text.split()).casefold()).encode()))


def id_key(name: str) -> int:
    """The key of a document id, cluster or component; it differs from the key of a text with the same characters."""
    return _signed(xxhash.xxh3_64_intdigest(("id:" + name).encode()))


def text_keys(texts: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Each text's own key."""
    return np.fromiter((text_key(t.as_py()) for t in texts), dtype=np.int64, count=len(texts))


def _signed(value: int) -> int:
    return (value - (1 << 64) if value >= 1 << 63 else value) or 1  # 0 pads rows of keys


def keys_of(texts: pa.Array, known: Sequence[tuple[IntArray, IntArray]], links: Sequence[Links]) -> Ragged:
    """Each text's own key, the keys of its positives in `known` (anchors, positives), and of its ids in `links`.

    Texts that differ only in case and spacing get the same keys.
    """
    own = text_keys(texts)
    rows: list[IntArray] = [np.arange(len(texts))]
    values: list[IntArray] = [own]
    for anchors, positives in known:
        rows.append(anchors)
        values.append(own[positives])
    for link in links:
        ids = link.ids.unique()
        hashed = np.fromiter((id_key(i.as_py()) for i in ids), dtype=np.int64, count=len(ids))
        rows.append(index_in(link.texts, texts))
        values.append(hashed[index_in(link.ids, ids)])
    distinct, of_text = np.unique(own, return_inverse=True)
    return group(of_text[np.concatenate(rows)], np.concatenate(values), num_rows=len(distinct)).take(of_text)


def index_in(values: pa.Array, among: pa.Array) -> IntArray:
    """Position of each value in `among`, which has distinct values; -1 if it is not there."""
    import pyarrow.compute as pc

    found = pc.fill_null(pc.index_in(values.cast(among.type), value_set=among), -1)
    return np.asarray(found, dtype=np.int64)
