"""Refuses tasks that would learn nothing, before the first step.

Texts that share a key are never negatives of each other. If all of a batch do (one label, a document id that is the
same for many documents, texts that are equal after they are cut), the loss is 0 whatever the encoder does: training
would run to its end without a word.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from mtcl.data.batch import StepDataset, TaskData
from mtcl.data.plan import Draw
from mtcl.distributed import world
from mtcl.errors import ConfigError
from mtcl.losses import Loss
from mtcl.losses.relation import shares_key
from mtcl.types import Kind

if TYPE_CHECKING:
    from mtcl.training.run import Run

SUB_BATCHES = 4
"""Sub-batches of each task that are looked at."""
STEPS = 200
"""Steps in which they are looked for."""
FEW = 0.1
"""A share of negatives below which a task is worth a warning."""
log = logging.getLogger("mtcl")


def check(module: Run) -> None:
    """Raise `ConfigError` for a task without negatives in its first sub-batches, and warn if there are few."""
    data = module.data
    tasks = [TaskData(data.store(name, "train"), data.task_configs[name].hard_negatives) for name in data.tasks]
    dataset, names = StepDataset(data.plan, tasks), list(data.tasks)
    for number, draws in _first_draws(module).items():
        name = names[number]
        if not _needs_negatives(cast("Loss", module.losses[name]), data.kinds[name]):
            continue
        counts = [_negatives(*dataset.rows(draw).keys) for draw in draws]
        share = sum(found for found, _ in counts) / max(1, sum(possible for _, possible in counts))
        if not share:
            raise ConfigError(f"task {name!r} would learn nothing: {_reason(module, name)}")
        if share < FEW and world()[0] == 0:
            log.warning(
                "task %r: only %.1f %% of the texts in a batch are negatives of each other, because the others share a "
                "key (look at a step with: mtcl tasks batch %s)",
                name,
                100 * share,
                name,
            )


def _first_draws(module: Run) -> dict[int, list[Draw]]:
    """The first draws of each task, by the task's number."""
    plan = module.data.plan
    found: dict[int, list[Draw]] = {number: [] for number in range(len(plan.tasks))}
    for step in range(STEPS):
        for draw in plan.draws(step):
            found[draw.task] += [draw] if len(found[draw.task]) < SUB_BATCHES else []
        if all(len(draws) == SUB_BATCHES for draws in found.values()):
            break
    return {number: draws for number, draws in found.items() if draws}  # a schedule may start a task later


def _needs_negatives(loss: Loss, kind: Kind) -> bool:
    """Whether the loss learns from keys alone: a teacher's vectors and judged pairs teach without negatives."""
    uses_keys = all(getattr(one, "keys", True) for one in loss.modules())
    return kind in (Kind.POSITIVE, Kind.PARALLEL) and loss.teacher is None and uses_keys


def _negatives(anchors: np.ndarray, positives: np.ndarray, hard: np.ndarray | None = None) -> tuple[int, int]:
    """The pairs of anchor and candidate that are negatives, and those that could be; from keys (N, K)."""
    found, possible = _not_shared(anchors, positives), len(anchors) * (len(anchors) - 1)
    if hard is not None:
        found, possible = found + _not_shared(anchors, hard), possible + len(anchors) * len(hard)
    return found, possible


def _not_shared(anchors: np.ndarray, candidates: np.ndarray) -> int:
    shared_NC: Tensor = shares_key(torch.from_numpy(anchors), torch.from_numpy(candidates))
    return int((~shared_NC).sum())


def _reason(module: Run, name: str) -> str:
    data = module.data
    store = data.store(name, "train")
    if len(np.unique(np.asarray(store.identity))) < min(3, len(store.identity)):
        length = data.length_of(name)
        return f"its texts have equal tokens, {length} of them (max_length): raise max_length or shorten the prompt"
    return (
        "in its first sub-batches all texts share a key, so none is a negative of another. A key is a label, document "
        f"id or cluster, or the tokens of texts that are equal when cut to max_length ({data.length_of(name)}): check "
        f"the columns of {data.tasks[name].pairs!r:.200}"
    )
