"""A step's data for one rank: its share of the plan's draws, as tensors.

Each distinct text of the step is encoded once, across all tasks and roles; the sub-batches index into these texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mtcl.data.packing import Packed, pack
from mtcl.data.parcel import Parcel
from mtcl.data.plan import Draw, Plan, draw_members, draw_negatives, draw_positives, mix, stream_key
from mtcl.data.store import TokenStore
from mtcl.errors import ConfigError
from mtcl.task.pairs.table import DRAWN
from mtcl.types import EMPTY_PLACE, FloatArray, IntArray, Ragged, offsets_of

SECOND_VIEW = np.int64(0x5851F42D4C957F2D)
"""Added to the identity of a positive that is its own anchor, so that it is encoded again with another dropout mask."""
AS_KEY = np.int64(0x2545F4914F6CDD1D)
"""Added to a text's identity to make it a key that differs from the keys of texts and ids."""
NO_TEXTS = Packed((), torch.arange(0), num_tokens=0)


@dataclass(frozen=True)
class Column:
    """This rank's texts in one role: indices (n,) into the step's distinct texts, keys (n, K) padded with 0 (K is the
    same on all ranks), the log of how often each text is drawn (n,), and a teacher's vectors (n, E).
    """

    texts_N: Tensor
    keys_NK: Tensor
    log_q_N: Tensor
    teacher_NE: Tensor | None = None

    def map(self, apply: Any) -> Column:
        teacher = None if self.teacher_NE is None else apply(self.teacher_NE)
        return Column(apply(self.texts_N), apply(self.keys_NK), apply(self.log_q_N), teacher)


@dataclass(frozen=True)
class SubBatch:
    """This rank's rows of one task: anchors, positives and H hard negatives per row; judged pairs have scores (n,)."""

    task: int
    columns: tuple[Column, ...]
    scores_N: Tensor | None = None

    def __len__(self) -> int:
        return len(self.columns[0].texts_N)

    def map(self, apply: Any) -> SubBatch:
        scores = None if self.scores_N is None else apply(self.scores_N)
        return SubBatch(self.task, tuple(column.map(apply) for column in self.columns), scores)


@dataclass(frozen=True)
class Kept:
    """The K texts of a step whose distance from the start of training is measured (`mtcl.training.keep`).

    `places_K` are their places among the step's distinct texts. `weights_K` make the weighted sum of their values an
    unbiased estimate of the mean over the rows of all sub-batches.
    """

    texts: Packed
    places_K: Tensor
    weights_K: Tensor

    def map(self, apply: Any) -> Kept:
        return Kept(self.texts.map(apply), apply(self.places_K), apply(self.weights_K))


@dataclass(frozen=True)
class StepBatch:
    """Everything a rank needs for one step. `num_texts` is the number of texts before equal ones were merged.

    If the backbone is frozen, the step has its pooled hidden states (T, H) of the distinct texts, and no tokens.
    """

    step: int
    texts: Packed
    parts: tuple[SubBatch, ...]
    num_texts: int
    pooled_TH: Tensor | None = None
    kept: Kept | None = None
    parcel: Parcel[StepBatch] | None = None

    def to(self, device: torch.device | str) -> StepBatch:
        return Parcel.of(self).to(device).open() if self.parcel is None else StepBatch.unpacked(self.parcel.to(device))

    @classmethod
    def unpacked(cls, parcel: Parcel[StepBatch]) -> StepBatch:
        """The batch in a parcel. The parcel is kept, to move the batch to a device."""
        return replace(parcel.open(), parcel=parcel)

    def map(self, apply: Any) -> StepBatch:
        pooled = None if self.pooled_TH is None else apply(self.pooled_TH)
        kept = None if self.kept is None else self.kept.map(apply)
        parts = tuple(part.map(apply) for part in self.parts)
        return StepBatch(self.step, self.texts.map(apply), parts, self.num_texts, pooled, kept)


@dataclass(frozen=True)
class TaskData:
    """A task's training split: its store, number of hard negatives per pair, file of a teacher's vectors, and file of a
    frozen backbone's pooled hidden states, which all tasks have or none.
    """

    store: TokenStore
    num_negatives: int = 0
    teacher: Path | None = None
    pooled: Path | None = None


