"""The ways to make pairs, one class a kind of data; their fields name columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mtcl.pairs.columns import clean, id_column, text_column, typed_column
from mtcl.pairs.keys import Links, index_in
from mtcl.pairs.table import PairTable, pair_table
from mtcl.types import IntArray

if TYPE_CHECKING:
    import pyarrow as pa


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


def _components(anchors: pa.Array, positives: pa.Array) -> IntArray:
    import pyarrow as pa
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    texts = pa.chunked_array([anchors, positives]).unique()
    left, right = index_in(anchors, texts), index_in(positives, texts)
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(texts), len(texts)))
    _, component = connected_components(graph, directed=False)
    found: IntArray = component[left]
    return found
