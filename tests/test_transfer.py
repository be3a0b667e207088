"""Studies of transfer: arms are paired, runs go on where they were, findings are what the scores say.

python -m pytest tests/test_transfer.py     # -m "not slow" leaves out the study that trains and is killed twice
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtcl import MRR, NDCG
from mtcl.commands.arguments import parse
from mtcl.errors import ConfigError, DataError
from mtcl.studies.transfer import StudyConfig
from mtcl.studies.transfer.arms import Arm, StudyRun, arms_of, plan_of, runs_of
from mtcl.studies.transfer.config import KINDS
from mtcl.studies.transfer.findings import findings_of
from mtcl.studies.transfer.outcome import read_outcome
from mtcl.studies.transfer.report import markdown, write_report
from mtcl.studies.transfer.runs import RunError, Runs, last_line, places_of
from mtcl.studies.transfer.study import facts_of, run_study
from mtcl.task.registry import discover
from tests.conftest import ROOT, Run

PAIRS = {"a": 400, "b": 90, "c": 250, "z": 100}
NEAR = {
    "joint": 0.5,
    "joint_then_single": 0.52,
    "single_data": 0.45,
    "single_compute": 0.4,
    "base": 0.3,
    "base_pca": 0.2,
}


def study_of(**changed: Any) -> StudyConfig:
    values: dict[str, Any] = {
        "tasks": {"a": {}, "b": {"batch_size": 6}, "c": {}},
        "steps": 20,
        "seeds": [1, 2, 3],
        "arms": list(KINDS),
        "pairs": [["a", "c"]],
        "control": "z",
        "held_out": ["h"],
        "overrides": {"data": {"batch_size": 8}, "model": {"encoder": {"dim": 8}}},
    }
    return StudyConfig(**values | changed)


def runs_by_name(study: StudyConfig) -> dict[str, StudyRun]:
    return {run.name: run for run in runs_of(study, PAIRS)}


def stream(run: StudyRun, task: str) -> list[list[int]]:
    """The sub-batches of a task that a run meets, in order."""
    plan = plan_of(run.config, PAIRS, seed=run.seed)
    draws = [draw for step in range(run.config["trainer"]["max_steps"]) for draw in plan.draws(step)]
    return [draw.pairs.tolist() for draw in draws if plan.tasks[draw.task].name == task]


def test_every_arm_is_there_once() -> None:
    runs = runs_by_name(study_of())
    assert len(runs) == 1 + 3 + 3 * (3 + 3 + 1 + 3 + 3 + 1 + 1)
    assert {"base", "base_pca-2", "single_data-b-3", "joint-1", "leave_one_out-a-2", "pairs-a+c-1", "control-3"} < set(
        runs
    )
    levels = runs_by_name(study_of(pairs_per_task=[50, None], arms=["base", "base_pca", "joint"], seeds=[1]))
    assert list(levels) == ["base", "base_pca-1", "joint-50-1", "joint-all-1"]


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_a_task_meets_the_same_pairs_in_the_same_order_in_every_arm(alpha: float) -> None:
    """One arm's stream of a task begins as that of any other arm of the seed."""
    study = study_of(overrides={"data": {"batch_size": 8, "alpha": alpha}, "model": {"encoder": {"dim": 8}}})
    runs = runs_by_name(study)
    joint = stream(runs["joint-1"], "a")
    assert joint
    alone = ("single_data-a-1", "single_compute-a-1", "joint_then_single-a-1")
    for name in (*alone, "leave_one_out-b-1", "pairs-a+c-1", "control-1"):
        other = stream(runs[name], "a")
        shared = min(len(joint), len(other))
        assert other[:shared] == joint[:shared], name
        assert len(other) == 60 if name.startswith("single_compute") else abs(len(other) - len(joint)) <= 2
    assert stream(runs["joint-2"], "a") != joint


