"""Held-out tasks are evaluated and never trained, nor are their texts: what a run does is the same without them.

python -m pytest tests/test_held_out.py     # -m "not slow" leaves out the runs
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from mtcl import ConfigError, DataError, TaskError
from mtcl.data.leaks import TrainedTexts, check_leaks, find_leaks
from mtcl.data.near_copies import NearCopies
from mtcl.studies.transfer.runs import Runs
from mtcl.task.pairs.keys import keys_of, text_key
from mtcl.training import metrics as board
from mtcl.training.datamodule import MtclDataModule
from mtcl.training.resume import check_never_trained
from mtcl.training.task_config import TaskConfig
from tests.conftest import Run
from tests.test_continuation import COMMON, STEPS
from tests.test_distributed import RANKS
from tests.test_resume import losses, options, weights
from tests.test_transfer import runs_by_name, study_of

HELD_OUT = {"data.held_out": "[hashtag]"}


def trained_on(*texts: str, belongs_to: dict[int, int] | None = None) -> TrainedTexts:
    """Texts and their keys; with `belongs_to`, also the key of a positive, by rows."""
    rows = np.array(list((belongs_to or {}).items()), dtype=np.int64).reshape(-1, 2)
    return TrainedTexts(pa.array(texts, pa.large_string()), keys_of(pa.array(texts), [(rows[:, 0], rows[:, 1])]))


@pytest.mark.parametrize(
    ("one", "other", "are_equal"),
    [
        ("caf\u00e9 noir", "cafe\u0301 noir", True),
        ("CAFE\u0301  noir", "caf\u00e9 noir", True),
        ("\uac00", "\u1100\u1161", True),
        ("caf\u00e9", "cafe", False),
        ("x\u00b2", "x2", False),
    ],
)
def test_accents_as_one_character_or_as_two(one: str, other: str, are_equal: bool) -> None:
    """A Mac writes file names and texts in the second way; they are the same text, so one must not test the other."""
    leaks = find_leaks({"h": [pa.array([one])]}, {"a": trained_on("x", other)})
    assert [leak.rows.tolist() for leak in leaks] == ([[1]] if are_equal else [])


def test_leaks_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Case and spacing make no difference; equal texts count once; training keys are read in blocks."""
    monkeypatch.setattr("mtcl.data.leaks.BLOCK", 2)
    held_out = {
        "h": [pa.array(["one", "Two\n words", "three"]), pa.array(["ONE", "four"])],
        "g": [pa.array(["four"])],
        "f": [pa.array(["five"])],
    }
    trained = {
        "a": trained_on("x", "y", "oNe ", "z", "two words", belongs_to={0: 2}),
        "b": trained_on("FOUR", "one"),
        "c": trained_on("x"),
    }
    found = {(leak.held_out, leak.trained): leak for leak in find_leaks(held_out, trained)}
    assert {couple: len(leak.keys) for couple, leak in found.items()} == {("h", "a"): 2, ("h", "b"): 2, ("g", "b"): 1}
    assert found["h", "a"].keys.tolist() == sorted([text_key("one"), text_key("two words")])
    assert found["h", "a"].example == "one"
    assert found["h", "a"].rows.tolist() == [2, 4], "not that of a text that belongs to a leaking one"
    with pytest.raises(DataError) as error:
        check_leaks(held_out, trained, allow_leaks=False)
    assert str(error.value) == (
        "4 texts of held-out tasks are in the training data (h in a: 2; h in b: 2; g in b: 1; for example 'one'):"
        " leave them out of training with data.allow_leaks: remove, or accept them with data.allow_leaks: "
        "[[h, a], [h, b], [g, b]]"
    )
    assert check_leaks(held_out, trained, allow_leaks=[["h", "a"], ["h", "b"], ["g", "b"]]) == {}
    with pytest.raises(DataError, match=r"^2 texts of .* \(h in b: 2; .*allow_leaks: \[\[h, b\]\]$"):
        check_leaks(held_out, trained, allow_leaks=[["h", "a"], ["g", "b"]])
    left_out = check_leaks(held_out, trained, allow_leaks="remove")
    assert {name: rows.tolist() for name, rows in left_out.items()} == {"a": [2, 4], "b": [0, 1]}


OF_EIGHT = "one two three four five six seven eight"


