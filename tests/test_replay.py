"""Tasks of an earlier run that a run trains again within a fixed share of its steps, or only watches.

python -m pytest tests/test_replay.py
"""

from __future__ import annotations

import logging
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mtcl import ConfigError, MtclDataModule, MtclModule, TaskConfig, TaskError, replayed
from mtcl.configuration.replay import tasks_of
from mtcl.data.mixture import replayed_before
from mtcl.data.plan import Plan, PlanTask
from mtcl.encoder.checkpoint import SavedRun
from tests.conftest import Run, quiet_trainer
from tests.test_distributed import RANKS
from tests.test_resume import losses, options, weights

SIZES = {"a": 500, "b": 70, "x": 100, "y": 1600}


def plan_of(replay: float, **changed: Any) -> Plan:
    """Two tasks of the run and two replayed ones, whose shares among themselves are 1 to 4 (alpha is 0.5)."""
    tasks = [PlanTask(name, size, 4, is_replayed=name in "xy") for name, size in SIZES.items()]
    return Plan(tuple(tasks), replay=replay, **changed)


@given(share=st.sampled_from([0.05, 0.1, 1 / 3, 0.9, 1e-3]), slot=st.integers(0, 10**9))
@settings(max_examples=200, deadline=None)
def test_the_share_is_met_to_half_a_slot(share: float, slot: int) -> None:
    assert abs(replayed_before(slot, share) - slot * share) <= 0.5 + 1e-3
    assert replayed_before(slot + 1, share) - replayed_before(slot, share) in (0, 1)


@pytest.mark.parametrize("tasks_per_step", [None, 1, 3])
def test_shares_of_slots(tasks_per_step: int | None) -> None:
    """5 % of the slots, exactly, spread evenly; among themselves in the proportions of weight and size."""
    plan = plan_of(0.05, tasks_per_step=tasks_per_step)
    slots = [draw.task for step in range(4000) for draw in plan.draws(step)]
    is_replayed = np.isin(slots, [2, 3])
    assert is_replayed.sum() == len(slots) / 20
    assert {int(gap) for gap in np.diff(np.flatnonzero(is_replayed))} == {20}
    counts = np.bincount(slots, minlength=4)
    assert abs(counts[3] - 4 * counts[2]) <= 5
    assert plan.shares() == pytest.approx(counts / len(slots), abs=1e-3)
    assert sum(plan.shares()) == pytest.approx(1)


def test_the_default_number_of_slots_counts_the_tasks_of_the_run() -> None:
    assert plan_of(0.05).num_slots == 2


@pytest.mark.parametrize("schedule", [(), ((30, 0.0), (90, 2.0))])
def test_the_other_tasks_see_what_they_see_without_replay(schedule: tuple[tuple[int, float], ...]) -> None:
    """The same pairs in the same order, later; with a schedule of weights, its steps stay."""
    own = [PlanTask("a", 500, 4, schedule=schedule), PlanTask("b", 70, 4)]
    with_replay = Plan((*own, PlanTask("x", 100, 4, is_replayed=True)), replay=0.25)
    alone = Plan(tuple(own))
    if schedule:
        counts = [
            {draw.task for step in range(*span) for draw in with_replay.draws(step)}
            for span in ((0, 30), (30, 90), (90, 120))
        ]
        assert counts == [{0, 1, 2}, {1, 2}, {0, 1, 2}]
        return
    found = [draw for step in range(200) for draw in with_replay.draws(step) if draw.task != 2]
    expected = [draw for step in range(200) for draw in alone.draws(step)]
    assert len(found) == 300
    for one, other in zip(found, expected[: len(found)], strict=True):
        assert one.task == other.task
        assert (one.pairs == other.pairs).all()


def test_each_epoch_of_a_replayed_task_covers_each_pair_once() -> None:
    plan = plan_of(0.5)
    pairs = np.concatenate([d.pairs for step in range(600) for d in plan.draws(step) if d.task == 2])
    assert sorted(pairs[:100].tolist()) == list(range(100))
    assert sorted(pairs[100:200].tolist()) == list(range(100))