def test_shares_of_the_joint_run_are_kept() -> None:
    study = study_of()
    runs = runs_by_name(study)
    steps = {name: run.config["trainer"]["max_steps"] for name, run in runs.items() if run.is_trained}
    assert set(steps.values()) == {20}, "with equal shares every arm has the joint run's steps"
    assert {len(stream(runs[f"{arm}-1"], "b")) for arm in ("joint", "single_data-b", "control")} == {20}
    compute = {name: sum(map(len, stream(runs[f"single_compute-{name}-1"], name))) for name in "abc"}
    shown = sum(len(pairs) for task in "abc" for pairs in stream(runs["joint-1"], task))
    assert compute == {"a": 24 * 20, "b": 24 * 20, "c": 24 * 20}, "whole sub-batches, of 8 or 6 pairs"
    assert shown == 22 * 20
    data = {"batch_size": 8, "tasks_per_step": 1, "alpha": 1.0}
    uneven = runs_by_name(
        study_of(overrides={"data": data}, arms=["joint", "single_data", "single_compute"], control=None)
    )
    for task in "abc":
        own = len(stream(uneven["joint-1"], task))
        assert uneven[f"single_data-{task}-1"].config["trainer"]["max_steps"] == pytest.approx(own, abs=1)
        assert uneven[f"single_compute-{task}-1"].config["trainer"]["max_steps"] == 20


def test_a_task_that_goes_on_alone_starts_from_the_joint_run_of_its_seed_and_data() -> None:
    runs = runs_by_name(study_of(pairs_per_task=[50, None]))
    started = {name: run.start for name, run in runs.items() if run.start}
    assert started == {
        f"joint_then_single-{task}-{level}-{seed}": f"joint-{level}-{seed}"
        for task in "abc"
        for level in ("50", "all")
        for seed in (1, 2, 3)
    }
    assert runs["joint_then_single-a-50-1"].config == runs["single_data-a-50-1"].config


def test_arms_meet_what_the_joint_run_really_shows() -> None:
    """Its own overrides count."""
    turns = {"data": {"tasks_per_step": 1}, "trainer": {"max_steps": 30}}
    runs = runs_by_name(study_of(arm_overrides={"joint": turns}, control=None, arms=["single_data", "joint"]))
    assert {len(stream(runs[f"single_data-{task}-1"], task)) for task in "abc"} == {10}
    assert {len(stream(runs["joint-1"], task)) for task in "abc"} == {10}


def test_a_control_takes_turns_where_the_joint_run_does() -> None:
    """Its one more task must not change how many share a step: each has as many steps as in the joint run."""
    turns = {"data": {"batch_size": 8, "tasks_per_step": 1}, "model": {"encoder": {"dim": 8}}}
    runs = runs_by_name(study_of(overrides=turns, steps=30))
    assert runs["control-1"].config["data"]["tasks_per_step"] == 1
    assert runs["control-1"].config["trainer"]["max_steps"] == 40
    assert {len(stream(runs["control-1"], task)) for task in "abcz"} == {10}


def test_what_starts_from_a_joint_run_depends_on_its_configuration(tmp_path: Path) -> None:
    def digests(**changed: Any) -> dict[str, str]:
        study = study_of(**changed)
        return {name: Runs(study, tmp_path, [])._digest(run) for name, run in runs_by_name(study).items()}

    before = digests()
    after = digests(arm_overrides={"joint": {"model": {"optimizer": {"lr": 1.0}}}})
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {name for name in before if name.startswith("joint")}


def test_only_what_starts_from_a_failed_run_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(seeds=[1], arms=["single_data", "joint", "joint_then_single"], control=None, held_out=[])
    began: list[str] = []
    broken: set[str] = set()

    def process(runs: Runs, run: StudyRun, commands: list[list[str]], place: dict[str, str]) -> None:
        began.append(run.name)
        if run.name in broken:
            raise RunError("it failed")
        (tmp_path / "runs" / run.name / "checkpoints").mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs" / run.name / "checkpoints" / "best.ckpt").touch()

    monkeypatch.setattr(Runs, "_process", process)
    for name, then in (("single_data-a-1", 3), ("joint-1", 0)):
        broken = {name}
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        began.clear()
        with pytest.raises(RunError, match="1 of 7 runs failed"):
            Runs(study, tmp_path, [{}]).complete(runs_of(study, PAIRS))
        assert sum(name.startswith("joint_then_single") for name in began) == then
    broken = set()
    shutil.rmtree(tmp_path / "runs" / "joint-1" / "checkpoints", ignore_errors=True)
    Runs(study, tmp_path, [{}])._note(runs_by_name(study)["joint-1"], is_evaluated=True)
    with pytest.raises(RunError, match="joint-1 no longer has a checkpoint: remove that folder"):
        Runs(study, tmp_path, [{}]).complete(runs_of(study, PAIRS))


