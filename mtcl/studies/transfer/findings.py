"""The findings of a study as plain values: comparisons of arms with intervals, claims, the matrix of transfer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mtcl.studies.statistics import Interval, bootstrap, macro_bootstrap, on_every_task
from mtcl.studies.transfer.arms import Arm, Level, arms_of
from mtcl.studies.transfer.config import SINGLE
from mtcl.studies.transfer.outcome import Outcome

JOINT, BASE, PCA = Arm("joint"), Arm("base"), Arm("base_pca")


@dataclass(frozen=True)
class Gain:
    """The metrics of two arms on one task, and their difference."""

    task: str
    ours: float
    against: str
    theirs: float
    interval: Interval


@dataclass(frozen=True)
class Claim:
    """An arm against the better single arms: whether no task is worse by its margin, and the macro mean is better."""

    margins: dict[str, float]
    failing: tuple[str, ...]
    is_no_task_worse: bool
    is_mean_better: bool


@dataclass(frozen=True)
class Comparison:
    """Gains by task and of the macro mean. `title` names the two arms. Only comparisons of jointly trained arms with
    the better single arms have a claim.
    """

    title: str
    gains: tuple[Gain, ...]
    macro: Interval
    claim: Claim | None = None


@dataclass(frozen=True)
class LevelFindings:
    """Everything at one data setting.

    `matrix` has each arm's mean score per task. `given[a][b]` is what task a gives to task b: the score on b of joint
    minus that of joint without a.
    """

    pairs_per_task: Level
    comparisons: tuple[Comparison, ...]
    matrix: dict[str, dict[str, float]]
    given: dict[str, dict[str, Interval]]


@dataclass(frozen=True)
class Findings:
    """A study's findings at all its data settings."""

    tasks: dict[str, str]
    held_out: dict[str, str]
    num_train_pairs: dict[str, int]
    seeds: list[int]
    steps: int
    split: str
    levels: tuple[LevelFindings, ...]


def findings_of(outcome: Outcome) -> Findings:
    """Every comparison that the study has the arms for."""
    study = outcome.study
    return Findings(
        tasks={name: outcome.metrics[name].name for name in study.tasks},
        held_out={name: outcome.metrics[name].name for name in study.held_out},
        num_train_pairs=dict(outcome.num_pairs),
        seeds=list(study.seeds),
        steps=study.joint_steps,
        split=study.split,
        levels=tuple(_level(outcome, level) for level in study.pairs_per_task),
    )


def compare(
    outcome: Outcome, level: Level, title: str, ours: Mapping[str, Arm], against: Mapping[str, Arm]
) -> Comparison:
    """Compare arms by task; each task may have different arms."""
    gains, differences = [], []
    for task, arm in against.items():
        own, other = outcome.of(ours[task], level, task), outcome.of(arm, level, task)
        differences.append(own.minus(other))
        gains.append(Gain(task, own.mean, str(arm), other.mean, bootstrap(differences[-1])))
    return Comparison(title, tuple(gains), macro_bootstrap(differences))


def _level(outcome: Outcome, level: Level) -> LevelFindings:
    arms, evaluated = arms_of(outcome.study), outcome.study.evaluated
    return LevelFindings(
        pairs_per_task=level,
        comparisons=tuple(_comparisons(outcome, level)),
        matrix={str(arm): {task: outcome.of(arm, level, task).mean for task in evaluated} for arm in arms},
        given=_given(outcome, level),
    )


def _comparisons(outcome: Outcome, level: Level) -> list[Comparison]:
    study, found = outcome.study, []
    tuned = {task: Arm("joint_then_single", task) for task in study.tasks}
    has_single = any(outcome.has(kind) for kind in SINGLE)
    single = {task: outcome.better_single(task, level) for task in study.tasks} if has_single else {}

    def add(title: str, ours: Arm | Mapping[str, Arm], against: Mapping[str, Arm], *, claims: bool = False) -> None:
        by_task = dict.fromkeys(against, ours) if isinstance(ours, Arm) else ours
        if against and all(outcome.has(arm.kind) for arm in (*by_task.values(), *against.values())):
            comparison = compare(outcome, level, title, by_task, against)
            found.append(replace(comparison, claim=_claim(outcome, comparison)) if claims else comparison)

    add("joint against the better single arm", JOINT, single, claims=True)
    add("joint, then each task alone, against the better single arm", tuned, single, claims=True)
    add("joint, then each task alone, against joint", tuned, dict.fromkeys(study.tasks, JOINT))
    for kind in SINGLE if all(outcome.has(kind) for kind in SINGLE) else ():
        add(f"joint against {kind}", JOINT, {task: Arm(kind, task) for task in study.tasks})
    add("joint against base", JOINT, dict.fromkeys(study.tasks, BASE))
    add("joint against base with PCA", JOINT, dict.fromkeys(study.tasks, PCA))
    add("held out: joint against base", JOINT, dict.fromkeys(study.held_out, BASE))
    add("held out: joint against base with PCA", JOINT, dict.fromkeys(study.held_out, PCA))
    add("joint with an unrelated task against joint", Arm("control"), dict.fromkeys(study.tasks, JOINT))
    for pair in study.pairs if single else []:
        title = f"{pair[0]} with {pair[1]} against the better single arm"
        add(title, Arm("pairs", "+".join(pair)), {task: single[task] for task in pair})
    return found


def _claim(outcome: Outcome, comparison: Comparison) -> Claim:
    margins = {gain.task: outcome.study.margin_of(gain.task) for gain in comparison.gains}
    verdict = on_every_task({gain.task: gain.interval for gain in comparison.gains}, margins=margins)
    return Claim(margins, verdict.failing, verdict.holds, comparison.macro.low > 0)


def _given(outcome: Outcome, level: Level) -> dict[str, dict[str, Interval]]:
    if not (outcome.has("leave_one_out") and outcome.has("joint")):
        return {}
    given: dict[str, dict[str, Interval]] = {}
    for arm in arms_of(outcome.study):
        if arm.kind == "leave_one_out":
            given[arm.subject] = {
                task: bootstrap(outcome.of(JOINT, level, task).minus(outcome.of(arm, level, task)))
                for task in outcome.study.evaluated
            }
    return given