def test_without_replayed_tasks_nothing_changes() -> None:
    tasks = (PlanTask("a", 500, 4), PlanTask("b", 70, 4))
    for step in range(100):
        for one, other in zip(Plan(tasks).draws(step), Plan(tasks, replay=0.3).draws(step), strict=True):
            assert one.task == other.task
            assert (one.pairs == other.pairs).all()


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, float("nan")])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"data\.replay is .*: give a share of 0 or more and less than 1"):
        MtclDataModule(tasks={"search": TaskConfig()}, replay=share)


@pytest.mark.parametrize(
    ("option", "value"),
    [("weight", 2.0), ("batch_size", 8), ("loss", "InfoNCE"), ("loss_weight", 0.5), ("hard_negatives", 2)],
)
def test_an_option_of_training_is_refused_for_a_watched_task(option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"tasks\.search\.{option} has no effect on a task with watch: true"):
        MtclDataModule(tasks={"search": {"watch": True, option: value}})  # type: ignore[dict-item]


def test_options_of_evaluation_and_defaults_are_accepted_for_a_watched_task() -> None:
    given = {"watch": True, "max_length": 8, "prompt": "p", "weight": 1.0}
    data = MtclDataModule(tasks={"search": given, "interest": {}})  # type: ignore[dict-item]
    assert list(data.tasks) == ["interest"]
    assert list(data.evaluated) == ["interest", "search"]
    assert data.roles.apart == {"search": "watch"}


def test_roles_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match=r"tasks\.search has watch and replay: remove one"):
        MtclDataModule(tasks={"search": TaskConfig(watch=True, replay=True)})
    with pytest.raises(ConfigError, match=r"data\.held_out has 'search', which `tasks` watches"):
        MtclDataModule(tasks={"search": TaskConfig(watch=True)}, held_out=["search"])
    with pytest.raises(ConfigError, match=r"tasks\.search\.weight_schedule has no effect on a task with replay: true"):
        MtclDataModule(tasks={"search": TaskConfig(replay=True, weight_schedule={3: 0.0})})


def test_replayed_tasks_that_are_unknown_are_all_named() -> None:
    tasks = {"search": TaskConfig(), "one": TaskConfig(replay=True), "two": TaskConfig(replay=True)}
    with pytest.raises(TaskError) as error:
        MtclDataModule(tasks=tasks, replay=0.1)
    assert str(error.value).startswith("cannot replay one, two (unknown task 'one'")
    assert str(error.value).endswith("): leave out with `tasks: {one: null, two: null}`, or give data.replay 0")


# Runs

SHORT = {
    "trainer.max_steps": 12,
    "trainer.val_check_interval": 6,
    "checkpoint_every_n_steps": 6,
    "data.num_workers": 0,
}