def test_overrides_reach_their_arms() -> None:
    study = study_of(arm_overrides={"joint": {"model": {"optimizer": {"lr": 1e-3}}}})
    runs = runs_by_name(study)
    assert runs["joint-1"].config["model"] == {"encoder": {"dim": 8}, "optimizer": {"lr": 1e-3}}
    assert runs["single_data-a-1"].config["model"] == {"encoder": {"dim": 8}}
    assert runs["base"].config["model"]["encoder"]["dim"] is None
    assert runs["base_pca-1"].config["model"]["encoder"] == {"dim": 8, "projection": "pca"}
    assert "h" not in {name for run in runs.values() for name in run.config["tasks"]}, "held out is never trained"


def test_settings_of_a_task_reach_the_arms_that_train_it() -> None:
    own = {"tasks": {"a": {"hard_negatives": 2}}}
    runs = runs_by_name(study_of(arm_overrides={"joint": own, "single_data": own}))
    assert runs["joint-1"].config["tasks"]["a"] == {"hard_negatives": 2}
    assert runs["single_data-a-1"].config["tasks"] == {"a": {"hard_negatives": 2}}
    assert list(runs["single_data-b-1"].config["tasks"]) == ["b"]


def test_runs_of_other_data_or_another_split_are_refused(tmp_path: Path, demo_root: Path) -> None:
    shutil.copytree(demo_root, tmp_path / "data")
    study = StudyConfig(tasks={"interest": {}, "search": {}}, steps=2, arms=["joint"], seeds=[1])
    run = runs_of(study, {"interest": 50, "search": 50})[0]
    tasks = {name: discover()[name] for name in study.tasks}

    def runs(study: StudyConfig) -> Runs:
        return Runs(study, tmp_path / "study", [], facts_of(study, tasks, {"root": str(tmp_path / "data")}))

    runs(study)._note(run, is_evaluated=True)
    runs(study)._check_unchanged(run)
    (tmp_path / "study" / "configs").mkdir()
    runs(study)._write_configs(run)
    written = runs(study)._config(run).read_text()
    with pytest.raises(ConfigError, match=r'different configuration .*study\.split: "test" there, "validation" now'):
        runs(dataclasses.replace(study, split="validation"))._check_unchanged(run)
    for split in ("validation", "train"):
        path = tmp_path / "data" / "search" / f"{split}.parquet"
        whole = pq.read_table(path)
        pq.write_table(whole.slice(1), path)
        with pytest.raises(ConfigError, match=rf"different configuration \(study.pairs.search/{split}: "):
            runs(study)._check_unchanged(run)
        pq.write_table(whole, path)
    other = dataclasses.replace(run, config={**run.config, "trainer": {"max_steps": 99}})
    told = r"different configuration \(.*trainer\.max_steps: 2 there, 99 now.*\): give another --study_dir"
    with pytest.raises(ConfigError, match=told):
        runs(study).complete([other])
    assert runs(study)._config(run).read_text() == written, "a refused command leaves the record of the runs as it was"
    state = runs(study)._run_folder(run) / "study.json"
    state.write_text(json.dumps({"config": "of an earlier version"}))
    with pytest.raises(ConfigError, match=r"different configuration \(data, base encoder, split or tasks\)"):
        runs(study)._check_unchanged(run)


