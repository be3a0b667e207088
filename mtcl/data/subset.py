"""A token store without some of its pairs: a few examples of each label, or no pair with certain texts.

Only pairs are left out. Texts, tokens and keys stay, so files of vectors by text still fit, and a known positive that
is left out is still never a negative.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from mtcl.arrays import BoolArray, IntArray, Ragged, offsets_of
from mtcl.data.pseudorandom import mix, stream_key
from mtcl.data.store import TokenStore
from mtcl.errors import DataError
from mtcl.task.pairs import PairTable
from mtcl.task.pairs.log_q import log_shares
from mtcl.task.pairs.table import DRAWN

OF_PAIRS = ("anchors", "positives", "scores", "languages", "groups", "negatives", "log_q_anchor", "log_q_positive")
"""The arrays that differ from the store on disk."""


@dataclass(frozen=True)
class Subset(TokenStore):
    """A store with fewer pairs than the one on disk, which has `num_whole`. Its pairs are in memory, and pickled."""

    num_whole: int
    left_out: IntArray
    """The texts that must not be trained, so no pair has them."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (self.folder, {name: getattr(self, name) for name in (*OF_PAIRS, "num_whole", "left_out")})

    @property
    def digest(self) -> str:
        """A hash of the pairs, to recognise a run that trains on other ones."""
        found = xxhash.xxh3_64()
        for part in (self.anchors, self.positives, *(() if self.groups is None else (self.groups.values,))):
            found.update(np.ascontiguousarray(part).tobytes())
        return found.hexdigest()


def few_per_label(store: TokenStore, per_label: int, *, seed: int, name: str) -> Subset:
    """The pairs of `per_label` examples of each label, chosen by the seed and the task's name; of all if it has fewer.

    The label of a pair is its positive, or the group that its positive is drawn from (a cluster, or the posts of a
    label); then the positive is drawn from the chosen members alone. The examples of a smaller `per_label` are among
    those of a larger one. Raises `DataError` if no pair is left.
    """
    label_P = labels_of(store)
    seed_64, anchor_P = np.uint64(stream_key(seed, name, "examples")), np.asarray(store.anchors)
    if store.groups is None:
        return _kept(store, _rank_within(label_P, _order(anchor_P, label_P, seed_64)) < per_label, None)
    group_G = store.groups.owners()
    member_M = np.asarray(store.groups.values)
    is_chosen_M = _rank_within(group_G, _order(member_M, group_G, seed_64)) < per_label
    is_own_P = label_P != store.positives  # the pair of a post and its label's text is a group of its own
    is_own_G = np.zeros(len(store.groups), dtype=np.bool_)
    is_own_G[store.positives[is_own_P]] = True
    groups = _with_members(store.groups, is_chosen_M | is_own_G[group_G])
    couples_M = _couples(group_G, member_M)[is_chosen_M]
    stays_P = np.isin(_couples(label_P, anchor_P), couples_M)
    is_drawn_P = anchor_P == DRAWN  # a capped cluster: as many pairs as it has examples, at most
    stays_P[is_drawn_P] = _rank_within(label_P[is_drawn_P], np.arange(is_drawn_P.sum())) < per_label
    return _kept(store, stays_P, groups)


def labels_of(store: TokenStore) -> IntArray:
    """(P,) the number of each pair's label: the text or the group of its positive.

    A group of two members that a single pair uses is a post and its label's text (`by="both"`): its label is that
    text, whose number is also that of the group of the label's posts.
    """
    positives_P = np.array(store.positives)
    if store.groups is None:
        return positives_P
    lengths_P = store.groups.lengths()[positives_P]
    uses_G = np.bincount(positives_P, minlength=len(store.groups))
    own_P = np.flatnonzero((lengths_P == 2) & (uses_G[positives_P] == 1) & (np.asarray(store.anchors) != DRAWN))
    starts = store.groups.offsets[positives_P[own_P]]
    first, second = store.groups.values[starts], store.groups.values[starts + 1]
    labels_P = positives_P.copy()
    labels_P[own_P] = np.where(first == store.anchors[own_P], second, first)
    return labels_P


def without_texts(store: TokenStore, left_out: IntArray) -> Subset:
    """Without the pairs, members of groups and hard negatives that are among the texts `left_out`.

    Raises `DataError` if no pair is left.
    """
    stays_T = np.ones(len(store.tokens), dtype=np.bool_)
    stays_T[left_out] = False
    anchor_P = np.asarray(store.anchors)
    stays_P = stays_T[anchor_P] | (anchor_P == DRAWN)
    if store.negatives is not None:
        store = replace(store, negatives=_with_members(store.negatives, stays_T[store.negatives.values]))
    if store.groups is None:
        found = _kept(store, stays_P & stays_T[store.positives], None)
    else:
        found = _kept(store, stays_P, _with_members(store.groups, stays_T[store.groups.values]))
    return replace(found, left_out=left_out)


def _kept(store: TokenStore, stays_P: BoolArray, groups: Ragged | None) -> Subset:
    """The pairs that stay, without those whose group has no second member."""
    if groups is not None:
        stays_P = stays_P & (groups.lengths()[store.positives] > 1)
    pairs = np.flatnonzero(stays_P)
    if not len(pairs):
        raise DataError("no pair is left")

    def taken(column: npt.NDArray[Any] | None) -> Any:
        return None if column is None else column[pairs]

    negatives = None if store.negatives is None else store.negatives.take(pairs)
    if negatives is not None and not len(negatives.values):
        negatives = None
    columns = {name: taken(getattr(store, name)) for name in ("anchors", "positives", "scores", "languages")}
    table = PairTable(store.texts(), columns["anchors"], columns["positives"], store.keys, pairs[:0], pairs[:0])
    log_q_anchor, log_q_positive = log_shares(replace(table, groups=groups))
    of_pairs = {
        "groups": groups,
        "negatives": negatives,
        "log_q_anchor": log_q_anchor,
        "log_q_positive": log_q_positive,
    }
    before: dict[str, Any] = {"num_whole": len(store), "left_out": pairs[:0]}
    if isinstance(store, Subset):
        before = {"num_whole": store.num_whole, "left_out": store.left_out}
    return _subset(store, before | columns | of_pairs)


def _subset(store: TokenStore, own: dict[str, Any]) -> Subset:
    return Subset(**{one.name: getattr(store, one.name) for one in fields(TokenStore)} | own)


def _opened(folder: Path, own: dict[str, Any]) -> Subset:
    """A subset that was pickled; the texts and tokens of its folder are mapped again."""
    return _subset(TokenStore.open(folder), own)


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