@pytest.fixture(scope="module")
def joint(tiny_model: Path, demo_root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trained interest (weight 2), search and storyline."""
    from mtcl.__main__ import main

    folder = tmp_path_factory.mktemp("joint")
    arguments = options(tiny_model, demo_root, "joint", **SHORT, **{"tasks.interest.loss": "PairBCE"})
    arguments[1] = str(folder / "joint")
    assert main(["fit", *arguments, "--data.cache", str(cache)]) == 0
    return folder / "joint"


def team(folder: Path, **changed: Any) -> Path:
    """A configuration of a team that trains hashtag."""
    config = {
        "tasks": {"hashtag": {}},
        "data": {"batch_size": 8, "max_length": 24, "num_workers": 0, "tasks_per_step": 2, "replay": 0.25},
        "trainer": {
            "max_steps": 12,
            "val_check_interval": 6,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "precision": "32-true",
        },
        "checkpoint_every_n_steps": 6,
    }
    path = folder / "team.yaml"
    path.write_text(yaml.safe_dump(config | changed))
    return path


def given_to(model: Path, root: Path) -> list[str]:
    return ["--model.encoder.name", str(model), "--data.root", str(root)]


def record(run: Path, checkpoint: str = "last.ckpt") -> dict[str, Any]:
    return dict(torch.load(run / "checkpoints" / checkpoint, weights_only=True)["mtcl"])


def test_the_options_that_the_start_had(joint: Path) -> None:
    found = tasks_of(SavedRun.read(joint))
    assert set(found) == {"search", "interest", "storyline"}
    expected = {"weight": 2.0, "batch_size": 8, "max_length": 24, "replay": True}
    assert {key: found["interest"][key] for key in expected} == expected
    assert found["interest"]["loss"]["class_path"] == "mtcl.losses.PairBCE"
    as_objects = replayed(joint, without=["search"])
    assert set(as_objects) == {"interest", "storyline"}
    assert type(as_objects["interest"].loss).__name__ == "PairBCE"


def test_a_foreign_class_is_not_taken(
    joint: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint is data here as well: only losses of mtcl with plain arguments."""
    monkeypatch.setattr(logging.getLogger("mtcl"), "propagate", True)
    saved = SavedRun.read(joint)
    config = yaml.safe_load(saved.content["mtcl"]["config"])
    config["tasks"]["search"]["loss"] = {"class_path": "evil.Evil"}
    config["tasks"]["interest"]["loss"] = {"class_path": "mtcl.losses.InfoNCE", "init_args": {"margn": 1}}
    saved.content["mtcl"]["config"] = yaml.safe_dump(config)
    found = tasks_of(SavedRun.of(saved.content, "x"))
    assert "loss" not in found["search"]
    assert "loss" not in found["interest"]
    assert "not taken from the checkpoint: tasks.interest.loss, tasks.search.loss" in caplog.text
    assert set(found) == {"search", "interest", "storyline"}


def test_replay_of_the_start_s_tasks(
    joint: Path, tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run
) -> None:
    """The share is met, all is evaluated before the first step; killed and resumed without the start's checkpoint, the
    run is the same. The table has three columns, and what was forgotten is negative.
    """
    start = tmp_path / "start"
    shutil.copytree(joint, start)
    config = team(tmp_path)
    arguments = ["--config", str(config), *given_to(tiny_model, demo_root)]
    whole = mtcl_command("fit", *arguments, "--init_from", str(start), "--run_dir", "whole")
    assert whole.returncode == 0, whole.stderr
    assert "replayed from" in whole.stderr
    short = ("--trainer.max_steps", "6", "--model.optimizer.decay", "constant")
    more = ("--model.optimizer.decay", "constant")
    for name, extra in (("constant", more), ("half", short)):
        done = mtcl_command("fit", *arguments, "--init_from", str(start), "--run_dir", name, *extra)
        assert done.returncode == 0, done.stderr
    shutil.rmtree(start)
    resumed = mtcl_command("fit", "--resume", "half", "--trainer.max_steps", "12")
    assert resumed.returncode == 0, resumed.stderr
    for name, value in weights(tmp_path / "constant").items():
        assert torch.equal(value, weights(tmp_path / "half")[name]), name
    assert record(tmp_path / "half")["start"] == record(tmp_path / "constant")["start"]

    saved = record(tmp_path / "whole")
    assert set(saved["start"]) == set(saved["base"]) == {"hashtag", "search", "interest", "storyline"}
    assert saved["start"] != saved["base"]
    shown = losses(tmp_path / "whole")
    seen = [tag for tag in shown if tag.startswith("train_loss/")]
    assert sum(len(shown[tag]) for tag in seen) >= 6 + 2, "24 slots, of which 6 are replayed"
    assert set(shown["val/mean"]) == {0, 6, 12}
    assert shown["val/mean"][0] == pytest.approx(saved["start"]["hashtag"])
    replay_mean = np.mean([saved["start"][name] for name in ("search", "interest", "storyline")])
    assert shown["val/replay_mean"][0] == pytest.approx(replay_mean)
    rows = {line.split()[1]: re.findall(r"[+-]?\d\.\d{4}", line) for line in whole.stdout.splitlines() if "0." in line}
    assert set(rows) == {"hashtag", "search", "interest", "storyline", "val/mean", "val/replay_mean"}
    best = max(saved["history"].values(), key=lambda primary: primary["hashtag"])
    for name, now in best.items():
        base, start_value = saved["base"][name], saved["start"][name]
        assert rows[name] == [f"{base:.4f}", f"{start_value:.4f}", f"{now:.4f}", f"{now - start_value:+.4f}"]
    tested = mtcl_command("test", "--ckpt", "whole", "--no_base")
    assert tested.returncode == 0, tested.stderr
    assert "test/replay_mean" in tested.stdout
    assert SavedRun.read(tmp_path / "whole").trained == {"hashtag", "search", "interest", "storyline"}
    merged = mtcl_command("merge", "whole", str(joint), "--out", "merged")
    assert merged.returncode == 0, merged.stderr
    tested = mtcl_command("test", "--ckpt", "merged", "--no_base", "--data.root", str(demo_root))
    assert tested.returncode == 0, tested.stderr
    assert "replay_mean" not in tested.stdout, "a merged checkpoint is of no run that replays"
    assert SavedRun.read(tmp_path / "merged").trained == {"hashtag", "search", "interest", "storyline"}


def test_no_base_leaves_out_the_base_only(
    joint: Path, tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run
) -> None:
    arguments = ["--config", str(team(tmp_path)), *given_to(tiny_model, demo_root), "--init_from", str(joint)]
    done = mtcl_command("fit", *arguments, "--run_dir", "run", "--no_base")
    assert done.returncode == 0, done.stderr
    heads = next(line for line in done.stdout.splitlines() if "metric" in line)
    assert "start" in heads
    assert "base" not in heads
    assert "(start)" in done.stderr
    done = mtcl_command("fit", *arguments, "--run_dir", "none", "--no_base", "--model.evaluate_start", "false")
    assert done.returncode == 0, done.stderr
    assert "step 0" not in done.stderr
    assert record(tmp_path / "none")["start"] == {}


@pytest.mark.parametrize(
    ("tasks", "arguments", "expected"),
    [
        ({"hashtag": {}}, [], {"search", "interest", "storyline"}),
        ({"hashtag": {}, "search": {}, "storyline": None}, [], {"interest"}),
        ({"hashtag": {}}, ["--tasks.search.weight", "1", "--data.held_out", "[]"], {"interest", "storyline"}),
        ({"hashtag": {}, "search": {"replay": True, "weight": 3.0}, "interest": None}, [], {"search", "storyline"}),
        ({"hashtag": {}, "interest": {"watch": True}}, [], {"search", "storyline"}),
    ],
)
def test_which_tasks_are_replayed(
    joint: Path,
    tmp_path: Path,
    tasks: dict[str, Any],
    arguments: list[str],
    expected: set[str],
) -> None:
    from mtcl.configuration.replay import load_with_replay

    config = load_with_replay([str(team(tmp_path, tasks=tasks))], arguments, SavedRun.read(joint))
    found = {name: task for name, task in config["tasks"].items() if task.get("replay")}
    assert set(found) == expected
    if "search" in found and tasks.get("search"):
        assert found["search"]["weight"] == 3.0
        assert found["search"]["batch_size"] == 8
    assert config["data"]["alpha"] == 0.5


def test_without_a_share_the_start_s_tasks_are_left_alone(joint: Path, tmp_path: Path) -> None:
    from mtcl.configuration.replay import load_with_replay

    path = team(tmp_path, data={"batch_size": 8})
    assert load_with_replay([str(path)], [], SavedRun.read(joint)) == yaml.safe_load(path.read_text())
    with_share = load_with_replay([str(path)], ["--data.replay", "0.1"], SavedRun.read(joint))
    assert len(with_share["tasks"]) == 4


def test_tasks_that_the_start_s_own_start_trained_are_named(
    joint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mtcl.configuration.replay import load_with_replay

    saved = SavedRun.read(joint)
    saved.content["mtcl"]["trained_before"] = ["translation"]
    monkeypatch.setattr(logging.getLogger("mtcl"), "propagate", True)
    load_with_replay([str(team(tmp_path))], [], SavedRun.of(saved.content, "x"))
    assert "not replayed, because the checkpoint has no options for them: translation" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--data.replay", "1.5"], "data.replay is 1.5: give a share of 0 or more and less than 1"),
        ([], "data.replay is 0.25, but there is no task to replay: start from a run"),
        (["--tasks", "{hashtag: {}}"], "--tasks gives all tasks, so data.replay has none to add"),
    ],
)
def test_errors_in_one_line(
    joint: Path, tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run, arguments: list[str], told: str
) -> None:
    start = ["--init_from", str(joint)] if arguments else []
    config = ["--config", str(team(tmp_path)), *given_to(tiny_model, demo_root), "--run_dir", "run"]
    refused = mtcl_command("fit", *config, *start, *arguments)
    assert refused.returncode == 2, refused.stderr
    assert told in refused.stderr
    assert "Traceback" not in refused.stderr


