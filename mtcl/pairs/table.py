"""The table of pairs: integers into distinct texts, pairs without repetition, and keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mtcl.pairs.columns import count
from mtcl.pairs.keys import Links, index_in, keys_of
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
    anchor_ids = index_in(anchors, texts)
    if positives is None:
        assert clusters is not None
        names = clusters.unique()
        target, groups = index_in(clusters, names), group(index_in(clusters, names), anchor_ids, num_rows=len(names))
        alone = groups.lengths()[target] < 2
        count(skipped, "alone in its cluster", int(alone.sum()))
        anchor_ids, target = anchor_ids[~alone], target[~alone]
        known = (anchor_ids[:0], anchor_ids[:0])
    else:
        target, groups = index_in(positives, texts), None
        known = anchor_ids, target
    distinct = np.unique(np.stack([anchor_ids, target]), axis=1, return_index=True)[1]
    count(skipped, "duplicate pair", len(anchor_ids) - len(distinct))
    keep = np.sort(distinct)
    return PairTable(
        texts=texts,
        anchors=anchor_ids[keep],
        positives=target[keep],
        keys=keys_of(texts, known, links),
        candidates=np.unique(index_in(candidates, texts)),
        groups=groups,
        exclude_self=exclude_self,
        skipped=skipped,
    )
