"""Pairs from groups of similar texts: clusters with an id, or chains of duplicates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from mtcl.arrays import IntArray
from mtcl.errors import TaskError
from mtcl.task.pairs.base import Pairs, training_only
from mtcl.task.pairs.columns import clean, id_column, names_of, negatives_column, text_column
from mtcl.task.pairs.keys import Links
from mtcl.task.pairs.numbering import Numbering
from mtcl.task.pairs.relevance import Judgements
from mtcl.task.pairs.shared_keys import connected
from mtcl.task.pairs.table import PairTable, cluster_table, pair_table
from mtcl.task.roles import Role

if TYPE_CHECKING:
    import pyarrow as pa

    from mtcl.task.pairs.numbering import Column


@dataclass(frozen=True)
class Cluster(Pairs):
    """Posts of one cluster or story: a post's positive is another post of its cluster, drawn again in each epoch.

    Evaluation ranks all posts of the split except the query; those with its cluster id are relevant. A post is its
    exact text: one that occurs twice in a cluster is one post. With `max_pairs`, a larger cluster gives only that many
    randomly drawn pairs per epoch, so that a few stories do not fill the batches.
    """

    has_labels: ClassVar[bool] = True
    text: str = "text"
    cluster: str = "cluster_id"
    max_pairs: int | None = training_only(None)

    def __post_init__(self) -> None:
        if self.max_pairs is not None and self.max_pairs < 1:
            raise TaskError(f"Cluster(max_pairs={self.max_pairs}): give at least 1, or None for no limit")

    def columns(self) -> dict[str, Role]:
        return {self.text: Role.TEXT, self.cluster: Role.ID}

    def __call__(self, rows: pa.Table, corpus: pa.Table | None = None) -> PairTable:
        rows, skipped = clean(rows, self.text)
        texts, clusters = text_column(rows, self.text), id_column(rows, self.cluster)
        return cluster_table(texts, clusters, max_pairs=self.max_pairs, skipped=skipped)


@dataclass(frozen=True)
class Duplicates(Pairs):
    """Two texts with the same meaning; texts connected by a chain of pairs are never negatives of each other.

    Evaluation ranks all texts of the split except the query; those connected with it are relevant. `negatives` is as
    in `QueryDocument`.
    """

    anchor: str = "anchor"
    positive: str = "positive"
    negatives: str | tuple[str, ...] = training_only(())

    def columns(self) -> dict[str, Role]:
        negatives = dict.fromkeys(names_of(self.negatives), Role.TEXT_OR_TEXTS)
        return {self.anchor: Role.TEXT, self.positive: Role.TEXT} | negatives

    def __call__(self, rows: pa.Table, corpus: pa.Table | None = None) -> PairTable:
        import pyarrow as pa
        import pyarrow.compute as pc

        rows, skipped = clean(rows, self.anchor, self.positive)
        anchors, positives = text_column(rows, self.anchor), text_column(rows, self.positive)
        component = pa.chunked_array([pa.array(_components(anchors, positives)).cast(pa.large_string())])
        is_other = pc.not_equal(anchors, positives)  # a text that is only paired with itself has nothing to find
        asked = Links(anchors.filter(is_other), component.filter(is_other))
        texts = pa.chunked_array([*anchors.chunks, *positives.chunks], pa.large_string())
        components = pa.chunked_array([*component.chunks, *component.chunks])
        table = pair_table(
            anchors,
            positives,
            links=[Links(anchors, component), Links(positives, component)],
            candidates=texts,
            judgements=Judgements(asked, Links(texts, components), grouped=True),
            negatives=negatives_column(rows, self.negatives),
            skipped=skipped,
        )
        return replace(table, exclude_self=True, tied=True)


def _components(anchors: Column, positives: Column) -> IntArray:
    """The number of each pair's component: pairs are edges between texts."""
    texts = Numbering()
    left, right = texts.of(anchors), texts.of(positives)
    return connected(left, right, size=len(texts))[left]