def test_missing_data_of_replayed_tasks_is_named(
    joint: Path, tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run
) -> None:
    root = shutil.copytree(demo_root, tmp_path / "root")
    shutil.rmtree(root / "search")
    shutil.rmtree(root / "storyline")
    config = ["--config", str(team(tmp_path)), *given_to(tiny_model, root), "--init_from", str(joint)]
    refused = mtcl_command("fit", *config, "--run_dir", "run")
    assert refused.returncode == 2, refused.stderr
    assert re.search(r"cannot replay search, storyline \(.*no folder", refused.stderr)
    assert "leave out with `tasks: {search: null, storyline: null}`" in refused.stderr
    (tmp_path / "less.yaml").write_text("tasks: {search: null, storyline: null}\n")
    done = mtcl_command("fit", *config, "--config", "less.yaml", "--run_dir", "run")
    assert done.returncode == 0, done.stderr


def test_watched_tasks_change_nothing(
    joint: Path, tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run
) -> None:
    """Equal losses and weights; no training split needed; they may change on --resume."""
    root = shutil.copytree(demo_root, tmp_path / "root")
    for path in root.glob("search/train.*"):
        path.unlink()
    data = {"batch_size": 8, "max_length": 24, "num_workers": 0}
    runs = {"plain": {"hashtag": {}}, "watching": {"hashtag": {}, "search": {"watch": True}}}
    for name, tasks in runs.items():
        config = team(tmp_path, tasks=tasks, data=data)
        done = mtcl_command(
            *("fit", "--config", str(config), *given_to(tiny_model, root), "--init_from", str(joint)),
            *("--run_dir", name, "--model.optimizer.decay", "constant"),
        )
        assert done.returncode == 0, done.stderr
    assert "val/watch_mean" in done.stdout
    for name, value in weights(tmp_path / "plain").items():
        assert torch.equal(value, weights(tmp_path / "watching")[name]), name
    plain, watching = losses(tmp_path / "plain"), losses(tmp_path / "watching")
    assert {tag: watching[tag] for tag in plain} == plain
    assert "train_loss/search" not in watching
    assert set(watching["val/watch_mean"]) == {0, 6, 12}
    assert "search" not in SavedRun.read(tmp_path / "watching").trained_in_run
    resumed = mtcl_command(
        *("fit", "--resume", "watching", "--tasks.search.watch", "true", "--tasks.interest.watch", "true"),
        *("--trainer.max_steps", "18"),
    )
    assert resumed.returncode == 0, resumed.stderr
    assert "start" in resumed.stdout
    last = resumed.stderr.split("step 18 of 18: ")[1]
    assert re.search(r"val/mean \S+ \(base \S+, start \S+\), val/watch_mean \S+ \(base \S+\)", last), "new since then"
    assert set(record(tmp_path / "watching")["history"][18]) == {"hashtag", "search", "interest"}
    tested = mtcl_command("test", "--ckpt", "watching", "--no_base")
    assert tested.returncode == 0, tested.stderr
    assert "test/watch_mean" in tested.stdout


