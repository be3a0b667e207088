"""The configuration of a study, given as a YAML file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from mtcl.errors import ConfigError, nearest

KINDS = (
    "base",
    "base_pca",
    "single_data",
    "single_compute",
    "joint",
    "joint_then_single",
    "leave_one_out",
    "pairs",
    "control",
)
"""Arms, in order: the base encoder; the base with PCA to `model.encoder.dim`; each task alone on as many of its pairs
as the joint run uses; each task alone for the joint run's total steps and pairs; all tasks; each task alone from the
joint run's weights; all tasks but one; the `pairs` of tasks; all tasks and the unrelated task `control`."""
SINGLE = ("single_data", "single_compute")
OF_ONE_TASK = (*SINGLE, "joint_then_single")
SET_BY_STUDY = {
    "seed_everything": "`seeds`",
    "data.seed": "`seeds`",
    "data.pairs_per_task": "`pairs_per_task`",
    "data.pairs_per_label": "`pairs_per_task`: a study counts pairs",
    "data.held_out": "`held_out`",
    "data.allow_leaks": "`allow_leaks`",
    "trainer.max_steps": "`steps`",
    "tasks": "a task's settings under `tasks`",
}
"""Keys of a run that follow from the study, and what to give instead. Neither overrides nor variables may set them."""
SET_BY_ARM = ("trainer.max_steps", "tasks")
"""Those that `arm_overrides` may set all the same."""
SAME_IN_ALL_ARMS = ("data.root", "data.tasks_dir")
"""Keys that only `overrides` may set, since all arms are scored on the same items."""
OF_A_TASK = {
    "weight_schedule": "a study computes each task's steps, so give one weight",
    "pairs_per_label": "a study counts pairs, so give the study's pairs_per_task",
    "watch": "a study trains its tasks, so name the task under held_out",
    "replay": "a study trains its tasks from the base encoder, so leave it out",
}
"""Settings of a task that a study cannot have, and why."""


