"""Step number -> a rank's batch: the rows of the plan's draws, with each distinct text of the step encoded once.

Equal texts are merged across all tasks and roles; the sub-batches index into the distinct ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mtcl.arrays import IntArray, Ragged
from mtcl.data.batch import Kept, RoleTexts, StepBatch, SubBatch
from mtcl.data.packing import Packed, launch_cost, pack
from mtcl.data.plan import Draw, Plan, check_divides
from mtcl.data.pseudorandom import mix, stream_key
from mtcl.data.rows import DrawnRows, TaskData
from mtcl.data.store import TokenStore


class StepDataset(Dataset[StepBatch]):
    """Step number -> `StepBatch` of one rank. It has only integers and folders, so it can be pickled for spawn.

    If `keep_share` is above 0, each batch has `Kept` texts, drawn with this probability. `padding` is what a place of
    padding costs (`pack`).
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
        padding: float = 1.0,
    ) -> None:
        check_divides(plan.tasks, world)
        self.plan, self.tasks = plan, tasks
        self.rank, self.world, self.tokens_per_chunk, self.keep_share = rank, world, tokens_per_chunk, keep_share
        self.launch, self.padding = launch_cost(), padding

    def __getitem__(self, step: int) -> StepBatch:
        rows = [self.rows(draw) for draw in self.plan.draws(step)]
        tasks = [self.tasks[part.task] for part in rows]
        stores, pooled_files = [task.store for task in tasks], [task.pooled for task in tasks if task.pooled]
        distinct = Distinct.of(rows, stores)
        parts = [_sub_batch(*each) for each in zip(rows, tasks, distinct.places(), strict=True)]
        tokens = None if pooled_files else distinct.tokens(stores)
        return StepBatch(
            step,
            self._packed(tokens, len(distinct)),
            tuple(parts),
            len(distinct.merged),
            distinct.pooled(pooled_files) if pooled_files else None,
            self._kept(step, distinct, tokens) if self.keep_share else None,
        )

    def rows(self, draw: Draw) -> DrawnRows:
        """This rank's rows of a draw."""
        return self.tasks[draw.task].rows(draw, self.plan).of_rank(self.rank, self.world)

    def _kept(self, step: int, distinct: Distinct, tokens: Ragged | None) -> Kept:
        """The texts to keep near the start. A text is drawn on every rank that has it or on none."""
        seed = np.uint64(stream_key(self.plan.seed, step, "keep"))
        shares = mix(distinct.identity_T.view(np.uint64) ^ seed) / 2.0**64
        places_K = np.flatnonzero(shares < self.keep_share)
        weights_K = np.bincount(distinct.merged)[places_K] / (self.keep_share * len(distinct.merged))
        texts = self._packed(tokens.take(places_K) if tokens is not None and len(places_K) else None, 0)
        return Kept(texts, torch.from_numpy(places_K), torch.from_numpy(weights_K).float())

    def _packed(self, tokens: Ragged | None, num_texts: int) -> Packed:
        """The tokens in chunks; without tokens, the places of `num_texts` texts and no chunk."""
        if tokens is None:
            return Packed((), torch.arange(num_texts), num_tokens=0)
        return pack(tokens, tokens_per_chunk=self.tokens_per_chunk, launch=self.launch, padding=self.padding)


@dataclass(frozen=True)
class Distinct:
    """The T distinct texts of a step.

    `texts` has each sub-batch's texts, role after role. All of them in a row are the step's wanted texts: `merged`
    (wanted,) is the distinct text of each, and `first_T` the place of a distinct text among them.
    """

    texts: list[IntArray]
    identity_T: npt.NDArray[np.int64]
    first_T: IntArray
    merged: IntArray

    @classmethod
    def of(cls, rows: list[DrawnRows], stores: list[TokenStore]) -> Distinct:
        """The distinct texts of a step's sub-batches; `stores` has the store of each sub-batch."""
        identity = np.concatenate([part.identity(store) for part, store in zip(rows, stores, strict=True)])
        texts = [np.concatenate(part.texts) for part in rows]
        return cls(texts, *np.unique(identity, return_index=True, return_inverse=True))

    def __len__(self) -> int:
        return len(self.identity_T)

    @property
    def _bounds(self) -> IntArray:
        """The place of each sub-batch's first wanted text, and the number of all."""
        return np.cumsum([0, *(len(texts) for texts in self.texts)])

    def places(self) -> list[IntArray]:
        """For each sub-batch: the distinct text of each of its texts."""
        return np.split(self.merged, self._bounds[1:-1])

    def tokens(self, stores: list[TokenStore]) -> Ragged:
        """Tokens of the distinct texts, with one vectorised read per sub-batch."""
        pieces, order = [], []
        for store, (here, texts) in zip(stores, self._by_part(), strict=True):
            order.append(here)
            pieces.append(store.tokens.take(texts))
        return Ragged.join(pieces).take(np.argsort(np.concatenate(order)))

    def pooled(self, files: list[Path]) -> Tensor:
        """(T, H) pooled hidden states of the distinct texts, from the file of each sub-batch's task."""
        arrays = [np.load(file, mmap_mode="r") for file in files]
        found_TH = np.empty((len(self), arrays[0].shape[1]), dtype=np.float32)
        for array, (here, texts) in zip(arrays, self._by_part(), strict=True):
            found_TH[here] = array[texts]
        return torch.from_numpy(found_TH)

    def _by_part(self) -> Iterator[tuple[IntArray, IntArray]]:
        """For each sub-batch: the distinct texts that occur first in it, and their indices in its store."""
        bounds = self._bounds
        owner = np.searchsorted(bounds, self.first_T, side="right") - 1
        for number, texts in enumerate(self.texts):
            here = np.flatnonzero(owner == number)
            yield here, texts[self.first_T[here] - bounds[number]]


def _sub_batch(rows: DrawnRows, task: TaskData, places: IntArray) -> SubBatch:
    """The rows as tensors; `places` has the distinct text of each of their texts, role after role."""
    store = task.store
    teacher = None if task.teacher is None else np.load(task.teacher, mmap_mode="r")
    ends = np.cumsum([len(texts) for texts in rows.texts])
    columns = []
    for role, (texts, places_N) in enumerate(zip(rows.texts, np.split(places, ends[:-1]), strict=True)):
        log_q = store.log_q.positive if role else store.log_q.anchor
        columns.append(
            RoleTexts(
                texts_N=torch.from_numpy(places_N),
                keys_NK=torch.from_numpy(rows.keys[role]),
                log_q_N=torch.from_numpy(log_q[texts]),
                teacher_NE=None if teacher is None else torch.from_numpy(teacher[texts]),
                scores_N=None if role or rows.scores is None else torch.from_numpy(np.array(rows.scores)),
            )
        )
    return SubBatch(rows.task, tuple(columns))
