"""The pictures of a validation, from values that the run has anyway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mtcl.arrays import FloatArray
from mtcl.training.board.drawing import Bar, Image, bars, matrix
from mtcl.training.board.exposure import Exposure
from mtcl.training.board.gains import Gain


def gain_by_task(gains: Mapping[str, Gain], *, over: str, step: int) -> Image:
    """A bar per task, in the configuration's order, with its 95 % interval over items."""
    rows = [Bar(task, gain.gain, f"{gain.gain:+.3f}", half_width=gain.half_width) for task, gain in gains.items()]
    return bars(rows, title=f"gain over the {over}, step {step}", legend="lines: 95 % interval over validation items")


def exposure(tasks: Sequence[Exposure], *, step: int) -> Image:
    """A bar per task: its share of the pairs drawn, and a tick for its share in the plan."""
    rows = [Bar(one.task, one.actual, f"{one.epochs:.2g} passes", mark=one.planned) for one in tasks]
    return bars(rows, title=f"share of the pairs drawn, step {step}", legend="tick: the plan's share")


def gradient_cosines(tasks: Sequence[str], values_KK: FloatArray, *, step: int) -> Image:
    """A cell per pair of tasks."""
    return matrix(
        tasks, values_KK, title=f"gradient cosines, step {step}", legend="-1 conflicting, 0 unrelated, 1 the same"
    )


def similarity(tasks: Sequence[str], values_KK: FloatArray, *, step: int) -> Image:
    """A cell per pair of tasks: `points.similarity`."""
    return matrix(tasks, values_KK, title=f"mean cosine of two texts, step {step}", legend="by the tasks of the texts")


def mean_cosines(sums: Mapping[tuple[str, str], tuple[float, int]], tasks: Sequence[str]) -> FloatArray:
    """(K, K) mean gradient cosines from their sums and counts by pair of tasks; NaN for pairs never in one step."""
    found = np.full((len(tasks), len(tasks)), np.nan)
    place = {task: number for number, task in enumerate(tasks)}
    for (one, other), (total, count) in sums.items():
        found[place[one], place[other]] = found[place[other], place[one]] = total / count
    np.fill_diagonal(found, 1.0)
    return found