@pytest.mark.parametrize(
    ("text", "other", "is_near"),
    [
        ("Where is  my dog?", "where is my dog", True),
        ("Where is my dog?", "where is my cat", False),
        (OF_EIGHT, "One, two, three, four; five - six seven NINE!", True),
        (OF_EIGHT, "zero one two three four five six seven eight", True),
        (OF_EIGHT, "one two three four five six eight", True),
        (OF_EIGHT, "one two three four five six nine nine", False),
        (OF_EIGHT, "one two three five six seven eight four nine", False),
        ("a b a b a b a b a", "a b a b a b a a", True),
        ("C++", "C#", False),
        ("...", "!!!", False),
        ("我喜欢你们的猫和狗", "我喜欢你们的猫和鸟。", True),
        ("हिन्दी में एक वाक्य", "हिन्दी में एक वाक्य।", True),
        ("", "", False),
    ],
)
def test_near_copies_by_hand(monkeypatch: pytest.MonkeyPatch, text: str, other: str, is_near: bool) -> None:
    """In both directions, in blocks of two texts, among texts that are no copies."""
    monkeypatch.setattr("mtcl.data.near_copies.BLOCK", 2)
    for own, training in ((text, other), (other, text)):
        among = pa.array(["a word", "and nothing of the kind in these many words", "", training, "more"])
        found = NearCopies(pa.array(["first", own, "third of these"])).among(among)
        assert found.own.tolist() == [1] * is_near
        assert found.copies.tolist() == found.rows.tolist() == [3] * is_near


def test_near_copies_agree_with_a_slow_search() -> None:
    """Random texts of few words: those that one change of a word makes equal, by comparing all with all."""
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(list("ab"), generator.integers(1, 12))) for _ in range(400)]
    own, others = texts[:200], texts[200:]

    def shortened(text: str) -> set[str]:
        words = text.split()
        return {" ".join(words[:n] + words[n + 1 :]) for n in range(len(words) if len(words) >= 8 else 0)}

    def is_near(one: str, other: str) -> bool:
        if min(len(one.split()), len(other.split())) < 3:
            return False
        return bool(({one} | shortened(one)) & ({other} | shortened(other)))

    found = NearCopies(pa.array(own)).among(pa.array(others))
    assert found.own.tolist() == [n for n, one in enumerate(own) if any(is_near(one, other) for other in others)]
    assert found.rows.tolist() == [n for n, other in enumerate(others) if any(is_near(one, other) for one in own)]
    assert all(is_near(own[n], others[copy]) for n, copy in zip(found.own, found.copies, strict=True))