@pytest.mark.parametrize(
    "variable",
    [
        *("TASKS", "SEED_EVERYTHING", "TRAINER__MAX_STEPS", "DATA__ALPHA", "DATA__PAIRS_PER_TASK"),
        *("DATA__PAIRS_PER_LABEL", "DATA__HELD_OUT", "DATA__ALLOW_LEAKS", "DATA__SEED"),
    ],
)
def test_a_variable_that_would_make_all_arms_one_is_refused(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = StudyConfig(tasks={"interest": {}, "search": {}}, steps=2, arms=["joint"], seeds=[1])
    study = dataclasses.replace(study, overrides={"data": {"alpha": 0.5}})
    runs = Runs(study, tmp_path / "study", [])
    monkeypatch.setenv(f"MTCL_SET_{variable}", "1")
    key = variable.lower().replace("__", ".")
    with pytest.raises(ConfigError, match=f"MTCL_SET_{variable} would replace {key} in every run of the study: unset"):
        runs.complete(runs_of(study, {"interest": 50, "search": 50}))
    assert not (tmp_path / "study").exists()


def test_another_base_encoder_under_the_same_name_is_noticed(tmp_path: Path, tiny_model: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    study = study_of(held_out=[], overrides={"model": {"encoder": {"name": str(tmp_path / "model"), "dim": 8}}})
    before = facts_of(study, {}, {})
    with (tmp_path / "model" / "model.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"1234")
    assert facts_of(study, {}, {})["base"] != before["base"]


def test_what_gives_no_interval_is_said_before_the_runs(tmp_path: Path, demo_root: Path) -> None:
    shutil.copytree(demo_root, tmp_path / "data")
    path = tmp_path / "data" / "storyline" / "test.parquet"
    rows = pq.read_table(path)
    pq.write_table(rows.filter(pa.compute.equal(rows["story"], rows["story"][0])), path)
    settings = {"data": {"root": str(tmp_path / "data")}, "model": {"encoder": {"dim": 8}}}
    study = StudyConfig(tasks={"storyline": {}, "search": {}}, steps=2, arms=["joint"], seeds=[1], overrides=settings)
    with pytest.raises(DataError, match=r"task 'storyline', test: all \d+ items belong together"):
        run_study(study, tmp_path / "study")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"arms": ["joynt"]}, "unknown arm 'joynt'; did you mean 'joint'"),
        ({"tasks": {"a": {}}}, "at least two"),
        ({"held_out": ["a"]}, "'a' is held out and trained"),
        ({"held_out": ["z"]}, "'z' is held out and trained"),
        ({"control": None}, "arm 'control' needs"),
        ({"control": "a"}, "give an unrelated one"),
        ({"pairs": [["a", "a"]]}, "two different tasks"),
        ({"margins": {"d": 0.1}}, "'d' is not a task of the study"),
        ({"overrides": {}}, "give the dimensions of the PCA"),
        ({"arms": ["base", "joint_then_single"]}, "starts from the joint arm's weights: add it to arms"),
        ({"keep_checkpoints": []}, "starts from the joint arm's weights: add it to keep_checkpoints"),
        ({"seeds": [1, 1]}, "each once"),
        ({"split": "train"}, "test or validation"),
        ({"steps": 0}, "steps is 0"),
        ({"margin": -0.1}, "a margin is -0.1: give 0 or more"),
        ({"arm_overrides": {"joint": None}}, "the overrides of joint have None"),
        ({"arm_overrides": {"joint": {"data": None}}}, "the overrides of joint have None"),
        ({"arm_overrides": {"joint": {"tasks": {"a": None}}}}, "the overrides of joint set the task 'a' to None"),
        ({"overrides": {"trainer": {"max_steps": 7}}}, "the study's own: give `steps`"),
        ({"overrides": {"tasks": {"b": {}}}}, "give a task's settings under `tasks`"),
        (
            {"arm_overrides": {"joint": {"trainer": {"max_steps": None}}}},
            r"joint\.trainer\.max_steps is None: give the",
        ),
        (
            {"arm_overrides": {"joint": {"data": {"root": "x"}}}},
            r"joint\.data\.root is 'x', .* give `overrides`: all arms",
        ),
    ],
)
def test_wrong_studies(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        study_of(**changed)


@pytest.mark.parametrize("where", ["overrides", "joint", "base"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed_everything": 7}, r"\.seed_everything is 7, which would replace the study's own: give `seeds`"),
        ({"seed_everything": None}, r"\.seed_everything is None, .*: give `seeds`"),
        ({"data": {"seed": 7}}, r"\.data\.seed is 7, .*: give `seeds`"),
        ({"data": {"pairs_per_task": 50}}, r"\.data\.pairs_per_task is 50, .*: give `pairs_per_task`"),
        ({"data": {"pairs_per_label": 5}}, r"\.data\.pairs_per_label is 5, .*: give `pairs_per_task`: a study counts"),
        ({"data": {"held_out": ["h"]}}, r"\.data\.held_out is \['h'\], .*: give `held_out`"),
        ({"data": {"allow_leaks": True}}, r"\.data\.allow_leaks is True, .*: give `allow_leaks`"),
    ],
)
def test_overrides_do_not_replace_seeds_and_data_settings(where: str, settings: dict[str, Any], message: str) -> None:
    """All seeds would be one run, and a learning curve one point."""
    name = where if where == "overrides" else f"arm_overrides\\.{where}"
    with pytest.raises(ConfigError, match=f"^{name}{message}"):
        study_of(**({"overrides": settings} if where == "overrides" else {"arm_overrides": {where: settings}}))


@pytest.mark.parametrize("levels", [[None], [50], [50, None]])
@pytest.mark.parametrize("of_arm", [False, True])
def test_a_task_has_no_number_of_pairs_next_to_the_study_s(levels: list[int | None], of_arm: bool) -> None:
    own = {"a": {"pairs_per_task": 50}}
    changed = {"arm_overrides": {"joint": {"tasks": own}}} if of_arm else {"tasks": {**own, "b": {}, "c": {}}}
    if levels == [None] and not of_arm:  # a smaller task, in all arms
        assert runs_by_name(study_of(pairs_per_task=levels, **changed))["joint-1"].config["tasks"]["a"] == own["a"]
    else:
        with pytest.raises(
            ConfigError, match=r"tasks\.a\.pairs_per_task is 50: the study's pairs_per_task is the same"
        ):
            study_of(pairs_per_task=levels, **changed)


@pytest.mark.parametrize("of_arm", [False, True])
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"weight_schedule": {5: 0.0}}, "so give one weight"),
        ({"pairs_per_label": 5}, "so give the study's pairs_per_task"),
        ({"watch": True}, "so name the task under held_out"),
        ({"replay": True}, "so leave it out"),
    ],
)
def test_what_a_task_of_a_study_cannot_have(setting: dict[str, Any], message: str, of_arm: bool) -> None:
    own = {"a": setting}
    changed = {"arm_overrides": {"joint": {"tasks": own}}} if of_arm else {"tasks": {**own, "b": {}, "c": {}}}
    with pytest.raises(ConfigError, match=rf"tasks\.a\.{next(iter(setting))} is .*{message}"):
        study_of(**changed)


