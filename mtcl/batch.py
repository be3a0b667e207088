"""A step's data for one rank: its share of the plan's draws as ready tensors.

Distinct texts across all tasks and roles of the step are encoded once; the sub-batches point into them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mtcl.errors import ConfigError
from mtcl.packing import Packed, pack
from mtcl.plan import Draw, Plan, draw_positives, mix, stream_key
from mtcl.store import TokenStore
from mtcl.types import IntArray, Ragged


@dataclass(frozen=True)
class SubBatch:
    """This rank's rows of one task: texts (N,) as indices into the step's distinct texts, keys (N, K) padded with 0."""

    task: int
    anchors_N: Tensor
    positives_N: Tensor
    anchor_keys_NK: Tensor
    positive_keys_NK: Tensor

    def map(self, apply: Any) -> SubBatch:
        tensors = (self.anchors_N, self.positives_N, self.anchor_keys_NK, self.positive_keys_NK)
        return SubBatch(self.task, *(apply(t) for t in tensors))


@dataclass(frozen=True)
class StepBatch:
    """Everything a rank needs for one step. `num_texts` counts texts before equal ones were merged."""

    step: int
    texts: Packed
    parts: tuple[SubBatch, ...]
    num_texts: int

    def to(self, device: torch.device | str, non_blocking: bool = False) -> StepBatch:
        parts = tuple(part.map(lambda x: x.to(device, non_blocking=non_blocking)) for part in self.parts)
        return StepBatch(self.step, self.texts.to(device, non_blocking), parts, self.num_texts)

    def pin_memory(self) -> StepBatch:
        parts = tuple(part.map(lambda x: x.pin_memory()) for part in self.parts)
        return StepBatch(self.step, self.texts.pin_memory(), parts, self.num_texts)


class StepDataset(Dataset[StepBatch]):
    """Step number -> `StepBatch` of one rank. Holds integers and folders only, so it pickles under spawn."""

    def __init__(
        self, plan: Plan, stores: list[TokenStore], *, rank: int = 0, world: int = 1, tokens_per_chunk: int = 2048
    ) -> None:
        for task in plan.tasks:
            if task.batch_size % world:
                fits = [b for b in (task.batch_size // world * world, -(-task.batch_size // world) * world) if b]
                raise ConfigError(
                    f"tasks.{task.name}.batch_size is {task.batch_size}, which {world} ranks do not divide: "
                    f"give {' or '.join(map(str, fits))}"
                )
        self.plan, self.stores = plan, stores
        self.rank, self.world, self.tokens_per_chunk = rank, world, tokens_per_chunk

    def __getitem__(self, step: int) -> StepBatch:
        rows = [self._rows(draw) for draw in self.plan.draws(step)]
        stores = [self.stores[task] for task, _, _ in rows]
        wanted = [np.concatenate([anchors, positives]) for _, anchors, positives in rows]
        identity = np.concatenate([store.identity[texts] for store, texts in zip(stores, wanted, strict=True)])
        _, first, merged = np.unique(identity, return_index=True, return_inverse=True)
        parts, start = [], 0
        for (task, anchors, positives), store in zip(rows, stores, strict=True):
            end = start + 2 * len(anchors)
            parts.append(_sub_batch(task, store, anchors, positives, merged[start:end]))
            start = end
        packed = pack(_take(stores, wanted, first), tokens_per_chunk=self.tokens_per_chunk)
        return StepBatch(step, packed, tuple(parts), len(identity))

    def _rows(self, draw: Draw) -> tuple[int, IntArray, IntArray]:
        """This rank's rows of a draw: task, anchors and positives as text indices of the task's store."""
        store, share = self.stores[draw.task], len(draw.pairs) // self.world
        mine = slice(self.rank * share, (self.rank + 1) * share)
        pairs, epochs = draw.pairs[mine], draw.epochs[mine]
        anchors, positives = store.anchors[pairs], store.positives[pairs]
        if store.groups is not None:
            seed = np.uint64(stream_key(self.plan.seed, self.plan.tasks[draw.task].name, "positives"))
            keys = mix(mix(pairs.astype(np.uint64) ^ seed) + epochs.astype(np.uint64))
            positives = draw_positives(store.groups, anchors, positives, keys=keys)
        return draw.task, anchors, positives


def _sub_batch(task: int, store: TokenStore, anchors: IntArray, positives: IntArray, merged: IntArray) -> SubBatch:
    return SubBatch(
        task=task,
        anchors_N=torch.from_numpy(merged[: len(anchors)]),
        positives_N=torch.from_numpy(merged[len(anchors) :]),
        anchor_keys_NK=torch.from_numpy(store.keys.take(anchors).padded(store.max_keys, 0)),
        positive_keys_NK=torch.from_numpy(store.keys.take(positives).padded(store.max_keys, 0)),
    )


def _take(stores: list[TokenStore], wanted: list[IntArray], places: IntArray) -> Ragged:
    """Tokens of the texts at `places` of the concatenated `wanted`, one vectorised read a store."""
    bounds = np.cumsum([0, *(len(texts) for texts in wanted)])
    owner = np.searchsorted(bounds, places, side="right") - 1
    pieces, order = [], []
    for number, (store, texts) in enumerate(zip(stores, wanted, strict=True)):
        mine = np.flatnonzero(owner == number)
        order.append(mine)
        pieces.append(store.tokens.take(texts[places[mine] - bounds[number]]))
    joined = join(pieces)
    return joined.take(np.argsort(np.concatenate(order)))


def join(pieces: list[Ragged]) -> Ragged:
    """Ragged arrays one after the other."""
    lengths = np.concatenate([piece.lengths() for piece in pieces])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Ragged(offsets, np.concatenate([piece.values.astype(np.int64) for piece in pieces]))