def test_a_run_that_only_watches_can_be_tested_but_not_trained(
    joint: Path, tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run
) -> None:
    config = team(tmp_path, tasks={"hashtag": {"watch": True}}, data={"max_length": 24, "num_workers": 0})
    arguments = ["--config", str(config), *given_to(tiny_model, demo_root), "--run_dir", "run"]
    refused = mtcl_command("fit", *arguments)
    assert refused.returncode == 2
    assert "no task is trained, only evaluated or replayed" in refused.stderr
    tested = mtcl_command("test", *arguments)
    assert tested.returncode == 0, tested.stderr
    assert "test/watch_mean" in tested.stdout
    validated = mtcl_command("validate", *arguments)
    assert validated.returncode == 0, validated.stderr


def test_a_watched_task_may_be_held_out_later(joint: Path) -> None:
    saved = SavedRun.read(joint)
    config = yaml.safe_load(saved.content["mtcl"]["config"])
    config["tasks"]["search"]["watch"] = True
    content = {**saved.content, "mtcl": {**saved.content["mtcl"], "config": yaml.safe_dump(config)}}
    assert SavedRun.of(content, "x").trained == {"interest", "storyline"}


@pytest.mark.nightly
def test_two_ranks_equal_one(
    joint: Path, tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_process: Run, mtcl_command: Run
) -> None:
    """The same sub-batches, the same start, the same figures; a rank's share of each pool is joined."""
    tasks = {"hashtag": {}, "search": {"watch": True}}
    arguments = ["--config", str(team(tmp_path, tasks=tasks)), *given_to(tiny_model, demo_root)]
    arguments += ["--init_from", str(joint), "--model.encoder.dropout", "0.0"]
    two_ranks = [f"--{key}={value}" for key, value in RANKS.items()]
    for run, name, ranks in ((mtcl_command, "one", []), (mtcl_process, "two", two_ranks)):
        done = run("fit", *arguments, *ranks, "--run_dir", name)
        assert done.returncode == 0, done.stderr
    one, two = (losses(tmp_path / name) for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert {"val/watch_mean", "val/replay_mean", "train_loss/interest"} <= one.keys()
    for tag, steps in one.items():
        if tag.startswith(("train_loss", "val")):
            assert two[tag] == pytest.approx(steps, rel=1e-3, abs=1e-3), tag
    assert record(tmp_path / "two")["start"] == pytest.approx(record(tmp_path / "one")["start"], abs=1e-4)


def test_from_python(joint: Path, demo_root: Path, cache: Path) -> None:
    data = MtclDataModule(
        root=str(demo_root),
        cache=str(cache),
        tasks={**replayed(joint, without=["storyline"]), "hashtag": TaskConfig(), "storyline": TaskConfig(watch=True)},
        replay=0.1,
        batch_size=8,
        max_length=24,
        num_workers=0,
    )
    module = MtclModule.load_from_checkpoint(joint)
    quiet_trainer(max_steps=20, val_check_interval=10).fit(module, data)
    assert set(module.run.start_figures) == {"hashtag", "search", "interest", "storyline"}
    slots = [data.plan.tasks[draw.task].name for step in range(20) for draw in data.plan.draws(step)]
    assert slots.count("hashtag") == 18
    trained = {name for name, _ in pairwise([*data.tasks, ""])}
    assert trained == {"hashtag", "search", "interest"}
