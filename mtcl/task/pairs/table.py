"""The table of pairs: distinct texts, distinct pairs as indices into them, and keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from mtcl.arrays import FloatArray, IntArray, Ragged
from mtcl.errors import DataError
from mtcl.task.kind import Kind
from mtcl.task.pairs.columns import count
from mtcl.task.pairs.keys import Links, id_keys, index_in, keys_of
from mtcl.task.pairs.numbering import Numbering, in_order, occurring
from mtcl.task.pairs.parts import Entries, first_of_equals, grouped
from mtcl.task.pairs.relevance import Judgements, Relevance, relevance_of_groups, relevance_of_texts

if TYPE_CHECKING:
    import pyarrow as pa

    from mtcl.task.pairs.numbering import Column

By = Literal["label", "example", "both"]
DRAWN = -1
"""Used as an anchor: a member of the pair's group, drawn again in each epoch."""
OF_PAIRS = ("anchors", "positives", "scores", "languages", "groups", "negatives")
"""The columns of a table that differ if it has fewer pairs."""


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
    out, by reason. The columns and texts of a token store's table are memory-mapped.
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

    def take(self, pairs: IntArray) -> PairTable:
        """The table with the pairs of these numbers alone; its texts, keys, groups and judgements stay.

        It has no `negatives` if none of these pairs has any.
        """
        negatives = None if self.negatives is None else self.negatives.take(pairs)
        return replace(
            self,
            anchors=self.anchors[pairs],
            positives=self.positives[pairs],
            scores=None if self.scores is None else self.scores[pairs],
            languages=None if self.languages is None else self.languages[pairs],
            negatives=negatives if negatives is not None and len(negatives.values) else None,
        )

    @property
    def search(self) -> Relevance | PairTable:
        """The `queries` and `candidates` of the evaluation: those of the judgements, or the table's if it has none."""
        return self.relevance or self

    @property
    def is_symmetric(self) -> bool:
        """Whether both sides of the pairs have the same kind of text."""
        return self.symmetric or self.exclude_self or self.kind is not Kind.POSITIVE


def pair_table(
    anchors: Column,
    positives: Column,
    *,
    candidates: Column,
    links: Sequence[Links] = (),
    negatives: tuple[Column, IntArray] | None = None,
    scores: FloatArray | None = None,
    languages: Column | None = None,
    queries: tuple[Column, Column] | None = None,
    judgements: Judgements | None = None,
    skipped: dict[str, int] | None = None,
) -> PairTable:
    """A `PairTable` of positives from string columns of equal length: distinct texts, distinct pairs, and keys.

    Keys come from each text, from each anchor's positives (unless pairs are scored) and from `links`. `negatives` are
    texts and the number of each one's pair. `queries` are the texts to search with and the text that each should find;
    by default the anchors and positives. `judgements` replace them where relevance has ids or grades; keys and pairs
    don't depend on it.
    """
    skipped, texts = dict(skipped or {}), Numbering()
    anchor_ids, candidate_ids, positive_ids = (texts.of(column) for column in (anchors, candidates, positives))
    known = [(anchor_ids, positive_ids)] if scores is None else []
    known += [(texts.of(queries[0]), texts.of(queries[1]))] if queries else []
    hashed = {number: id_keys(ids) for number, ids in {id(link.ids): link.ids for link in links}.items()}
    linked = [(texts.of(link.texts), hashed[id(link.ids)]) for link in links]
    negative_ids = texts.of(negatives[0]) if negatives else None
    relevance = judgements.resolve(texts) if judgements else None
    language_names = languages.unique() if languages is not None else None
    language_ids = None if languages is None else index_in(languages, language_names)
    first_of = first_of_equals(*([] if language_ids is None else [language_ids]), positive_ids, anchor_ids)
    keep = _distinct(first_of, scores, skipped)
    hard = None
    if negatives is not None and negative_ids is not None and len(negative_ids):
        hard = grouped([Entries(first_of[negatives[1]], negative_ids)], num_rows=len(anchor_ids)).take(keep)
    found = in_order(candidate_ids, size=len(texts))
    if relevance is None and queries:
        relevance = relevance_of_texts(*known[-1], found)
    all_texts, size = texts.texts(), len(texts)
    del texts  # its table needs some of the memory that sorting keys does
    return PairTable(
        texts=all_texts,
        anchors=anchor_ids[keep],
        positives=positive_ids[keep],
        keys=keys_of(all_texts, known, linked),
        queries=occurring(relevance.queries if relevance else anchor_ids, size=size),
        candidates=found,
        negatives=hard,
        scores=None if scores is None else scores[keep].astype(np.float32),
        languages=None if language_ids is None else language_ids[keep],
        language_names=() if language_names is None else tuple(language_names.to_pylist()),
        skipped=skipped,
        relevance=relevance,
    )


