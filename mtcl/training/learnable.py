"""Refuses tasks that would learn nothing, before the first step and in `mtcl tasks check`.

If all texts of a batch share a key (one label, one document, a document id that many documents have, texts that are
equal after they are cut), there are no negatives, and the loss is 0 for any encoder. Judged pairs that all have the
same score teach nothing either. Without this check, training would run to its end without an error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mtcl.arrays import IntArray
from mtcl.data.plan import Draw, Plan, PlanTask, few_pairs
from mtcl.data.rows import TaskData
from mtcl.data.steps import StepDataset
from mtcl.data.store import TokenStore
from mtcl.distributed import world
from mtcl.errors import ConfigError
from mtcl.losses import Loss, default_loss
from mtcl.losses.relation import NEGATIVE, is_empty, relation
from mtcl.task.contract import Task
from mtcl.task.kind import Kind
from mtcl.task.pairs import PairTable
from mtcl.training.advice import warnings
from mtcl.training.advice.untokenised import untokenised
from mtcl.training.datamodule import MtclDataModule
from mtcl.training.task_config import MixtureConfig, TaskConfig

SUB_BATCHES = 4
"""The number of sub-batches of each task that are checked."""
STEPS = 200
"""The number of steps that are searched for them."""
FEW = 0.1
"""A share of negatives below which a task is worth a warning."""
DISTINCT = 0.5
"""A share of texts that still differ as tokens below which a task is worth a warning."""
log = logging.getLogger("mtcl")
Keys = tuple[IntArray, ...]
"""(n, K) keys of a sub-batch's anchors, positives and hard negatives."""


@dataclass(frozen=True)
class Trial:
    """A task's training split with its loss and its first sub-batches. `max_length` is None for texts without tokens;
    `pairs` describes the pair construction.
    """

    name: str
    pairs: str
    kind: Kind
    loss: Loss
    store: TokenStore
    sub_batches: Sequence[Keys]
    max_length: int | None = None


def check(data: MtclDataModule, loss_of: Callable[[str], Loss]) -> None:
    """Raise `ConfigError` for a task that would learn nothing, and warn if there is little to learn."""
    lines = check_data(data, loss_of)
    for line in [*lines, *warnings.of_run(data, loss_of)] if world()[0] == 0 else ():
        log.warning("%s", line)


def check_data(data: MtclDataModule, loss_of: Callable[[str], Loss]) -> list[str]:
    """Warnings about the tasks that a run trains. Raises `ConfigError` for a task that would learn nothing."""
    names = list(data.tasks)
    stores = {name: data.store(name, "train") for name in names}
    tasks = [TaskData(store, data.task_configs[name].hard_negatives) for name, store in stores.items()]
    dataset = StepDataset(data.plan, tasks)
    warnings = []
    for number, draws in _first_draws(data.plan).items():
        name = names[number]
        warnings += check_trial(
            Trial(
                name,
                f"{data.tasks[name].pairs!r:.200}",
                data.roles.kinds[name],
                loss_of(name),
                stores[name],
                [dataset.rows(draw).keys for draw in draws],
                data.stores.length_of(name),
            )
        )
    return warnings


def check_table(task: Task, table: PairTable, *, batch_size: int | None = None) -> list[str]:
    """Check a task's pairs without an encoder, with the default options of a run and whole texts.

    Also warns if there are fewer pairs than `batch_size`, by default that of a run.
    """
    store, batch_size = untokenised(table), batch_size or MixtureConfig.batch_size
    plan = Plan((PlanTask(task.name, len(table.anchors), batch_size),))
    dataset = StepDataset(plan, [TaskData(store, TaskConfig.hard_negatives)])
    keys = [dataset.rows(draw).keys for draw in _first_draws(plan)[0]]
    trial = Trial(task.name, f"{task.pairs!r:.200}", table.kind, default_loss(table.kind), store, keys)
    return [*check_trial(trial), *few_pairs(plan.tasks[0])]


