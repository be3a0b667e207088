"""Scores of a study's runs by arm and task, paired: in every arm row s is the same seed and column i the same item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtcl.arrays import Float64Array, IntArray
from mtcl.errors import DataError
from mtcl.studies.item_scores import read_scores
from mtcl.studies.statistics import Differences
from mtcl.studies.transfer.arms import Arm, Level, arms_of, run_name
from mtcl.studies.transfer.config import SINGLE, StudyConfig
from mtcl.task.metrics import Metric

FOLDERS = {"test": "test", "validation": "val"}


@dataclass(frozen=True)
class Paired:
    """One arm's scores on one task, (S, I)."""

    scores_SI: Float64Array
    clusters_I: IntArray | None

    @property
    def mean(self) -> float:
        """Over seeds and items."""
        return float(self.scores_SI.mean())

    def minus(self, other: Paired) -> Differences:
        """The differences from another arm on the same seeds and items."""
        return Differences.between(self.scores_SI, other.scores_SI, self.clusters_I)


@dataclass(frozen=True)
class Outcome:
    """All scores of a study. `metrics` has each task's primary metric, `num_pairs` the pairs it could train on."""

    study: StudyConfig
    metrics: Mapping[str, Metric]
    num_pairs: Mapping[str, int]
    scores: Mapping[tuple[str, Level, str], Paired]

    def of(self, arm: Arm, level: Level, task: str) -> Paired:
        """The scores of an arm on a task, trained on `level` pairs of each of its tasks."""
        return self.scores[str(arm), level, task]

    def has(self, kind: str) -> bool:
        """Whether the study has arms of this kind."""
        return kind in self.study.arms

    def better_single(self, task: str, level: Level) -> Arm:
        """The single arm with the higher mean on the evaluated items, a choice that favours the single arms."""
        arms = [Arm(kind, task) for kind in SINGLE if self.has(kind)]
        return max(arms, key=lambda arm: self.of(arm, level, task).mean)


def read_outcome(
    study: StudyConfig, folder: Path, metrics: Mapping[str, Metric], num_pairs: Mapping[str, int]
) -> Outcome:
    """Read every run's scores. Raises `DataError` if runs did not score the same items."""
    scores: dict[tuple[str, Level, str], Paired] = {}
    for task in study.evaluated:
        items_I: IntArray | None = None
        for level in study.pairs_per_task:
            for arm in arms_of(study):
                names = [run_name(study, arm, seed, level) for seed in study.seeds]
                paths = [folder / "runs" / name / "scores" / FOLDERS[study.split] / f"{task}.parquet" for name in names]
                found = [read_scores(path, metrics[task]) for path in paths]
                items_I = found[0].items_I if items_I is None else items_I
                for path, one in zip(paths, found, strict=True):
                    if not np.array_equal(one.items_I, items_I):
                        raise DataError(f"{path} has other items than the study's other runs: the data changed")
                stacked = np.stack([one.scores_I for one in found])
                scores[str(arm), level, task] = Paired(stacked, found[0].clusters_I)
    return Outcome(study, metrics, num_pairs, scores)
