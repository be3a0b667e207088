"""From a draw's pairs to rows of texts: partners and hard negatives are drawn, and each text gets its keys.

A draw is that of all ranks. Each rank computes all of its rows, because a key counts only if two texts of the whole
draw share it, and then takes its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtcl.arrays import BoolArray, FloatArray, IntArray, Ragged, offsets_of
from mtcl.data.batch import EMPTY_PLACE
from mtcl.data.plan import Draw, Plan
from mtcl.data.pseudorandom import UIntArray, mix, stream_key
from mtcl.data.store import TokenStore
from mtcl.task.pairs.table import DRAWN

SECOND_VIEW = np.int64(0x5851F42D4C957F2D)
"""Added to the identity of a positive that is its own anchor, so that it is encoded again with another dropout mask."""
AS_KEY = np.int64(0x2545F4914F6CDD1D)
"""Added to a text's identity to make it a key that differs from the keys of texts and ids."""


@dataclass(frozen=True)
class DrawnRows:
    """A sub-batch's texts, as indices into those of its task's store, and their keys (n, K), by role: anchors,
    positives, and H hard negatives per pair one pair after the other; judged pairs have scores (n,).
    """

    task: int
    texts: tuple[IntArray, ...]
    keys: tuple[npt.NDArray[np.int64], ...]
    scores: FloatArray | None

    def of_rank(self, rank: int, world: int) -> DrawnRows:
        """A rank's share of the rows of all ranks."""

        def own(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
            share = len(column) // world
            return column[rank * share : (rank + 1) * share]

        scores = None if self.scores is None else own(self.scores)
        return DrawnRows(self.task, tuple(map(own, self.texts)), tuple(map(own, self.keys)), scores)

    def identity(self, store: TokenStore) -> npt.NDArray[np.int64]:
        """The identities of all texts, role after role. Texts of equal identity are encoded once."""
        anchors, positives, *negatives = (np.array(store.identity[texts]) for texts in self.texts)
        positives[self.texts[0] == self.texts[1]] += SECOND_VIEW
        return np.concatenate([anchors, positives, *negatives])


@dataclass(frozen=True)
class TaskData:
    """A task's training split: its store, number of hard negatives per pair, file of a teacher's vectors, and file of a
    frozen backbone's pooled hidden states, which all tasks have or none.
    """

    store: TokenStore
    num_negatives: int = 0
    teacher: Path | None = None
    pooled: Path | None = None

    def rows(self, draw: Draw, plan: Plan) -> DrawnRows:
        """The rows of one of the plan's draws, of all ranks."""
        table, pairs = self.store.pairs, draw.pairs
        anchors, positives = table.anchors[pairs], table.positives[pairs]
        seed = np.uint64(stream_key(plan.seed, plan.tasks[draw.task].name, "positives"))
        bits = mix(mix(pairs.astype(np.uint64) ^ seed) + draw.epochs.astype(np.uint64))
        if table.groups is not None:
            anchors = np.where(anchors == DRAWN, draw_members(table.groups, positives, bits=mix(bits)), anchors)
            positives = draw_positives(table.groups, anchors, positives, bits=bits)
        texts: tuple[IntArray, ...] = (anchors, positives)
        is_empty = None
        if table.negatives is not None and self.num_negatives:
            hard, is_empty = draw_negatives(table.negatives, pairs, positives, count=self.num_negatives, bits=bits)
            texts += (hard,)
        keys = keys_of_draw(self.store, texts)
        if is_empty is not None:
            keys[2][is_empty] = EMPTY_PLACE
        return DrawnRows(draw.task, texts, keys, None if table.scores is None else table.scores[pairs])


def keys_of_draw(store: TokenStore, texts: tuple[IntArray, ...]) -> tuple[npt.NDArray[np.int64], ...]:
    """(n, K) keys of a draw's texts by role: the store's keys that at least two of its distinct texts share, and
    identities. All other keys are dropped, so a text with thousands of known positives costs no more than any other.

    Texts with equal tokens (unknown accents and emoji, the same beginning up to `max_length`) have the same embedding,
    so they must not be negatives of each other or of each other's partners. Therefore each text has its identity as a
    key, and anchors and positives have both identities of their pair.
    """
    distinct, place = np.unique(np.concatenate(texts), return_inverse=True)
    keys = store.pairs.keys.take(distinct)
    _, of_key, count = np.unique(keys.values, return_inverse=True, return_counts=True)
    is_shared = count[of_key] > 1
    owner = keys.owners()[is_shared]
    lengths = np.bincount(owner, minlength=len(distinct))
    shared_TK = Ragged(offsets_of(lengths), keys.values[is_shared]).padded(int(lengths.max()), 0)
    identity_T = np.array(store.identity[distinct]) + AS_KEY
    identity_T[identity_T == 0] = 1
    roles = np.split(place, np.cumsum([len(role) for role in texts])[:-1])
    pair_N2 = np.stack([identity_T[roles[0]], identity_T[roles[1]]], axis=1)
    found = [np.concatenate([shared_TK[role], pair_N2], axis=1) for role in roles[:2]]
    found += [np.concatenate([shared_TK[role], identity_T[role][:, None]], axis=1) for role in roles[2:]]
    return tuple(found)


def draw_members(groups: Ragged, rows: IntArray, *, bits: UIntArray) -> IntArray:
    """A random member of each of the given groups; `bits` are random."""
    starts, sizes = groups.offsets[rows], groups.offsets[rows + 1] - groups.offsets[rows]
    members: IntArray = groups.values[starts + (bits % sizes.astype(np.uint64)).astype(np.int64)]
    return members


def draw_positives(groups: Ragged, anchors: IntArray, positives: IntArray, *, bits: UIntArray) -> IntArray:
    """A random member of each anchor's group other than the anchor. `positives` holds group indices, `bits` are random.

    Members are sorted, so the k-th member that is not the anchor is found without a search.
    """
    starts = groups.offsets[positives]
    choices = (groups.offsets[positives + 1] - starts - 1).astype(np.uint64)
    at = starts + (bits % choices).astype(np.int64)
    member = groups.values[at]
    # the last position is never drawn, so `at + 1` stays inside the group
    return np.where(member >= anchors, groups.values[at + 1], member)


def draw_negatives(
    negatives: Ragged, pairs: IntArray, positives: IntArray, *, count: int, bits: UIntArray
) -> tuple[IntArray, BoolArray]:
    """(n * count,) distinct hard negatives for each pair, and whether each place is empty. If a pair has too few, the
    empty places have its positive, which is encoded anyway.
    """
    starts, sizes = negatives.offsets[pairs], negatives.offsets[pairs + 1] - negatives.offsets[pairs]
    turn = np.arange(count)
    first = (mix(bits + np.uint64(1)) % np.maximum(sizes, 1).astype(np.uint64)).astype(np.int64)
    at = starts[:, None] + (first[:, None] + turn) % np.maximum(sizes, 1)[:, None]
    is_there = turn < sizes[:, None]
    texts = np.where(is_there, negatives.values[np.where(is_there, at, 0)], positives[:, None])
    return texts.ravel(), ~is_there.ravel()