def test_near_copies_are_reported_apart(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """They never refuse a run, and a text with an exact copy is not counted again."""
    monkeypatch.setattr("mtcl.data.leaks.log.propagate", True)
    held_out = {"g": [pa.array(["no copy"])], "h": [pa.array([OF_EIGHT, "where is my dog?", "same text here"])]}
    trained = {"a": trained_on("x", OF_EIGHT + "!", "same text here"), "b": trained_on("where is my dog")}
    (line,) = _warnings(caplog, held_out, trained, [["h", "a"]])
    assert "have near copies in the training data (h in a: 1; h in b: 1; for example" in line
    assert f"'{OF_EIGHT}' and '{OF_EIGHT}!'" in line
    assert {n: rows.tolist() for n, rows in check_leaks(held_out, trained, allow_leaks="remove").items()} == {
        "a": [1, 2],
        "b": [0],
    }


def _warnings(
    caplog: pytest.LogCaptureFixture, held_out: Any, trained: dict[str, TrainedTexts], allow_leaks: Any
) -> list[str]:
    caplog.clear()
    assert check_leaks(held_out, trained, allow_leaks=allow_leaks) == {}
    return [one for one in caplog.messages if "near copies" in one]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("delete", "data.allow_leaks is 'delete': give true, false, remove or pairs [held_out, trained]"),
        (["hashtag", "search"], "data.allow_leaks has 'hashtag': give pairs of a held-out and a trained task"),
        ([["search", "hashtag"]], "data.allow_leaks has ['search', 'hashtag'], but 'search' is not held out"),
        ([["hashtag", "serach"]], "'serach' is not trained; did you mean 'search'?"),
    ],
)
def test_what_allow_leaks_may_be(given: Any, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        MtclDataModule(tasks={"search": TaskConfig()}, held_out=["hashtag"], allow_leaks=given)
    assert told in str(error.value)


def test_leaks_can_be_allowed(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtcl.data.leaks.log.propagate", True)
    check_leaks({"h": [pa.array(["long " * 40])]}, {"a": trained_on("long " * 40)}, allow_leaks=True)
    line = caplog.messages[0]
    assert line.startswith("1 texts of held-out tasks are in the training data (h in a: 1; for example 'long ")
    assert "...'" in line
    assert len(line) < 220


def test_roles_exclude_each_other() -> None:
    with pytest.raises(
        ConfigError, match=r"data\.held_out has 'search', which `tasks` trains: remove it from one of the two"
    ):
        MtclDataModule(tasks={"search": TaskConfig()}, held_out=["search"])
    with pytest.raises(TaskError, match=r"unknown task 'serach'; did you mean 'search'"):
        MtclDataModule(tasks={"interest": TaskConfig()}, held_out=["serach"])
    with pytest.raises(ConfigError, match=r"data\.held_out has 'y', which the checkpoint was trained on"):
        check_never_trained({"y"}, ["x", "y"])
    check_never_trained({"y"}, ["x"])


def test_means_are_apart() -> None:
    primary = {"a": 0.2, "b": 0.4, "c": 0.9}
    assert board.means("val", primary, {"c": "held_out"}) == pytest.approx({"val/mean": 0.3, "val/held_out_mean": 0.9})
    assert board.means("test", primary, {}) == pytest.approx({"test/mean": 0.5})


def test_a_study_evaluates_held_out_tasks_as_such(tmp_path: Path) -> None:
    """Not among `tasks`: they need no training split, and a PCA of the base encoder does not see theirs."""
    study = study_of()
    (tmp_path / "configs").mkdir()
    for name, run in runs_by_name(study).items():
        Runs(study, tmp_path, [])._write_configs(run)
        config = yaml.safe_load((tmp_path / "configs" / f"{name}.evaluate.yaml").read_text())
        assert [task for task, settings in config["tasks"].items() if settings is not None] == ["a", "b", "c"], name
        assert config["data"]["held_out"] == ["h"], name


@pytest.fixture(scope="module")
def root(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo corpus without training rows of hashtag."""
    folder = shutil.copytree(demo_root, tmp_path_factory.mktemp("held_out") / "root")
    for path in folder.glob("hashtag/train.*"):
        path.unlink()
    return folder


def test_training_is_the_same_without_them(root: Path, tiny_model: Path, tmp_path: Path, mtcl_command: Run) -> None:
    """Equal losses, weights and `val/mean`, also resumed half-way with another list of held-out tasks.

    Evaluation at several dimensions changes nothing either.
    """
    plain = mtcl_command("fit", *options(tiny_model, root, "plain", **COMMON))
    assert plain.returncode == 0, plain.stderr
    half = {**COMMON, "trainer.max_steps": STEPS // 2, "trainer.val_check_interval": STEPS // 2} | HELD_OUT
    half["model.eval_dims"] = "[8]"
    first = mtcl_command("fit", *options(tiny_model, root, "apart", **half))
    assert first.returncode == 0, first.stderr
    assert "held out: hashtag; none of their texts are in the training data" in first.stderr
    assert "step 12 of 12: val/mean" in first.stderr
    assert "val/held_out_mean" in first.stderr.split("step 12 of 12")[1]
    assert "val/held_out_mean" in first.stdout
    more = ("--trainer.max_steps", str(STEPS), "--trainer.val_check_interval", str(STEPS))
    done = mtcl_command("fit", "--resume", "runs/apart", *more, "--data.held_out", "[hashtag, translation]")
    assert done.returncode == 0, done.stderr
    apart = tmp_path / "runs" / "apart"
    for name, value in weights(tmp_path / "runs" / "plain").items():
        assert torch.equal(value, weights(apart)[name]), name
    expected, found = losses(tmp_path / "runs" / "plain"), losses(apart)
    for tag, values in expected.items():
        assert {step: found[tag][step] for step in values} == values, tag
    assert "train_loss/hashtag" not in found
    mrr, bitext = found["val_mrr/hashtag"], found["val_bitext_accuracy/translation"]
    assert set(mrr) == {0, STEPS // 2, STEPS}
    assert set(bitext) == {STEPS}
    assert set(found["val_mrr_dim8/hashtag"]) == set(found["val_ndcg@10_dim8/search"]) == set(mrr)
    saved = torch.load(apart / "checkpoints" / "last.ckpt", weights_only=True)["mtcl"]
    assert set(saved["base"]) == {"search", "interest", "storyline", "hashtag", "translation"}
    last = saved["history"][STEPS]
    assert found["val/held_out_mean"][STEPS] == pytest.approx((last["hashtag"] + last["translation"]) / 2)
    trained = np.mean([last[name] for name in ("search", "interest", "storyline")])
    assert found["val/mean"][STEPS] == pytest.approx(trained)
    tested = mtcl_command("test", "--ckpt", "runs/apart")
    assert tested.returncode == 0, tested.stderr
    assert "test/held_out_mean" in tested.stdout
    assert {"ndcg@10", "ndcg@10_dim8"} < set(json.loads((apart / "test.json").read_text())["hashtag"])
    (tmp_path / "less.yaml").write_text("tasks: {search: null}\ndata: {held_out: [search]}\n")
    refused = mtcl_command("test", "--ckpt", "runs/plain", "--config", "less.yaml")
    assert refused.returncode == 2
    assert "data.held_out has 'search', which the checkpoint was trained on: leave it out" in refused.stderr


def with_leak(root: Path, folder: Path) -> Path:
    """A data root in which one post of hashtag's test split, in capitals, is a training query of search."""
    shutil.copytree(root, folder)
    post = pq.read_table(folder / "hashtag" / "test.parquet")["text"][0].as_py()
    rows = pq.read_table(folder / "search" / "train.parquet").to_pylist()
    rows[0]["query"] = post.upper()
    pq.write_table(pa.Table.from_pylist(rows), folder / "search" / "train.parquet")
    return folder


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.nightly)])
def test_a_leak_is_refused_before_the_first_step(
    root: Path, tiny_model: Path, tmp_path: Path, mtcl_process: Run, mtcl_command: Run, ranks: int
) -> None:
    run = mtcl_process if ranks == 2 else mtcl_command
    size = {**RANKS, "trainer.devices": 2} if ranks == 2 else {}
    leaky = with_leak(root, tmp_path / "leaky")
    arguments = options(tiny_model, leaky, "leaky", **COMMON, **HELD_OUT, **size)
    refused = run("fit", *arguments)
    assert refused.returncode == 2, refused.stderr
    said = [line for line in refused.stderr.splitlines() if line.startswith("mtcl:")]
    assert len(said) == 1
    assert "1 texts of held-out tasks are in the training data (hashtag in search: 1; for example" in said[0]
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "runs" / "leaky" / "config.yaml").exists(), "training has not started"
    if ranks == 2:
        return
    accepted = run("fit", *arguments, "--data.allow_leaks", "true", "--trainer.val_check_interval", "4")
    assert accepted.returncode == 0, accepted.stderr
    assert "their scores are not for unseen texts" in accepted.stderr
    named = run("fit", *arguments, "--data.allow_leaks", "[[hashtag, search]]", "--run_dir", "named")
    assert named.returncode == 0, named.stderr
    assert "their scores are not for unseen texts" in named.stderr
    removed = run("fit", *arguments, "--data.allow_leaks", "remove", "--run_dir", "removed", "--data.num_workers", "1")
    assert removed.returncode == 0, removed.stderr
    num_pairs = pq.read_metadata(leaky / "search" / "train.parquet").num_rows
    assert "(hashtag in search: 1; for example" in removed.stderr.split("left out of training")[0]
    assert f"task 'search' trains on {num_pairs - 1:,} of {num_pairs:,} pairs" in removed.stderr
    (row,) = [line for line in removed.stdout.splitlines() if "search" in line]
    assert f"{num_pairs - 1:,} of {num_pairs:,}" in row