def test_seeds_and_data_settings_give_different_runs() -> None:
    runs = runs_by_name(study_of(pairs_per_task=[50, None], arms=["joint"], control=None))
    given = {(run.config["seed_everything"], run.config["data"]["pairs_per_task"]) for run in runs.values()}
    assert given == {(seed, level) for seed in (1, 2, 3) for level in (50, None)}


def write_scores(study: StudyConfig, folder: Path, *, items: int = 200) -> None:
    """Files as the runs write them; an arm's mean is as in NEAR, and 0.55 for a task beside its friend."""
    for run in runs_of(study, PAIRS):
        seed = 1 if run.arm.kind == "base" else run.seed
        for task in study.evaluated:
            easy = np.random.default_rng(ord(task)).normal(0, 0.1, items)
            noise = np.random.default_rng([seed, ord(task), len(run.name)]).normal(0, 0.05, items)
            mean = NEAR.get(run.arm.kind, 0.5) - 0.04 * (run.arm == Arm("leave_one_out", "a") and task == "c")
            path = folder / "runs" / run.name / "scores" / "test" / f"{task}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table({"item": np.arange(items), "mrr": mean + easy + noise, "map": easy}), path)


@pytest.fixture
def scored(tmp_path: Path) -> tuple[StudyConfig, Path]:
    study = study_of(pairs_per_task=[50, 90, None])
    write_scores(study, tmp_path)
    return study, tmp_path


METRICS = dict.fromkeys("abch", MRR())