class StepDataset(Dataset[StepBatch]):
    """Step number -> `StepBatch` of one rank. It has only integers and folders, so it can be pickled for spawn.

    If `keep_share` is above 0, each batch has `Kept` texts, drawn with this probability.
    """

    def __init__(
        self,
        plan: Plan,
        tasks: list[TaskData],
        *,
        rank: int = 0,
        world: int = 1,
        tokens_per_chunk: int = 2048,
        keep_share: float = 0.0,
    ) -> None:
        for task in plan.tasks:
            if task.batch_size % world:
                fits = [b for b in (task.batch_size // world * world, -(-task.batch_size // world) * world) if b]
                raise ConfigError(
                    f"{task.name}.batch_size is {task.batch_size}, not a multiple of {world} ranks: "
                    f"give {' or '.join(map(str, fits))}"
                )
        self.plan, self.tasks = plan, tasks
        self.rank, self.world, self.tokens_per_chunk, self.keep_share = rank, world, tokens_per_chunk, keep_share

    def __getitem__(self, step: int) -> StepBatch:
        rows = [self.rows(draw) for draw in self.plan.draws(step)]
        stores = [self.tasks[part.task].store for part in rows]
        wanted = [np.concatenate(part.texts) for part in rows]
        identity = np.concatenate([part.identity(store) for part, store in zip(rows, stores, strict=True)])
        distinct, first, merged = np.unique(identity, return_index=True, return_inverse=True)
        parts, start = [], 0
        for part, texts in zip(rows, wanted, strict=True):
            parts.append(_sub_batch(part, self.tasks[part.task], merged[start : start + len(texts)]))
            start += len(texts)
        files = [file for part in rows if (file := self.tasks[part.task].pooled) is not None]
        if files:
            pooled = _take_rows(files, wanted, first)
            no_tokens = Packed((), torch.arange(len(first)), num_tokens=0)
            return StepBatch(step, no_tokens, tuple(parts), len(identity), pooled, self._kept(step, distinct, merged))
        tokens = _take(stores, wanted, first)
        packed = pack(tokens, tokens_per_chunk=self.tokens_per_chunk)
        return StepBatch(step, packed, tuple(parts), len(identity), kept=self._kept(step, distinct, merged, tokens))

    def _kept(
        self, step: int, distinct: npt.NDArray[np.int64], merged: IntArray, tokens: Ragged | None = None
    ) -> Kept | None:
        """The texts to keep near the start, of the step's `distinct` identities; None if there is nothing to keep.

        `merged` has the distinct text of each row. A text is drawn on every rank that has it or on none.
        """
        if not self.keep_share:
            return None
        seed = np.uint64(stream_key(self.plan.seed, step, "keep"))
        shares = mix(distinct.view(np.uint64) ^ seed) / 2.0**64
        places = np.flatnonzero(shares < self.keep_share)
        weights = np.bincount(merged)[places] / (self.keep_share * len(merged))
        texts = NO_TEXTS
        if tokens is not None and len(places):
            texts = pack(tokens.take(places), tokens_per_chunk=self.tokens_per_chunk)
        return Kept(texts, torch.from_numpy(places), torch.from_numpy(weights).float())

    def rows(self, draw: Draw) -> _Rows:
        """This rank's rows of a draw. The texts of all ranks are needed to find out which keys are shared."""
        task, pairs, epochs = self.tasks[draw.task], draw.pairs, draw.epochs
        store = task.store
        anchors, positives = store.anchors[pairs], store.positives[pairs]
        seed = np.uint64(stream_key(self.plan.seed, self.plan.tasks[draw.task].name, "positives"))
        bits = mix(mix(pairs.astype(np.uint64) ^ seed) + epochs.astype(np.uint64))
        if store.groups is not None:
            anchors = np.where(anchors == DRAWN, draw_members(store.groups, positives, bits=mix(bits)), anchors)
            positives = draw_positives(store.groups, anchors, positives, bits=bits)
        texts: tuple[IntArray, ...] = (anchors, positives)
        is_empty = None
        if store.negatives is not None and task.num_negatives:
            hard, is_empty = draw_negatives(store.negatives, pairs, positives, count=task.num_negatives, bits=bits)
            texts += (hard,)
        of_roles = keys_of_draw(store, texts)
        if is_empty is not None:
            of_roles[2][is_empty] = EMPTY_PLACE
        keys = tuple(self._local(keys_NK) for keys_NK in of_roles)
        scores = None if store.scores is None else self._local(store.scores[pairs])
        return _Rows(draw.task, tuple(self._local(text_N) for text_N in texts), keys, scores)

    def _local(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """This rank's rows of a column of all ranks; a column may have several rows per pair (hard negatives)."""
        share = len(rows) // self.world
        return rows[self.rank * share : (self.rank + 1) * share]


@dataclass(frozen=True)
class _Rows:
    """Indices into a task's texts, and the keys of these texts, by role."""

    task: int
    texts: tuple[IntArray, ...]
    keys: tuple[npt.NDArray[np.int64], ...]
    scores: FloatArray | None

    def identity(self, store: TokenStore) -> npt.NDArray[np.int64]:
        anchors, positives, *negatives = (np.array(store.identity[texts]) for texts in self.texts)
        positives[self.texts[0] == self.texts[1]] += SECOND_VIEW
        return np.concatenate([anchors, positives, *negatives])


def keys_of_draw(store: TokenStore, texts: tuple[IntArray, ...]) -> tuple[npt.NDArray[np.int64], ...]:
    """(n, K) keys of a draw's texts by role: the store's keys that at least two of its distinct texts share, and
    identities. All other keys are dropped, so a text with thousands of known positives costs no more than any other.

    Texts with equal tokens (unknown accents and emoji, the same beginning up to `max_length`) have the same embedding,
    so they must not be negatives of each other or of each other's partners. Therefore each text has its identity as a
    key, and anchors and positives have both identities of their pair.
    """
    distinct, place = np.unique(np.concatenate(texts), return_inverse=True)
    keys = store.keys.take(distinct)
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


def _sub_batch(rows: _Rows, task: TaskData, merged: IntArray) -> SubBatch:
    store = task.store
    teacher = None if task.teacher is None else np.load(task.teacher, mmap_mode="r")
    columns, start = [], 0
    for role, texts in enumerate(rows.texts):
        log_q = store.log_q_positive if role else store.log_q_anchor
        columns.append(
            Column(
                texts_N=torch.from_numpy(merged[start : start + len(texts)]),
                keys_NK=torch.from_numpy(rows.keys[role]),
                log_q_N=torch.from_numpy(log_q[texts]),
                teacher_NE=None if teacher is None else torch.from_numpy(teacher[texts]),
            )
        )
        start += len(texts)
    scores = None if rows.scores is None else torch.from_numpy(np.array(rows.scores))
    return SubBatch(rows.task, tuple(columns), scores)


def _take(stores: list[TokenStore], wanted: list[IntArray], places: IntArray) -> Ragged:
    """Tokens of the texts at `places` of the concatenated `wanted`, with one vectorised read per store."""
    pieces, order = [], []
    for number, (here, texts) in enumerate(_by_owner(wanted, places)):
        order.append(here)
        pieces.append(stores[number].tokens.take(texts))
    joined = join(pieces)
    return joined.take(np.argsort(np.concatenate(order)))


def _take_rows(files: list[Path], wanted: list[IntArray], places: IntArray) -> Tensor:
    """(T, H) rows of the texts at the T `places` of the concatenated `wanted`, each of which has a file."""
    arrays = [np.load(file, mmap_mode="r") for file in files]
    found_TH = np.empty((len(places), arrays[0].shape[1]), dtype=np.float32)
    for number, (here, texts) in enumerate(_by_owner(wanted, places)):
        found_TH[here] = arrays[number][texts]
    return torch.from_numpy(found_TH)


def _by_owner(wanted: list[IntArray], places: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
    """For each of `wanted`: which of the `places` of the concatenated ones are in it, and the texts there."""
    bounds = np.cumsum([0, *(len(texts) for texts in wanted)])
    owner = np.searchsorted(bounds, places, side="right") - 1
    for number, texts in enumerate(wanted):
        here = np.flatnonzero(owner == number)
        yield here, texts[places[here] - bounds[number]]


def join(pieces: list[Ragged]) -> Ragged:
    """The concatenation of ragged arrays."""
    lengths = np.concatenate([piece.lengths() for piece in pieces])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Ragged(offsets, np.concatenate([piece.values.astype(np.int64) for piece in pieces]))
