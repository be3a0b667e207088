"""The table of pairs: distinct texts, distinct pairs as indices into them, and keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from mtcl.errors import DataError
from mtcl.task.pairs.columns import count
from mtcl.task.pairs.keys import Links, index_in, keys_of
from mtcl.task.pairs.relevance import Judgements, Relevance, relevance_of_groups, relevance_of_texts
from mtcl.types import FloatArray, IntArray, Kind, Ragged, group

if TYPE_CHECKING:
    import pyarrow as pa

By = Literal["label", "example", "both"]
DRAWN = -1
"""Used as an anchor: a member of the pair's group, drawn again in each epoch."""


@dataclass(frozen=True)
class PairTable:
    """Pairs as columns of integers; T distinct texts, P pairs.

    `positives` holds text indices. With `groups` it holds group indices instead: the positive is then a member of the
    group other than the anchor, drawn again in each epoch. `negatives` has a row of text indices for each pair.
    `scores` (P,) are 0 to 1, `languages` (P,) index `language_names`. In evaluation the distinct texts `queries` search
    the distinct texts `candidates`, and `relevance` says what they should find; None means that the pairs are the
    judgements. With `exclude_self` a query never finds itself, so both sides have the same kind of text. With `tied`,
    items that share a key are not independent observations: queries of one document, posts of one story (but not posts
    of one label). With `symmetric`, both sides of the pairs have the same kind of text. `skipped` counts the rows left
    out, by reason.
    """

    texts: pa.LargeStringArray
    anchors: IntArray
    positives: IntArray
    keys: Ragged
    queries: IntArray
    candidates: IntArray
    kind: Kind = Kind.POSITIVE
    groups: Ragged | None = None
    negatives: Ragged | None = None
    scores: FloatArray | None = None
    languages: IntArray | None = None
    language_names: tuple[str, ...] = ()
    exclude_self: bool = False
    tied: bool = False
    symmetric: bool = False
    skipped: dict[str, int] = field(default_factory=dict)
    relevance: Relevance | None = None

    def judged(self) -> PairTable:
        """The table with its relevance, as evaluation needs it; only positives have one."""
        if self.kind is not Kind.POSITIVE or self.relevance is not None:
            return self
        if self.groups is None:
            relevance = relevance_of_texts(self.anchors, self.positives, self.candidates)
        else:
            relevance = relevance_of_groups(self.queries, self.candidates, self.groups, num_texts=len(self.texts))
        return replace(self, relevance=relevance)

    @property
    def is_symmetric(self) -> bool:
        """Whether both sides of the pairs have the same kind of text."""
        return self.symmetric or self.exclude_self or self.kind is not Kind.POSITIVE


def pair_table(
    anchors: pa.Array,
    positives: pa.Array,
    *,
    candidates: pa.Array,
    kind: Kind = Kind.POSITIVE,
    links: Sequence[Links] = (),
    negatives: tuple[pa.Array, IntArray] | None = None,
    scores: FloatArray | None = None,
    languages: pa.Array | None = None,
    queries: tuple[pa.Array, pa.Array] | None = None,
    judgements: Judgements | None = None,
    exclude_self: bool = False,
    tied: bool = False,
    symmetric: bool = False,
    skipped: dict[str, int] | None = None,
) -> PairTable:
    """A `PairTable` from string columns of equal length: distinct texts, distinct pairs, and keys.

    Keys come from each text, from each anchor's positives (unless pairs are scored) and from `links`. `negatives` are
    texts and the number of each one's pair. `queries` are the texts to search with and the text that each should find;
    by default the anchors and positives. `judgements` replace them where relevance has ids or grades; keys and pairs
    don't depend on it. Pairs of other kinds than positives, and those with `exclude_self`, are always symmetric.
    """
    skipped = dict(skipped or {})
    asked = queries or ()
    judged = (judgements.wanted.texts, judgements.carried.texts) if judgements else ()
    linked = (k.texts for k in links)
    texts = _distinct(anchors, candidates, positives, *asked, *linked, *(negatives or ())[:1], *judged)
    anchor_ids, positive_ids = index_in(anchors, texts), index_in(positives, texts)
    known = [(anchor_ids, positive_ids)] if scores is None else []
    known += [(index_in(queries[0], texts), index_in(queries[1], texts))] if queries else []
    language_names = languages.unique() if languages is not None else None
    language_ids = index_in(languages, language_names) if languages is not None else np.zeros_like(anchor_ids)
    first_of = first_of_equals(language_ids, positive_ids, anchor_ids)
    keep = np.flatnonzero(first_of == np.arange(len(first_of)))
    is_other = scores != scores[first_of] if scores is not None else np.zeros(len(first_of), dtype=bool)
    count(skipped, "duplicate pair", len(anchor_ids) - len(keep) - int(is_other.sum()))
    count(skipped, "duplicate pair with another score", int(is_other.sum()))
    hard = None
    if negatives is not None and len(negatives[0]):
        owner = first_of[negatives[1]]
        hard = group(owner, index_in(negatives[0], texts), num_rows=len(anchor_ids)).take(keep)
    found = index_in(candidates.unique(), texts)
    relevance = judgements.resolve(texts) if judgements else None
    if relevance is None and queries:
        relevance = relevance_of_texts(*known[-1], found)
    return PairTable(
        texts=texts,
        anchors=anchor_ids[keep],
        positives=positive_ids[keep],
        keys=keys_of(texts, known, links),
        queries=np.unique(relevance.queries if relevance else anchor_ids[keep]),
        candidates=found,
        kind=kind,
        negatives=hard,
        scores=None if scores is None else scores[keep].astype(np.float32),
        languages=None if languages is None else language_ids[keep],
        language_names=() if language_names is None else tuple(language_names.to_pylist()),
        exclude_self=exclude_self,
        tied=tied,
        symmetric=symmetric,
        skipped=skipped,
        relevance=relevance,
    )