def test_findings_are_what_the_scores_say(scored: tuple[StudyConfig, Path]) -> None:
    found = findings_of(read_outcome(*scored, METRICS, PAIRS))
    level = found.levels[0]
    by_title = {comparison.title: comparison for comparison in level.comparisons}
    single = by_title["joint against the better single arm"]
    assert [gain.against for gain in single.gains] == ["single_data-a", "single_data-b", "single_data-c"]
    assert all(gain.interval.mean == pytest.approx(0.05, abs=0.01) for gain in single.gains)
    assert all(gain.interval.mean == pytest.approx(gain.ours - gain.theirs) for gain in single.gains)
    for kind in ("single_data", "single_compute"):
        gains = by_title[f"joint against {kind}"].gains
        assert [gain.against for gain in gains] == [f"{kind}-{task}" for task in "abc"]
        assert all(gain.interval.mean == pytest.approx(NEAR["joint"] - NEAR[kind], abs=0.01) for gain in gains)
    tuned = by_title["joint, then each task alone, against the better single arm"]
    assert all(gain.interval.mean == pytest.approx(0.07, abs=0.01) for gain in tuned.gains)
    for comparison in level.comparisons:
        assert (comparison.claim is not None) == (comparison in (single, tuned)), comparison.title
        assert comparison.claim is None or (comparison.claim.is_no_task_worse and comparison.claim.is_mean_better)
    assert by_title["held out: joint against base"].gains[0].interval.mean == pytest.approx(0.2, abs=0.01)
    assert level.given["a"]["c"].low > 0.02
    assert abs(level.given["b"]["c"].mean) < 0.02
    assert level.matrix["base"]["h"] == pytest.approx(0.3, abs=0.02)


def test_a_margin_decides_the_claim(tmp_path: Path) -> None:
    study = study_of(margins={"b": 0.0}, margin=0.5, arms=["joint", "single_data"], control=None)
    write_scores(study, tmp_path)
    for seed in study.seeds:
        path = tmp_path / "runs" / f"joint-{seed}" / "scores" / "test" / "b.parquet"
        table = pq.read_table(path)
        pq.write_table(table.set_column(1, "mrr", pa.array(table["mrr"].to_numpy() - 0.05)), path)
    claim = findings_of(read_outcome(study, tmp_path, METRICS, PAIRS)).levels[0].comparisons[0].claim
    assert claim is not None
    assert claim.failing == ("b",)
    assert not claim.is_no_task_worse


def test_the_report_holds_every_figure(scored: tuple[StudyConfig, Path]) -> None:
    study, folder = scored
    findings = findings_of(read_outcome(study, folder, METRICS, PAIRS))
    path = write_report(findings, folder / "report")
    text = path.read_text()
    for arm in arms_of(study):
        assert f"| {arm} |" in text
    assert "**No task is worse** than" in text
    content = json.loads((folder / "report" / "report.json").read_text())
    assert content["levels"][0]["comparisons"][0]["macro"]["num_seeds"] == 3
    pictures = {p.name for p in (folder / "report").glob("*.png")}
    assert pictures == {f"{k}-{n}.png" for k in ("gains", "matrix") for n in (50, 90, "all")} | {"curves.png"}
    assert all(f"]({name})" in text for name in pictures)
    assert markdown(findings, images=[p.split(".")[0] for p in sorted(pictures)]).count("## 50 pairs per task") == 1
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "report"))
    events.Reload()
    shown = events.Scalars("joint_against_the_better_single_arm/macro_mean/mean")
    assert [event.step for event in shown] == [50, 90, 0]
    assert "gains-50" in events.Tags()["images"]