def _distinct(first_of: IntArray, scores: FloatArray | None, skipped: dict[str, int]) -> IntArray:
    """The pairs without an equal one before them; `skipped` counts the others."""
    keep = np.flatnonzero(first_of == np.arange(len(first_of)))
    num_other = 0 if scores is None else int((scores != scores[first_of]).sum())
    count(skipped, "duplicate pair", len(first_of) - len(keep) - num_other)
    count(skipped, "duplicate pair with another score", num_other)
    return keep


def cluster_table(
    members: Column, clusters: Column, *, max_pairs: int | None = None, skipped: dict[str, int] | None = None
) -> PairTable:
    """Pairs of two members of a cluster, at most `max_pairs` per cluster and epoch.

    A member that is alone in its cluster is left out.
    """
    skipped = dict(skipped or {})
    texts, names = Numbering(), Numbering()
    member_ids, cluster_ids = texts.of(members), names.of(clusters)
    clusters_of = grouped([Entries(member_ids, cluster_ids)], num_rows=len(texts))
    anchors = clusters_of.owners()
    target = clusters_of.values
    count(skipped, "duplicate pair", len(members) - len(anchors))
    groups = grouped([Entries(target, anchors)], num_rows=len(names))
    alone = groups.lengths()[target] < 2
    count(skipped, "alone in its cluster", int(alone.sum()))
    anchors, target = anchors[~alone], target[~alone]
    queries, all_texts = occurring(anchors, size=len(texts)), texts.texts()
    if max_pairs is not None:
        anchors, target = _capped(anchors, target, groups, max_pairs)
    return PairTable(
        texts=all_texts,
        anchors=anchors,
        positives=target,
        keys=keys_of(all_texts, [], [(member_ids, id_keys(clusters))]),
        queries=queries,
        candidates=np.arange(len(texts)),
        groups=groups,
        exclude_self=True,
        tied=True,
        skipped=skipped,
    )


def label_table(
    members: Column,
    labels: Column,
    *,
    by: By,
    negatives: tuple[Column, IntArray] | None = None,
    skipped: dict[str, int] | None = None,
) -> PairTable:
    """Pairs of a text with its label's text, with another text of that label, or both; the candidates are labels."""
    table = pair_table(members, labels, candidates=labels, negatives=negatives, skipped=skipped)
    if by == "label":
        return table
    if negatives is not None:
        raise DataError(f"hard negatives of labels need by='label', not {by!r}")
    of_label = grouped([Entries(table.positives, table.anchors)], num_rows=len(table.texts))
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


def _capped(anchors: IntArray, target: IntArray, groups: Ragged, max_pairs: int) -> tuple[IntArray, IntArray]:
    """Replace the pairs of clusters above the cap by `max_pairs` pairs with drawn anchors."""
    large = np.flatnonzero(groups.lengths() > max_pairs)
    kept = ~np.isin(target, large)
    drawn = np.repeat(large, max_pairs)
    return np.concatenate([anchors[kept], np.full(len(drawn), DRAWN)]), np.concatenate([target[kept], drawn])
