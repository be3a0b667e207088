"""A token store without some of its pairs: a few examples of each label, or no pair with certain texts.

Only pairs are left out. Texts, tokens and keys stay, so files of vectors by text still fit, and a known positive that
is left out is still never a negative.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from mtcl.arrays import BoolArray, IntArray, Ragged, offsets_of
from mtcl.data.pseudorandom import mix, stream_key
from mtcl.data.store import Limit, TokenStore
from mtcl.errors import DataError
from mtcl.task.pairs.log_q import log_shares
from mtcl.task.pairs.table import DRAWN, PairTable


def few_per_label(store: TokenStore, per_label: int, *, seed: int, name: str) -> TokenStore:
    """The pairs of `per_label` examples of each label, chosen by the seed and the task's name; of all if it has fewer.

    The label of a pair is its positive, or the group that its positive is drawn from (a cluster, or the posts of a
    label); then the positive is drawn from the chosen members alone. The examples of a smaller `per_label` are among
    those of a larger one. Raises `DataError` if no pair is left.
    """
    table = store.pairs
    label_P, groups = labels_of(table), table.groups
    seed_64, anchor_P = np.uint64(stream_key(seed, name, "examples")), np.asarray(table.anchors)
    if groups is None:
        return _kept(store, table, _rank_within(label_P, _order(anchor_P, label_P, seed_64)) < per_label)
    group_G = groups.owners()
    member_M = np.asarray(groups.values)
    is_chosen_M = _rank_within(group_G, _order(member_M, group_G, seed_64)) < per_label
    is_own_P = label_P != table.positives  # the pair of a post and its label's text is a group of its own
    is_own_G = np.zeros(len(groups), dtype=np.bool_)
    is_own_G[table.positives[is_own_P]] = True
    couples_M = _couples(group_G, member_M)[is_chosen_M]
    stays_P = np.isin(_couples(label_P, anchor_P), couples_M)
    is_drawn_P = anchor_P == DRAWN  # a capped cluster: as many pairs as it has examples, at most
    stays_P[is_drawn_P] = _rank_within(label_P[is_drawn_P], np.arange(is_drawn_P.sum())) < per_label
    return _kept(store, replace(table, groups=_with_members(groups, is_chosen_M | is_own_G[group_G])), stays_P)


def labels_of(table: PairTable) -> IntArray:
    """(P,) the number of each pair's label: the text or the group of its positive.

    A group of two members that a single pair uses is a post and its label's text (`by="both"`): its label is that
    text, whose number is also that of the group of the label's posts.
    """
    positives_P = np.array(table.positives)
    if table.groups is None:
        return positives_P
    lengths_P = table.groups.lengths()[positives_P]
    uses_G = np.bincount(positives_P, minlength=len(table.groups))
    own_P = np.flatnonzero((lengths_P == 2) & (uses_G[positives_P] == 1) & (np.asarray(table.anchors) != DRAWN))
    starts = table.groups.offsets[positives_P[own_P]]
    first, second = table.groups.values[starts], table.groups.values[starts + 1]
    labels_P = positives_P.copy()
    labels_P[own_P] = np.where(first == table.anchors[own_P], second, first)
    return labels_P


def without_texts(store: TokenStore, left_out: IntArray) -> TokenStore:
    """Without the pairs, members of groups and hard negatives that are among the texts `left_out`.

    Raises `DataError` if no pair is left.
    """
    table = store.pairs
    stays_T = np.ones(len(store.tokens), dtype=np.bool_)
    stays_T[left_out] = False
    anchor_P = np.asarray(table.anchors)
    stays_P = stays_T[anchor_P] | (anchor_P == DRAWN)
    if table.groups is None:
        stays_P &= stays_T[table.positives]
    groups, negatives = (
        None if members is None else _with_members(members, stays_T[members.values])
        for members in (table.groups, table.negatives)
    )
    return _kept(store, replace(table, groups=groups, negatives=negatives), stays_P, left_out)


def digest_of(table: PairTable) -> str:
    """A hash of the pairs, to recognise a run that trains on other ones."""
    found = xxhash.xxh3_64()
    for part in (table.anchors, table.positives, *(() if table.groups is None else (table.groups.values,))):
        found.update(np.ascontiguousarray(part).tobytes())
    return found.hexdigest()


def _kept(store: TokenStore, table: PairTable, stays_P: BoolArray, left_out: IntArray | None = None) -> TokenStore:
    """The store with the pairs of `table` that stay, without those whose group has no second member."""
    if table.groups is not None:
        stays_P = stays_P & (table.groups.lengths()[table.positives] > 1)
    pairs = np.flatnonzero(stays_P)
    if not len(pairs):
        raise DataError("no pair is left")
    if left_out is None:
        left_out = pairs[:0] if store.limit is None else store.limit.left_out
    table = table.take(pairs)
    return replace(store, pairs=table, log_q=log_shares(table), limit=Limit(store.num_whole, left_out))


def _with_members(ragged: Ragged, stays: BoolArray) -> Ragged:
    """A ragged array with those of its values that stay; a row may become empty."""
    row = ragged.owners()[stays]
    return Ragged(offsets_of(np.bincount(row, minlength=len(ragged))), np.asarray(ragged.values)[stays])


def _order(members: IntArray, labels: IntArray, seed: np.uint64) -> npt.NDArray[np.uint64]:
    """Pseudo-random numbers by which the examples of a label are ordered."""
    return mix(mix(members.astype(np.uint64) ^ seed) + labels.astype(np.uint64))


def _rank_within(labels: IntArray, values: npt.NDArray[Any]) -> IntArray:
    """The rank of each value among those of its label, from 0."""
    order = np.lexsort((values, labels))
    first = np.flatnonzero(np.diff(labels[order], prepend=-1))
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[order] = np.arange(len(labels)) - np.repeat(first, np.diff(first, append=len(labels)))
    return ranks


def _couples(labels: IntArray, members: IntArray) -> npt.NDArray[np.int64]:
    """A number for each label and member."""
    found: npt.NDArray[np.int64] = labels.astype(np.int64) << 32 | members.astype(np.int64) & 0xFFFFFFFF
    return found