@dataclass(frozen=True)
class StudyConfig:
    """A study of transfer.

    Attributes:
        tasks: The tasks to train jointly, with settings as in the configuration of a run.
        steps: Optimizer steps of the joint arm; the steps of the other arms are computed from it.
        seeds: Each seed sets the data subset, the initialisation and the order, the same in all arms.
        arms: The arms to run. The study's main table needs `single_data`, `single_compute` and `joint`.
        pairs: Pairs of tasks to train together, for the arm `pairs`.
        control: An unrelated task to train with all others, for the arm `control`.
        held_out: Tasks to evaluate but never train; they need no training split.
        allow_leaks: Continue even if texts of held-out tasks occur among the training texts; a list of pairs
            [held_out, trained] accepts the common texts of these tasks only.
        pairs_per_task: Number of training pairs per task; null for all. Several numbers give a learning curve.
        margin: Largest loss in a task's metric that still counts as not worse.
        margins: Margins of single tasks, instead of `margin`.
        split: Split to evaluate: test for published figures, validation while you search for a recipe.
        overrides: Any keys of a run's configuration, for every arm.
        arm_overrides: The same for one kind of arm, after `overrides`; a task's settings apply where it is trained.
        keep_checkpoints: Kinds of arms whose best checkpoint is kept after its evaluation.
    """

    tasks: dict[str, Any]
    steps: int
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    arms: list[str] = field(default_factory=lambda: [k for k in KINDS if k not in ("pairs", "control")])
    pairs: list[list[str]] = field(default_factory=list)
    control: str | None = None
    held_out: list[str] = field(default_factory=list)
    allow_leaks: bool | list[list[str]] = False
    pairs_per_task: list[int | None] = field(default_factory=lambda: [None])
    margin: float = 0.005
    margins: dict[str, float] = field(default_factory=dict)
    split: str = "test"
    overrides: dict[str, Any] = field(default_factory=dict)
    arm_overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    keep_checkpoints: list[str] = field(default_factory=lambda: ["joint"])

    def __post_init__(self) -> None:
        if len(self.tasks) < 2:
            raise ConfigError(f"tasks has {list(self.tasks)}: transfer needs at least two")
        if self.steps < 1:
            raise ConfigError(f"steps is {self.steps}: give the joint arm's optimizer steps")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds is {self.seeds}: give at least one, each once")
        if self.split not in ("test", "validation"):
            raise ConfigError(f"split is {self.split!r}: give test or validation")
        for margin in (self.margin, *self.margins.values()):
            if not 0 <= margin < math.inf:
                raise ConfigError(f"a margin is {margin}: give 0 or more, in units of the task's metric")
        for arm, settings in (("all arms", self.overrides), *self.arm_overrides.items()):
            self._check_settings(arm, settings)
        if not self.pairs_per_task:
            raise ConfigError("pairs_per_task is empty: give [null] for all pairs")
        for kind in chain(self.arms, self.arm_overrides, self.keep_checkpoints):
            if kind not in KINDS:
                raise ConfigError(f"unknown arm {kind!r}{nearest(kind, KINDS)}")
        self._check_replaced()
        self._check_tasks()

    def _check_settings(self, arm: str, settings: Any) -> None:
        """Overrides must be parts of a run's configuration: keys with values, in sections."""
        sections = ("model", "data", "trainer", "tasks")
        parts = [settings[name] for name in sections if name in settings] if isinstance(settings, dict) else []
        if odd_parts := [part for part in (settings, *parts) if not isinstance(part, dict)]:
            raise ConfigError(f"the overrides of {arm} have {odd_parts[0]!r}: give keys with values, or leave it out")
        tasks = settings.get("tasks", {})
        if odd := [
            name for name in tasks if name not in {*self.tasks, self.control} or not isinstance(tasks[name], dict)
        ]:
            raise ConfigError(f"the overrides of {arm} set the task {odd[0]!r} to {tasks[odd[0]]!r}: give settings")

    def _check_replaced(self) -> None:
        """Settings must not replace what makes the arms, seeds and data settings of the study differ."""
        elsewhere = dict.fromkeys(SAME_IN_ALL_ARMS, "`overrides`: all arms read the same data")
        of_arm = {key: instead for key, instead in SET_BY_STUDY.items() if key not in SET_BY_ARM} | elsewhere
        parts = [("overrides", self.overrides, SET_BY_STUDY)]
        parts += [(f"arm_overrides.{arm}", settings, of_arm) for arm, settings in self.arm_overrides.items()]
        for where, settings, refused in parts:
            for key, instead in refused.items():
                section, _, name = key.rpartition(".")
                values = settings.get(section, {}) if section else settings
                if name in values:
                    raise ConfigError(
                        f"{where}.{key} is {values[name]!r:.80}, which would replace the study's own: give {instead}"
                    )
        self._check_settings_of_tasks("tasks", self.tasks, has_levels=self.pairs_per_task != [None])
        for arm, settings in self.arm_overrides.items():
            self._check_settings_of_tasks(f"arm_overrides.{arm}.tasks", settings.get("tasks", {}), has_levels=True)
            if not isinstance(steps := settings.get("trainer", {}).get("max_steps", 1), int) or steps < 1:
                raise ConfigError(f"arm_overrides.{arm}.trainer.max_steps is {steps!r}: give the arm's optimizer steps")

    def _check_settings_of_tasks(self, where: str, tasks: dict[str, Any], *, has_levels: bool) -> None:
        """With `has_levels`, a task has no number of pairs of its own: the study gives it, the same in all arms."""
        levels = {"pairs_per_task": "the study's pairs_per_task is the same for all tasks and arms, so leave it out"}
        refused = OF_A_TASK | (levels if has_levels else {})
        for name, settings in tasks.items():
            if odd := [key for key in refused if (settings or {}).get(key)]:
                raise ConfigError(f"{where}.{name}.{odd[0]} is {settings[odd[0]]!r}: {refused[odd[0]]}")

    def _check_tasks(self) -> None:
        for name in chain(self.margins, *self.pairs):
            if name not in self.tasks:
                raise ConfigError(f"{name!r} is not a task of the study{nearest(name, self.tasks)}")
        if odd := [pair for pair in self.pairs if len(set(pair)) != 2]:
            raise ConfigError(f"pairs has {odd[0]}: give two different tasks")
        if trained := [name for name in self.held_out if name in self.tasks or name == self.control]:
            raise ConfigError(f"{trained[0]!r} is held out and trained: remove it from one of the two")
        if self.control in self.tasks:
            raise ConfigError(f"control is {self.control!r}, one of the joint tasks: give an unrelated one")
        for arm, key in (("control", self.control), ("pairs", self.pairs)):
            if arm in self.arms and not key:
                raise ConfigError(f"arm {arm!r} needs the key {arm!r}")
        if "joint_then_single" in self.arms:
            for key, arms in (("arms", self.arms), ("keep_checkpoints", self.keep_checkpoints)):
                if "joint" not in arms:
                    raise ConfigError(f"arm 'joint_then_single' starts from the joint arm's weights: add it to {key}")
        if "base_pca" in self.arms and self.dim is None:
            raise ConfigError("arm 'base_pca' needs overrides.model.encoder.dim: give the dimensions of the PCA")

    @property
    def dim(self) -> int | None:
        """Dimensions of the projection, or None without one."""
        encoder = (self.overrides.get("model") or {}).get("encoder") or {}
        dim: int | None = encoder.get("dim")
        return dim

    @property
    def joint_steps(self) -> int:
        """Optimizer steps of the joint arm, including its own overrides."""
        trainer = self.arm_overrides.get("joint", {}).get("trainer", {})
        steps: int = trainer.get("max_steps", self.steps)
        return steps

    @property
    def evaluated(self) -> list[str]:
        """Tasks that every arm is evaluated on."""
        return [*self.tasks, *self.held_out]

    def margin_of(self, task: str) -> float:
        """A task's own margin of equivalence, or that of all tasks."""
        return self.margins.get(task, self.margin)