def cluster_table(
    members: pa.Array, clusters: pa.Array, *, max_pairs: int | None = None, skipped: dict[str, int] | None = None
) -> PairTable:
    """Pairs of two members of a cluster, at most `max_pairs` per cluster and epoch.

    A member that is alone in its cluster is left out.
    """
    skipped = dict(skipped or {})
    texts, names = _distinct(members), clusters.unique()
    pairs = np.unique(np.stack([index_in(members, texts), index_in(clusters, names)]), axis=1)
    count(skipped, "duplicate pair", len(members) - pairs.shape[1])
    groups = group(pairs[1], pairs[0], num_rows=len(names))
    alone = groups.lengths()[pairs[1]] < 2
    count(skipped, "alone in its cluster", int(alone.sum()))
    anchors, target = pairs[:, ~alone]
    queries = np.unique(anchors)
    if max_pairs is not None:
        anchors, target = _capped(anchors, target, groups, max_pairs)
    return PairTable(
        texts=texts,
        anchors=anchors,
        positives=target,
        keys=keys_of(texts, [], [Links(members, clusters)]),
        queries=queries,
        candidates=np.arange(len(texts)),
        groups=groups,
        exclude_self=True,
        tied=True,
        skipped=skipped,
    )


def label_table(
    members: pa.Array,
    labels: pa.Array,
    *,
    by: By,
    negatives: tuple[pa.Array, IntArray] | None = None,
    skipped: dict[str, int] | None = None,
) -> PairTable:
    """Pairs of a text with its label's text, with another text of that label, or both; the candidates are labels."""
    table = pair_table(members, labels, candidates=labels, negatives=negatives, skipped=skipped)
    if by == "label":
        return table
    if negatives is not None:
        raise DataError(f"hard negatives of labels need by='label', not {by!r}")
    of_label = group(table.positives, table.anchors, num_rows=len(table.texts))
    has_example = of_label.lengths()[table.positives] > 1
    anchors, target, groups = table.anchors[has_example], table.positives[has_example], of_label
    skipped = dict(table.skipped)
    if by == "both":
        own = np.sort(np.stack([table.anchors, table.positives], axis=1), axis=1)
        groups = Ragged(
            np.concatenate([of_label.offsets, of_label.offsets[-1] + 2 * np.arange(1, len(own) + 1)]),
            np.concatenate([of_label.values, own.ravel()]),
        )
        anchors = np.concatenate([table.anchors, anchors])
        target = np.concatenate([len(table.texts) + np.arange(len(own)), target])
    else:
        count(skipped, "alone with its label", int((~has_example).sum()))
    return PairTable(
        texts=table.texts,
        anchors=anchors,
        positives=target,
        keys=table.keys,
        queries=table.queries,
        candidates=table.candidates,
        groups=groups,
        skipped=skipped,
        relevance=table.judged().relevance,
    )


def first_of_equals(*columns: IntArray) -> IntArray:
    """For each row, the first row with the same values in all columns."""
    order = np.lexsort(columns)
    is_new = np.zeros(len(order), dtype=bool)
    is_new[:1] = True
    for column in columns:
        is_new[1:] |= np.diff(column[order]) != 0
    first_of = np.empty(len(order), dtype=np.int64)
    first_of[order] = order[is_new][np.cumsum(is_new) - 1]  # lexsort is stable: the first of equals is the earliest
    return first_of


def _capped(anchors: IntArray, target: IntArray, groups: Ragged, max_pairs: int) -> tuple[IntArray, IntArray]:
    """Replace the pairs of clusters above the cap by `max_pairs` pairs with drawn anchors."""
    large = np.flatnonzero(groups.lengths() > max_pairs)
    kept = ~np.isin(target, large)
    drawn = np.repeat(large, max_pairs)
    return np.concatenate([anchors[kept], np.full(len(drawn), DRAWN)]), np.concatenate([target[kept], drawn])


def _distinct(*columns: pa.Array) -> pa.LargeStringArray:
    import pyarrow as pa

    return pa.chunked_array([column.cast(pa.large_string()) for column in columns]).unique()
