"""From rows to pairs: which texts belong together, and the keys that say which are never negatives.

A pair construction is called with the rows of a split (and, for evaluation, its corpus) and returns a `PairTable`:
integers into a table of distinct texts, plus keys. A task may instead define `pairs(self, rows, corpus=None)` that
returns one, most easily through `pair_table`.

Keys (64-bit hashes) are links from texts to what they stand for: a label, a cluster, a document id, a known
positive. Two texts that share a key are never negatives of each other. Every text carries the key of itself,
compared without case and spacing, and every anchor the keys of all its positives in the table, so a plain table of
two columns is protected too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xxhash

from mtcl.errors import DataError, nearest
from mtcl.types import IntArray, Ragged, group

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class PairTable:
    """Pairs as columns of integers; T distinct texts, P pairs.

    `positives` holds text indices, or group indices where `groups` is given: then the positive is a member of the group
    other than the anchor, drawn afresh in each epoch. `candidates` are the texts that evaluation searches;
    with `exclude_self` a query never finds itself. `skipped` counts the rows left out, by reason.
    """

    texts: pa.StringArray
    anchors: IntArray
    positives: IntArray
    keys: Ragged
    candidates: IntArray
    groups: Ragged | None = None
    exclude_self: bool = False
    skipped: dict[str, int] = field(default_factory=dict)


class Links(NamedTuple):
    """`texts[i]` stands for `ids[i]`: a document id, a cluster, a connected component."""

    texts: pa.Array
    ids: pa.Array


class Pairs(ABC):
    """A way to make pairs from rows. Frozen dataclasses whose fields name columns."""

    corpus: str | None = None

    @abstractmethod
    def __call__(self, rows: pa.Table, corpus: pa.Table | None = None) -> PairTable:
        """The pairs of `rows`. Raises `DataError` for missing or wrongly typed columns."""


@dataclass(frozen=True)
class QueryDocument(Pairs):
    """A query and a document that answers it; evaluation searches `corpus` (a split) or else the documents of the rows.

    `document_id` names a column of ids shared by rows and corpus: two documents of one id are one document.
    """

    query: str = "query"
    document: str = "document"
    document_id: str | None = None
    corpus: str | None = None
    corpus_text: str = "text"

    def __call__(self, rows: pa.Table, corpus: pa.Table | None = None) -> PairTable:
        rows, skipped = clean(rows, self.query, self.document)
        queries, documents = text_column(rows, self.query), text_column(rows, self.document)
        links, searched = [], documents
        if self.document_id:
            ids = id_column(rows, self.document_id)
            links = [Links(queries, ids), Links(documents, ids)]
        if corpus is not None:
            corpus, _ = clean(corpus, self.corpus_text)
            searched = text_column(corpus, self.corpus_text)
            if self.document_id:
                links.append(Links(searched, id_column(corpus, self.document_id)))
        return pair_table(queries, documents, links=links, candidates=searched, skipped=skipped)


@dataclass(frozen=True)
class LabelText(Pairs):
    """A post and the readable text of its one label; evaluation ranks all labels of the split."""

    text: str = "text"
    label: str = "label"

    def __call__(self, rows: pa.Table, corpus: pa.Table | None = None) -> PairTable:
        rows, skipped = clean(rows, self.text, self.label)
        texts, labels = text_column(rows, self.text), text_column(rows, self.label)
        return pair_table(texts, labels, candidates=labels, skipped=skipped)


@dataclass(frozen=True)
class Tags(Pairs):
    """A post and each of its several tags (a list column): one pair a tag; no tag of a post is ever its negative."""

    text: str = "text"
    tags: str = "tags"

    def __call__(self, rows: pa.Table, corpus: pa.Table | None = None) -> PairTable:
        import pyarrow as pa
        import pyarrow.compute as pc

        rows, skipped = clean(rows, self.text)
        column = typed_column(rows, self.tags, pa.types.is_list, "a list of strings")
        owner = pc.list_parent_indices(column)
        flat = pa.table({"text": pc.take(text_column(rows, self.text), owner), "tag": pc.list_flatten(column)})
        pairs, empty_tags = clean(flat, "text", "tag")
        untagged = len(rows) - len(pc.unique(owner))
        if untagged:
            skipped = {**skipped, f"no {self.tags}": untagged}
        texts, tags = text_column(pairs, "text"), text_column(pairs, "tag")
        skipped = {**skipped, **{f"tag: {reason}": count for reason, count in empty_tags.items()}}
        return pair_table(texts, tags, candidates=tags, skipped=skipped)


@dataclass(frozen=True)
class Cluster(Pairs):
    """Posts of one cluster or story: the positive of a post is another post of it, drawn afresh in each epoch.

    Evaluation ranks all posts of the split but the query itself.
    """

    text: str = "text"
    cluster: str = "cluster_id"

    def __call__(self, rows: pa.Table, corpus: pa.Table | None = None) -> PairTable:
        rows, skipped = clean(rows, self.text)
        texts, clusters = text_column(rows, self.text), id_column(rows, self.cluster)
        return pair_table(
            texts,
            None,
            clusters=clusters,
            links=[Links(texts, clusters)],
            candidates=texts,
            exclude_self=True,
            skipped=skipped,
        )


@dataclass(frozen=True)
class Duplicates(Pairs):
    """Two texts of equal meaning; texts connected by any chain of pairs are never negatives of each other.

    Evaluation ranks all texts of the split but the query itself.
    """

    anchor: str = "anchor"
    positive: str = "positive"

    def __call__(self, rows: pa.Table, corpus: pa.Table | None = None) -> PairTable:
        import pyarrow as pa

        rows, skipped = clean(rows, self.anchor, self.positive)
        anchors, positives = text_column(rows, self.anchor), text_column(rows, self.positive)
        component = pa.array(_components(anchors, positives)).cast(pa.string())
        links = [Links(anchors, component), Links(positives, component)]
        everything = pa.concat_arrays([anchors, positives])
        return pair_table(anchors, positives, links=links, candidates=everything, exclude_self=True, skipped=skipped)


def pair_table(
    anchors: pa.Array,
    positives: pa.Array | None,
    *,
    candidates: pa.Array,
    links: Sequence[Links] = (),
    clusters: pa.Array | None = None,
    exclude_self: bool = False,
    skipped: dict[str, int] | None = None,
) -> PairTable:
    """Distinct texts, pairs without repetition, and keys, from string columns of equal length.

    With `clusters` (ids, one an anchor) in the place of `positives`, a pair is an anchor and its cluster, and an
    anchor alone in its cluster is left out. Keys come from each text, from each anchor's positives and from `links`.
    """
    import pyarrow as pa

    skipped = dict(skipped or {})
    columns = [anchors, candidates, *(link.texts for link in links), *([] if positives is None else [positives])]
    texts = pa.chunked_array(columns, type=pa.string()).unique()
    anchor_ids = _index(anchors, texts)
    if positives is None:
        assert clusters is not None
        names = clusters.unique()
        target, groups = _index(clusters, names), group(_index(clusters, names), anchor_ids, num_rows=len(names))
        alone = groups.lengths()[target] < 2
        _count(skipped, "alone in its cluster", int(alone.sum()))
        anchor_ids, target = anchor_ids[~alone], target[~alone]
        known = (anchor_ids[:0], anchor_ids[:0])
    else:
        target, groups = _index(positives, texts), None
        known = anchor_ids, target
    distinct = np.unique(np.stack([anchor_ids, target]), axis=1, return_index=True)[1]
    _count(skipped, "duplicate pair", len(anchor_ids) - len(distinct))
    keep = np.sort(distinct)
    return PairTable(
        texts=texts,
        anchors=anchor_ids[keep],
        positives=target[keep],
        keys=_keys(texts, known, links),
        candidates=np.unique(_index(candidates, texts)),
        groups=groups,
        exclude_self=exclude_self,
        skipped=skipped,
    )


def clean(rows: pa.Table, *texts: str) -> tuple[pa.Table, dict[str, int]]:
    """The rows whose text columns are neither null nor blank, and the number left out by reason."""
    import pyarrow.compute as pc

    skipped: dict[str, int] = {}
    for name in texts:
        column = text_column(rows, name)
        null = pc.is_null(column)
        blank = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), False)
        _count(skipped, f"null {name}", pc.sum(null).as_py() or 0)
        _count(skipped, f"empty {name}", pc.sum(blank).as_py() or 0)
        rows = rows.filter(pc.invert(pc.or_(null, blank)))
    return rows, skipped


def text_column(rows: pa.Table, name: str) -> pa.StringArray:
    """A column of strings as one array. Raises `DataError` if it is missing or of another type."""
    import pyarrow as pa

    def is_text(kind: pa.DataType) -> bool:
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))

    return typed_column(rows, name, is_text, "text").cast(pa.string())


def id_column(rows: pa.Table, name: str) -> pa.StringArray:
    """A column of ids (strings or integers) as strings; a null id is an error, for it would tie strangers together."""
    import pyarrow as pa

    def is_id(kind: pa.DataType) -> bool:
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind))

    column = typed_column(rows, name, is_id, "text or integers").cast(pa.string())
    if column.null_count:
        raise DataError(f"column {name!r} has {column.null_count} null ids: give each row an id or leave the row out")
    return column


def typed_column(rows: pa.Table, name: str, accepts: Any, wanted: str) -> pa.Array:
    """A column as one array, decoded from its dictionary. `accepts` takes the Arrow type."""
    import pyarrow as pa

    if name not in rows.column_names:
        raise DataError(
            f"no column {name!r} (columns: {', '.join(rows.column_names)}){nearest(name, rows.column_names)}"
        )
    column = rows[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not accepts(column.type):
        raise DataError(f"column {name!r} holds {column.type}, not {wanted}")
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def text_key(text: str) -> int:
    """The key of a text itself: equal for texts that differ only in case and spacing."""
    return _signed(xxhash.xxh3_64_intdigest(("text:" + " ".join(text.split()).casefold()).encode()))


def id_key(name: str) -> int:
    """The key of a document id, cluster or component; another one than the key of a text that reads the same."""
    return _signed(xxhash.xxh3_64_intdigest(("id:" + name).encode()))


def _signed(value: int) -> int:
    return (value - (1 << 64) if value >= 1 << 63 else value) or 1  # 0 pads rows of keys


def _keys(texts: pa.Array, known: tuple[IntArray, IntArray], links: Sequence[Links]) -> Ragged:
    """Each text's own key, those of its known positives (anchor, positive), and those of the ids it stands for.

    Texts that are equal but for case and spacing have one key of their own, and all keys in common.
    """
    own = np.fromiter((text_key(t.as_py()) for t in texts), dtype=np.int64, count=len(texts))
    rows, values = [np.arange(len(texts)), known[0]], [own, own[known[1]]]
    for link in links:
        ids = link.ids.unique()
        hashed = np.fromiter((id_key(i.as_py()) for i in ids), dtype=np.int64, count=len(ids))
        rows.append(_index(link.texts, texts))
        values.append(hashed[_index(link.ids, ids)])
    distinct, of_text = np.unique(own, return_inverse=True)
    return group(of_text[np.concatenate(rows)], np.concatenate(values), num_rows=len(distinct)).take(of_text)


def _index(values: pa.Array, among: pa.Array) -> IntArray:
    import pyarrow.compute as pc

    found = pc.fill_null(pc.index_in(values, value_set=among), -1)
    return np.asarray(found, dtype=np.int64)


def _components(anchors: pa.Array, positives: pa.Array) -> IntArray:
    import pyarrow as pa
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    texts = pa.chunked_array([anchors, positives]).unique()
    left, right = _index(anchors, texts), _index(positives, texts)
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(texts), len(texts)))
    _, component = connected_components(graph, directed=False)
    found: IntArray = component[left]
    return found


def _count(skipped: dict[str, int], reason: str, count: int) -> None:
    if count:
        skipped[reason] = skipped.get(reason, 0) + count