def check_trial(trial: Trial) -> list[str]:
    """Warnings about one task. Raises `ConfigError` if it would learn nothing."""
    if reason := _same_tokens(trial):
        raise ConfigError(f"task {trial.name!r} would learn nothing: {reason}")
    warnings = _few_distinct(trial)
    if not trial.loss.needs_contrast:
        return warnings
    if trial.kind in (Kind.POSITIVE, Kind.PARALLEL):
        counts = [_negatives(*keys) for keys in trial.sub_batches]
        share = sum(found for found, _ in counts) / max(1, sum(possible for _, possible in counts))
        if not share:
            raise ConfigError(f"task {trial.name!r} would learn nothing: {_why_none(trial)}")
        if share < FEW:
            warnings.append(
                f"task {trial.name!r}: only {100 * share:.1f} % of the texts in a batch are negatives of each other, "
                f"because the others share a key (look at a step with: mtcl tasks batch {trial.name})"
            )
    elif (scores_P := trial.store.pairs.scores) is not None and len(scores := np.unique(np.asarray(scores_P))) == 1:
        raise ConfigError(
            f"task {trial.name!r} would learn nothing: all its {len(trial.store):,} pairs have the score "
            f"{scores[0]:g}: add pairs with other scores, or use a construction of positives"
        )
    return warnings


def _first_draws(plan: Plan) -> dict[int, list[Draw]]:
    """The first draws of each task, by the task's number."""
    found: dict[int, list[Draw]] = {number: [] for number in range(len(plan.tasks))}
    for step in range(STEPS):
        for draw in plan.draws(step):
            found[draw.task] += [draw] if len(found[draw.task]) < SUB_BATCHES else []
        if all(len(draws) == SUB_BATCHES for draws in found.values()):
            break
    return {number: draws for number, draws in found.items() if draws}  # a schedule may start a task later


def _negatives(anchors: IntArray, positives: IntArray, hard: IntArray | None = None) -> tuple[int, int]:
    """The pairs of anchor and candidate that are negatives, and those that could be; from keys (N, K)."""
    found, possible = _count(anchors, positives), len(anchors) * (len(anchors) - 1)
    if hard is not None:
        num_given = len(hard) - int(is_empty(torch.from_numpy(hard)).sum())
        found, possible = found + _count(anchors, hard), possible + len(anchors) * num_given
    return found, possible


def _count(anchors: IntArray, candidates: IntArray) -> int:
    found_NC = relation(torch.from_numpy(anchors), torch.from_numpy(candidates), None)
    return int((found_NC == NEGATIVE).sum())


def _same_tokens(trial: Trial) -> str:
    """A message if different texts all became the same tokens, else nothing."""
    if len(trial.store.identity) == 1 or trial.store.num_distinct > 1:
        return ""
    return f"its texts have equal tokens, {trial.max_length} of them (max_length): {_ADVICE}"


_ADVICE = "raise max_length or shorten the prompt"


def _few_distinct(trial: Trial) -> list[str]:
    num_texts, num_distinct = len(trial.store.identity), trial.store.num_distinct
    if num_distinct >= DISTINCT * num_texts:
        return []
    return [
        f"task {trial.name!r}: its {num_texts:,} texts are only {num_distinct:,} different ones after they are cut to "
        f"{trial.max_length} tokens (max_length): {_ADVICE}"
    ]


def _why_none(trial: Trial) -> str:
    """Why no text is a negative of another."""
    store = trial.store
    table = store.pairs
    for side, texts in (("anchors", table.anchors), ("positives", table.positives if table.groups is None else None)):
        used = np.unique(np.asarray(texts)) if texts is not None else np.arange(2)
        used = used[used >= 0]
        if len(used) == 1 < len(store):
            return f"all its {len(store):,} {side} are the same text: check the columns of {trial.pairs}"
        if texts is not None and len(used) > 1 and len(np.unique(np.asarray(store.identity)[used])) == 1:
            return f"its {len(used):,} {side} have equal tokens, {trial.max_length} of them (max_length): {_ADVICE}"
    cut = "" if trial.max_length is None else f" ({trial.max_length})"
    return (
        "in its first sub-batches all texts share a key, so none is a negative of another. A key is a label, document "
        f"id or cluster, or the tokens of texts that are equal when cut to max_length{cut}: check the columns of "
        f"{trial.pairs}"
    )