def test_a_report_replaces_the_earlier_one_or_leaves_it(
    scored: tuple[StudyConfig, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, folder = scored
    findings = dataclasses.replace(findings_of(read_outcome(study, folder, METRICS, PAIRS)), levels=())
    write_report(findings, folder / "report")
    before = {path.name: path.read_bytes() for path in (folder / "report").iterdir()}
    with monkeypatch.context() as patched:
        patched.setattr("mtcl.studies.transfer.report._write_events", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_report(dataclasses.replace(findings, steps=7), folder / "report")
    assert {path.name: path.read_bytes() for path in (folder / "report").iterdir()} == before
    assert not list(folder.glob(".*"))
    write_report(dataclasses.replace(findings, steps=7), folder / "report")
    assert "for 7 steps" in (folder / "report" / "report.md").read_text()
    assert len(list((folder / "report").glob("events.*"))) == 1, "the earlier one's are gone"


def test_keys_on_the_command_line_merge_with_those_of_the_file() -> None:
    """`--overrides.data.root` must not drop what else the file overrides."""
    content: dict[str, Any] = {"tasks": {"a": {}, "b": {"weight": 2}}, "steps": 3, "arms": ["joint"]}
    content["overrides"] = {"data": {"batch_size": 8}}
    arguments = ["--overrides.data.root", "x", "--overrides.model.optimizer.lr=1e-4", "--steps", "5"]
    arguments += ["--arm_overrides.joint.trainer.max_steps", "9", "--tasks.b.batch_size=4"]
    study = parse(StudyConfig, content, arguments)
    assert study.overrides == {"data": {"batch_size": 8, "root": "x"}, "model": {"optimizer": {"lr": 1e-4}}}
    assert study.tasks == {"a": {}, "b": {"weight": 2, "batch_size": 4}}
    assert study.arm_overrides == {"joint": {"trainer": {"max_steps": 9}}}
    assert study.steps == 5
    for wrong, message in {
        ("--overrides.data.root",): r"--overrides\.data\.root has no value",
        ("--tasks.c", "null"): r"--tasks\.c is null, but there is no such task to leave out",
    }.items():
        with pytest.raises(ConfigError, match=message):
            parse(StudyConfig, content, [*wrong])
    assert parse(StudyConfig, content, ["--tasks.b", "null", "--tasks.c", "{}"]).tasks == {"a": {}, "c": {}}


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        *(("x ", "x "), ("query: ", "query: "), ("007", "007"), ("'x '", "x "), ("- a", "- a"), ("a\tb", "a\tb")),
        *(("1e-4", 1e-4), ("5", 5), ("0", 0), ("true", True), ("[1, 2]", [1, 2]), ("{query: x}", {"query": "x"})),
    ],
)
def test_values_below_a_dict_are_read_as_typed(typed: str, read: Any) -> None:
    content: dict[str, Any] = {"tasks": {"a": {}, "b": {}}, "steps": 3, "arms": ["joint"]}
    assert parse(StudyConfig, content, [f"--overrides.data.prompt={typed}"]).overrides == {"data": {"prompt": read}}


def test_a_key_below_a_dict_is_added_to_what_gives_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables count before the command line, and there a later option before an earlier one."""
    content: dict[str, Any] = {"tasks": {"a": {}, "b": {}}, "steps": 3, "arms": ["joint"]}
    data = ["--overrides.data.root", "x", "--overrides.data.tasks_dir+", "y", "--overrides.data.tasks_dir+", "3"]
    whole = ["--overrides", "{data: {batch_size: 4}}"]
    below = {"root": "x", "tasks_dir": ["y", 3]}
    assert parse(StudyConfig, content, [*whole, *data]).overrides == {"data": {"batch_size": 4, **below}}
    assert parse(StudyConfig, content, [*data, *whole]).overrides == {"data": {"batch_size": 4}}
    monkeypatch.setenv("MTCL_STUDY_OVERRIDES", "{data: {batch_size: 8}}")
    assert parse(StudyConfig, content, data).overrides == {"data": {"batch_size": 8, **below}}


def test_no_jobs_at_all_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mtcl.commands.transfer import main

    with pytest.raises(ConfigError, match=r"^jobs is 0: give at least 1"):
        places_of(0)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    (tmp_path / "s.yaml").write_text(STUDY.format(model="none", root="none"))
    with pytest.raises(ConfigError, match=r"^--jobs is 0: give at least 1"):
        main("transfer", ["--config", str(tmp_path / "s.yaml"), "--study_dir", str(tmp_path / "s"), "--jobs", "0"])
    assert not (tmp_path / "s").exists(), "before anything is read or written"


def test_arms_of_other_items_are_refused(scored: tuple[StudyConfig, Path]) -> None:
    study, folder = scored
    path = folder / "runs" / "joint-50-2" / "scores" / "test" / "c.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(DataError, match=r"joint-50-2.*other items"):
        read_outcome(study, folder, METRICS, PAIRS)
    with pytest.raises(DataError, match=r"no scores of 'ndcg@10'; known: .*map, mrr"):
        read_outcome(study, folder, dict.fromkeys("abch", NDCG()), PAIRS)


STUDY = """
tasks: {{search: {{}}, interest: {{}}}}
seeds: [1]
steps: 60
arms: [base, single_data, joint, joint_then_single]
held_out: [hashtag]
overrides:
  model: {{encoder: {{name: {model}}}, optimizer: {{lr: 0.001}}}}
  data: {{root: {root}, batch_size: 8, max_length: 16, num_workers: 0}}
  trainer: {{val_check_interval: 30, precision: 32-true}}
  checkpoint_every_n_steps: 5
"""


@pytest.mark.nightly
def test_killed_twice_gives_the_same_report(
    tiny_model: Path, demo_root: Path, cache: Path, tmp_path: Path, mtcl_process: Run
) -> None:
    (tmp_path / "s.yaml").write_text(STUDY.format(model=tiny_model, root=demo_root))
    whole = mtcl_process("transfer", "--config", "s.yaml", "--study_dir", "whole", "--jobs", "2", timeout_s=300)
    assert whole.returncode == 0, whole.stderr
    environment = os.environ | {"MTCL_CACHE": str(cache), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mtcl", "transfer", "--config", "s.yaml", "--study_dir", "killed", "--jobs", "2"]
    for number, moment in (
        (signal.SIGKILL, "runs/single_data-*/checkpoints/last.ckpt"),
        (signal.SIGTERM, "runs/joint-1/config.yaml"),
    ):
        study = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 200
        while not list((tmp_path / "killed").glob(moment)):
            assert study.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        study.send_signal(number)
        assert study.wait(60) == (-signal.SIGKILL if number == signal.SIGKILL else 128 + number)
        assert not (tmp_path / "killed" / "report").exists()
    finished = mtcl_process("transfer", "--config", "s.yaml", "--study_dir", "killed", "--jobs", "2", timeout_s=300)
    assert finished.returncode == 0, finished.stderr
    for name in ("report.md", "report.json"):
        assert (tmp_path / "killed/report" / name).read_bytes() == (tmp_path / "whole/report" / name).read_bytes()
    again = mtcl_process("transfer", "--config", "s.yaml", "--study_dir", "killed", timeout_s=60)
    assert "6 runs, 6 of them done" in again.stderr
    changed = mtcl_process("transfer", "--config", "s.yaml", "--study_dir", "killed", "--steps", "61")
    assert changed.returncode == 2
    assert "made with a different configuration" in changed.stderr
    assert "Traceback" not in changed.stderr


def test_a_failing_run_is_named_and_the_others_are_kept(
    tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_process: Run
) -> None:
    text = STUDY.format(model=tiny_model, root=demo_root)
    text = (
        text.replace("steps: 60", "steps: 4")
        .replace("interval: 30", "interval: 4")
        .replace("[base, single_data, joint, joint_then_single]", "[single_data, joint]")
    )
    (tmp_path / "s.yaml").write_text(text + "arm_overrides: {joint: {model: {optimizer: {warmup_steps: 99}}}}\n")
    failed = mtcl_process("transfer", "--config", "s.yaml", "--study_dir", "study", "--jobs", "2", timeout_s=200)
    assert failed.returncode == 2
    assert "1 of 3 runs failed" in failed.stderr
    assert "run joint-1 ended with code 2: mtcl: ConfigError:" in failed.stderr
    assert "model.optimizer.warmup_steps is 99" in failed.stderr
    for task in ("search", "interest", "hashtag"):
        assert (tmp_path / f"study/runs/single_data-search-1/scores/test/{task}.parquet").exists()
    assert "Traceback" not in failed.stderr


def test_a_misspelt_key_is_told_before_any_run(
    tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run
) -> None:
    text = STUDY.format(model=tiny_model, root=demo_root)
    (tmp_path / "s.yaml").write_text(text + "arm_overrides: {joint: {model: {optimizer: {warmup_step: 9}}}}\n")
    refused = mtcl_command("transfer", "--config", "s.yaml", "--study_dir", "study")
    assert refused.returncode == 2
    assert "the study's arm joint: unknown key" in refused.stderr.splitlines()[-1]
    assert "optimizer.warmup_step'; did you mean 'model.optimizer.warmup_steps'" in refused.stderr
    assert list((tmp_path / "study" / "runs").iterdir()) == []


def test_what_a_run_said_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log on a full disk lacks its end, so the disk is named instead of half a line."""
    log = tmp_path / "joint-1.log"
    for content, expected in (
        ("", "no output"),
        ("step 1\nmtcl: ConfigError: no\n", "mtcl: ConfigError: no"),
        ("step 1\nmtcl: Conf", "mtcl: Conf ... (its end is missing)"),
    ):
        log.write_text(content)
        assert last_line(log) == expected
    monkeypatch.setattr("mtcl.studies.transfer.runs.has_no_space", lambda folder: folder == tmp_path)
    assert last_line(log).startswith(f"No space left on device: {tmp_path}: free some disk space")
