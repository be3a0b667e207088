"""Build the run configurations of a study's arms. Pure functions.

Arms are paired: a task's stream of pairs is a function of (seed, task, position), so every arm sees the same
sub-batches of a task in the same order. Arms differ in the number of sub-batches and in the other tasks of a step:

    joint            N steps of K sub-batches
    single_data      the task's own sub-batches of the joint run, one per step
    single_compute   N steps with at least as many pairs as the joint run, all of this task
    joint_then_...   the same as single_data, from the joint run's weights
    leave_one_out,   the remaining tasks' sub-batches of the joint run;
    pairs, control   the number of steps is computed
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from mtcl.configuration.yaml_files import merge
from mtcl.data.plan import Plan
from mtcl.studies.transfer.config import OF_ONE_TASK, StudyConfig
from mtcl.training.task_config import MixtureConfig, TaskConfig

Level = int | None
"""Pairs of each task; None for all."""


@dataclass(frozen=True)
class Arm:
    """An arm; `subject` is the single task, the task left out, or two tasks joined by +; "" for other kinds."""

    kind: str
    subject: str = ""

    def __str__(self) -> str:
        return f"{self.kind}-{self.subject}" if self.subject else self.kind


@dataclass(frozen=True)
class StudyRun:
    """One run of the study. `config` is for `mtcl fit` (for `mtcl test` if the run trains nothing). `start` names the
    run whose weights it starts from, "" for the base encoder, and `start_config` is the configuration of that run.
    """

    arm: Arm
    seed: int
    name: str
    config: dict[str, Any]
    start: str = ""
    start_config: dict[str, Any] | None = None

    @property
    def is_trained(self) -> bool:
        """False for the base model, as it is or reduced by PCA."""
        return not self.arm.kind.startswith("base")


def arms_of(study: StudyConfig) -> list[Arm]:
    """The arms in the order of the report."""
    subjects = {
        **{kind: list(study.tasks) for kind in OF_ONE_TASK},
        "leave_one_out": list(study.tasks) if len(study.tasks) > 2 else [],
        "pairs": ["+".join(pair) for pair in study.pairs],
    }
    return [Arm(kind, subject) for kind in study.arms for subject in subjects.get(kind, [""])]


def trained_tasks(study: StudyConfig, arm: Arm) -> list[str]:
    """The tasks that an arm trains; for a base arm, the tasks whose texts a PCA may use."""
    if arm.kind in OF_ONE_TASK:
        return [arm.subject]
    if arm.kind == "leave_one_out":
        return [name for name in study.tasks if name != arm.subject]
    if arm.kind == "pairs":
        return arm.subject.split("+")
    return [*study.tasks, *([study.control] if arm.kind == "control" and study.control else [])]


def runs_of(study: StudyConfig, num_pairs: dict[str, int]) -> list[StudyRun]:
    """Every run of the study. `num_pairs` has the number of training pairs of each task, `control` included."""
    runs: list[StudyRun] = []
    for level in study.pairs_per_task:
        for arm in arms_of(study):
            for seed in study.seeds:
                run = _run(study, arm, seed, level, num_pairs)
                if run.name not in {other.name for other in runs}:
                    runs.append(run)
    return runs


def run_name(study: StudyConfig, arm: Arm, seed: int, level: Level) -> str:
    """The run's folder: ARM-SEED, or ARM-PAIRS-SEED in a study of several data settings."""
    if arm.kind == "base":
        return "base"
    part = "" if len(study.pairs_per_task) == 1 or arm.kind == "base_pca" else f"-{level or 'all'}"
    return f"{arm}{part}-{seed}"


def num_steps(study: StudyConfig, arm: Arm, plan: Plan, joint: Plan) -> int:
    """Optimizer steps of an arm, such that it sees its share of the joint run's sub-batches."""
    if arm.kind in ("joint", "single_compute"):
        return study.joint_steps
    own = [task.name for task in plan.tasks if task.name in study.tasks]
    wanted = sum(_share(joint, name) for name in own) * joint.num_slots * study.joint_steps
    return max(1, round(wanted / (plan.num_slots * sum(_share(plan, name) for name in own))))


def plan_of(config: dict[str, Any], num_pairs: dict[str, int], *, seed: int = 0) -> Plan:
    """The plan that a run of this configuration follows."""
    data = config.get("data") or {}
    mixture = MixtureConfig(**{field.name: data[field.name] for field in fields(MixtureConfig) if field.name in data})
    tasks = {name: _plan_settings(settings or {}) for name, settings in config["tasks"].items()}
    return mixture.plan(tasks, num_pairs, seed=seed)


def _plan_settings(settings: dict[str, Any]) -> TaskConfig:
    """The settings of a task that the plan needs; the others are not instantiated."""
    return TaskConfig(**{key: settings[key] for key in ("batch_size", "weight", "pairs_per_task") if key in settings})


def _run(study: StudyConfig, arm: Arm, seed: int, level: Level, num_pairs: dict[str, int]) -> StudyRun:
    joint_config = _joint_config(study, seed, level)
    joint = plan_of(joint_config, num_pairs)
    config = _settings(study, trained_tasks(study, arm), seed, level)
    config["data"]["tasks_per_step"] = _num_slots(study, arm, joint)
    config = merge(config, {"trainer": {"max_steps": num_steps(study, arm, plan_of(config, num_pairs), joint)}})
    config = merge(config, study.arm_overrides.get(arm.kind, {}))
    config["tasks"] = {name: config["tasks"][name] for name in trained_tasks(study, arm)}
    if arm.kind == "base":
        config = merge(config, {"model": {"encoder": {"dim": None}}})
    elif arm.kind == "base_pca":
        config = merge(config, {"model": {"encoder": {"dim": study.dim, "projection": "pca"}}})
    name = run_name(study, arm, seed, level)
    if arm.kind != "joint_then_single":
        return StudyRun(arm, seed, name, config)
    return StudyRun(arm, seed, name, config, run_name(study, Arm("joint"), seed, level), joint_config)


def _num_slots(study: StudyConfig, arm: Arm, joint: Plan) -> int:
    """Sub-batches in a batch of the arm."""
    if arm.kind == "single_compute":
        (own,) = [task.batch_size for task in joint.tasks if task.name == arm.subject]
        pairs = joint.num_slots * sum(_share(joint, task.name) * task.batch_size for task in joint.tasks)
        return max(1, math.ceil(round(pairs / own, 9)))
    if arm.kind == "control" and joint.num_slots == len(study.tasks):
        return joint.num_slots + 1
    return min(joint.num_slots, len(trained_tasks(study, arm)))


def _joint_config(study: StudyConfig, seed: int, level: Level) -> dict[str, Any]:
    """The joint run's configuration, from which the other arms' sizes are computed."""
    tasks = list(study.tasks)
    config = merge(_settings(study, tasks, seed, level), {"trainer": {"max_steps": study.steps}})
    config = merge(config, study.arm_overrides.get("joint", {}))
    return {**config, "tasks": {name: config["tasks"][name] for name in tasks}}


def _settings(study: StudyConfig, tasks: list[str], seed: int, level: Level) -> dict[str, Any]:
    own = {
        "seed_everything": seed,
        "tasks": {name: study.tasks.get(name) or {} for name in tasks},
        "data": {"pairs_per_task": level, "alpha": 0.0},
        "trainer": {"enable_progress_bar": False},
    }
    return merge(own, study.overrides)


def _share(plan: Plan, name: str) -> float:
    return float(plan.shares()[[task.name for task in plan.tasks].index(name)])
