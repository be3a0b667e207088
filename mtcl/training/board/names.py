"""The names of a run's values in TensorBoard, and which values are logged.

A value has one name in callbacks, on the console, in CSV files, in Weights & Biases and MLflow: `val_ndcg@10/search`.
TensorBoard groups charts by what precedes the first slash and sorts the groups by name, so there the two parts are
swapped (`task_search/val_ndcg@10`): a task's charts are together, for eight tasks as for fifty. The values to look at
first are repeated in `summary`, which sorts before all other groups.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Literal
from urllib.parse import quote

from mtcl.training import metrics

Level = Literal["lean", "full"]
"""How much is logged. `lean`: fewer scalars, and no pictures, histograms, neighbours or vectors."""
SUMMARY = "summary"
GROUP = "task_"
PICTURES = tuple(
    f"{SUMMARY}/{name}" for name in ("exposure", "gain_by_task", "gradient_cosines", "similarity_of_tasks")
)
EXPOSURE, GAIN_BY_TASK, GRADIENT_COSINES, SIMILARITY = PICTURES
FIRST = {
    metrics.TRAIN_LOSS: "loss",
    metrics.LEARNING_RATE: "learning_rate",
    metrics.TOKENS_PER_S: "speed_tokens_per_s",
    metrics.PAIRS_PER_S: "speed_pairs_per_s",
    metrics.DISTANCE: "distance_from_start",
}
"""Values of the whole run that `summary` repeats, besides the means of a validation."""
CHARTS = {
    "validation": {"gain on the base encoder": "val_gain"},
    "training": {
        "loss": "train_loss",
        "accuracy in the batch": "train_accuracy",
        "cosine of positives": "train_cosine_positives",
        "cosine of negatives": "train_cosine_negatives",
        "share of candidates left out": "train_left_out_share",
        "temperature": "train_temperature",
    },
}
"""Custom charts with a line per task: category -> title -> the value's name in a task's group."""

LEAN_CHARTS = ("val_gain", "train_loss")


class Names:
    """The names of a run's values. `primary` has the name of each evaluated task's primary metric."""

    def __init__(self, primary: Mapping[str, str], level: Level = "full") -> None:
        self.primary, self.level = dict(primary), level
        kept = {metrics.train_tag("loss", task) for task in primary} | {metrics.gain_tag(task) for task in primary}
        self._lean = kept | {
            metrics.eval_tag(split, m, task) for task, m in primary.items() for split in ("val", "test")
        }

    def kept(self, shown: Mapping[str, float]) -> dict[str, float]:
        """The values that the level logs."""
        if self.level != "lean":
            return dict(shown)
        return {tag: value for tag, value in shown.items() if tag in self._lean or in_summary(tag)}

    def on_board(self, shown: Mapping[str, float]) -> dict[str, float]:
        """The same values under their names in TensorBoard, some of them twice."""
        return {name: value for tag, value in shown.items() for name in self._names(tag)}

    def primary_on_board(self, task: str) -> str:
        """The tag of a task's primary metric on validation."""
        return of_task(task, metrics.eval_tag("val", self.primary[task], task))

    def _names(self, tag: str) -> Iterable[str]:
        value, _, task = tag.partition("/")
        is_of_task = task in self.primary and "_" in value
        yield of_task(task, tag) if is_of_task else tag
        if (repeated := in_summary(tag)) is not None:
            yield repeated


def of_task(task: str, tag: str) -> str:
    """For example `task_search/val_mrr` for `val_mrr/search`, or for `val_mrr`."""
    return f"{GROUP}{task}/{tag.partition('/')[0]}"


@cache
def in_summary(tag: str) -> str | None:
    """A value's name in `summary`; None if it is not there.

    The means come before the tasks' gains, of which there may be fifty: `val/held_out_mean` is `summary/mean_held_out`.
    """
    value, _, name = tag.partition("/")
    if tag in FIRST:
        return f"{SUMMARY}/{FIRST[tag]}"
    if value == "val":
        role = name.removesuffix("_mean")
        return f"{SUMMARY}/{name if role == name else f'mean_{role}'}"
    if tag == metrics.gain_tag(name):
        return f"{SUMMARY}/task_gain_{name}"
    return None


def layout(level: Level = "full") -> dict[str, dict[str, list[object]]]:
    """TensorBoard's custom charts. Regular expressions stand for the tasks, so that runs with different tasks have
    equal layouts, which TensorBoard merges into one.
    """
    return {
        f"all tasks, {category}": {
            title: ["Multiline", [f"^{GROUP}[^/]+/{name}$"]]
            for title, name in charts.items()
            if level != "lean" or name in LEAN_CHARTS
        }
        for category, charts in CHARTS.items()
    }


def deep_link(run: str, *, level: Level, address: str = "http://localhost:6006") -> str:
    """The address of TensorBoard with the most useful cards pinned, and without smoothing, which would draw a few
    validations far from their values. `run` is the run's name there.
    """
    tags = [metrics.VAL_MEAN, metrics.VAL_GAIN, metrics.TRAIN_LOSS, metrics.TOKENS_PER_S]
    cards: list[dict[str, object]] = [{"plugin": "scalars", "tag": in_summary(tag)} for tag in tags]
    if level == "full":
        cards.insert(0, {"plugin": "images", "tag": GAIN_BY_TASK, "runId": f"defaultExperimentId/{run}", "sample": 0})
    pinned = quote(json.dumps(cards, separators=(",", ":")), safe="")
    return f"{address}/?pinnedCards={pinned}&smoothing=0#timeseries"
