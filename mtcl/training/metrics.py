"""The logged metrics: every tag name, and the running means between two log points.

Values are added up on the device and read once per log point, so logging does not make the device wait in each step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtcl.distributed import mean_over_ranks, world

TRAIN_LOSS = "train/loss"
"""The loss that is minimised, of all tasks together."""
LEARNING_RATE = "train/learning_rate"
GRADIENT_NORM = "train/gradient_norm"
DISTANCE = "train/distance_from_start"
"""The mean squared distance of texts' vectors from those of the starting weights, if the run keeps them near."""
TOKENS_PER_S = "throughput/tokens_per_s"
PAIRS_PER_S = "throughput/pairs_per_s"
PADDING_SHARE = "throughput/padding_share"
DISTINCT_SHARE = "throughput/distinct_share"
VAL_GAIN = "val/mean_gain_on_base"
TASK_TRAIN = ("loss", "accuracy", "temperature", "cosine_positives", "cosine_negatives", "left_out_share")
"""A task's training values, in the order of the tensor that `observe` takes."""


def train_tag(value: str, task: str) -> str:
    """For example `train_loss/search`: one group of charts per value, one chart per task."""
    return f"train_{value}/{task}"


def cosine_tag(one: str, other: str) -> str:
    """For example `train_gradient_cosine/jobs-search`."""
    return train_tag("gradient_cosine", f"{one}-{other}")


def eval_tag(split: str, metric: str, task: str) -> str:
    """For example `val_ndcg@10/search`."""
    return f"{split}_{metric}/{task}"


def gain_tag(task: str) -> str:
    """A task's primary metric on validation minus the base encoder's: `val_gain/search`."""
    return eval_tag("val", "gain", task)


def mean_tag(split: str) -> str:
    """The macro mean of the primary metrics of the tasks that the run trains, without replayed ones."""
    return f"{split}/mean"


def mean_of_role_tag(split: str, role: str) -> str:
    """The macro mean of the tasks in another role: `val/held_out_mean`, `val/watch_mean` or `val/replay_mean`."""
    return f"{split}/{role}_mean"


def mean_groups(split: str, tasks: Iterable[str], apart: Mapping[str, str]) -> dict[str, list[str]]:
    """The tasks of each macro mean, by its tag. `apart` has the role of each task that is not in `val/mean`."""
    groups: dict[str, list[str]] = {}
    for task in tasks:
        tag = mean_of_role_tag(split, apart[task]) if task in apart else mean_tag(split)
        groups.setdefault(tag, []).append(task)
    return groups


def means(split: str, primary: Mapping[str, float], apart: Mapping[str, str]) -> dict[str, float]:
    """Macro means of primary metrics by tag: of the run's own tasks, and of those in each other role."""
    groups = mean_groups(split, primary, apart)
    return {tag: sum(primary[task] for task in tasks) / len(tasks) for tag, tasks in groups.items()}


VAL_MEAN = mean_tag("val")


def is_over_tasks(tag: str) -> bool:
    """Whether a training or validation value is one of several tasks together, such as `val/mean`."""
    return tag.startswith(("train/", "val/"))


def training_tags(tasks: Iterable[str]) -> set[str]:
    """The tags of the values that each log point of the training has."""
    of_run = {
        TRAIN_LOSS,
        LEARNING_RATE,
        GRADIENT_NORM,
        TOKENS_PER_S,
        PAIRS_PER_S,
        PADDING_SHARE,
        DISTINCT_SHARE,
    }
    return of_run | {train_tag(value, task) for task in tasks for value in TASK_TRAIN}


@dataclass
class Throughput:
    """Numbers of tokens, texts and pairs since the last log point."""

    tokens: int = 0
    padded: int = 0
    texts: int = 0
    distinct: int = 0
    pairs: int = 0

    def values(self, seconds: float) -> dict[str, float]:
        """Rates of all ranks together, assuming that all do the same as this one; shares are of this rank only."""
        ranks = world()[1]
        shown = {PAIRS_PER_S: self.pairs * ranks / seconds, DISTINCT_SHARE: self.distinct / self.texts}
        if self.padded:  # a step on the outputs of a frozen backbone reads no tokens
            shown |= {TOKENS_PER_S: self.tokens * ranks / seconds, PADDING_SHARE: 1 - self.tokens / self.padded}
        return shown


class RunningMeans:
    """Running means between log points. `latest` has the values logged last, for the progress bar."""

    def __init__(self, tasks: list[str]) -> None:
        self.tasks = tasks
        self.latest: dict[str, float] = {}
        self._since: float | None = None
        """When the throughput clock was last read; None if it stands still."""
        self._clear()

    def observe(self, task: int, values: Tensor) -> None:
        """Add one sub-batch: `values` (len(TASK_TRAIN),) on any device, without gradient."""
        self._add(tuple(train_tag(value, self.tasks[task]) for value in TASK_TRAIN), values)

    def observe_step(self, tag: str, value: Tensor) -> None:
        """Add a step's value () of all tasks together: `TRAIN_LOSS` or `DISTANCE`."""
        self._add((tag,), value.detach().float()[None])

    def _add(self, tags: tuple[str, ...], values: Tensor) -> None:
        total, count = self._sums.get(tags, (0.0, 0))
        self._sums[tags] = total + values, count + 1

    def flush(self) -> dict[str, float]:
        """Return the means since the last flush, over all ranks, by tag, and reset. All ranks must call it together."""
        self._read_clock()
        shown = self.throughput.values(self._seconds) if self.throughput.texts else {}
        if self._sums:
            means = mean_over_ranks(torch.cat([total / count for total, count in self._sums.values()])).tolist()
            by_tag = zip((tag for tags in self._sums for tag in tags), means, strict=True)
            shown |= {tag: mean for tag, mean in by_tag if is_over_tasks(tag) or not math.isnan(mean)}
        self.latest |= shown
        self._clear()
        return shown

    def start_clock(self) -> None:
        """Start the throughput clock, at the run's first batch and after a pause; nothing if it runs."""
        if self._since is None:
            self._since = time.perf_counter()

    def pause(self) -> None:
        """Stop the throughput clock for a validation and what follows it, up to the next batch."""
        self._read_clock()
        self._since = None

    def _read_clock(self) -> None:
        if self._since is not None:
            now = time.perf_counter()
            self._seconds += now - self._since
            self._since = now

    def _clear(self) -> None:
        self._sums: dict[tuple[str, ...], tuple[Any, int]] = {}
        """By the tags of several values: the sum of each value, as one tensor, and their number."""
        self.throughput = Throughput()
        self._seconds = 0.0