def test_a_test_split_is_enough(root: Path, tiny_model: Path, tmp_path: Path, mtcl_command: Run) -> None:
    """For held-out and watched tasks: training leaves them out, `mtcl test` evaluates them, leaks are found."""
    data = tmp_path / "data"
    shutil.copytree(root, data)
    for task in ("hashtag", "storyline"):
        for path in [*data.glob(f"{task}/train.*"), *data.glob(f"{task}/validation.*")]:
            path.unlink()
    changed = {**COMMON, **HELD_OUT, "trainer.max_steps": 4, "trainer.val_check_interval": 4}
    arguments = [*options(tiny_model, data, "run", **changed), "--tasks.storyline", "{watch: true}"]
    done = mtcl_command("fit", *arguments)
    assert done.returncode == 0, done.stderr
    assert "without a validation split, so only `mtcl test` evaluates them: storyline, hashtag" in done.stderr
    assert "hashtag" not in done.stdout
    tested = mtcl_command("test", "--ckpt", "runs/run", "--data.root", str(data))
    assert tested.returncode == 0, tested.stderr
    assert {"hashtag", "storyline"} <= set(json.loads((tmp_path / "runs" / "run" / "test.json").read_text()))
    checked = mtcl_command("tasks", "check", "hashtag", "--data.root", str(data))
    assert checked.returncode == 0, checked.stderr
    assert "no train and no validation split: the task can be held out or watched" in checked.stdout
    (tested_rows,) = data.glob("hashtag/test.*")
    tested_rows.rename(tested_rows.with_stem("train"))
    refused = mtcl_command("fit", *arguments, "--run_dir", "other")
    assert refused.returncode == 2
    assert "no split 'validation'" in refused.stderr
