"""Merged weights: the mean, its ends, what does not fit, and a checkpoint that every command takes.

python -m pytest tests/test_merge.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtcl.commands.merge import check_one_base, checkpoint_of, warn_of_other_texts
from mtcl.encoder.checkpoint import SavedRun
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.module_state import State
from mtcl.errors import ConfigError
from mtcl.training.merge import Ingredient, merge
from tests.conftest import Run
from tests.test_resume import options


def state_of(seed: int, **extra: torch.Tensor) -> State:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(3, 4, generator=generator)
    return {"encoder.w": weight, "encoder.steps": torch.tensor(7), "base_projection.w": torch.ones(2), **extra}


@given(st.lists(st.floats(0, 10), min_size=2, max_size=4).filter(lambda w: sum(w) > 1e-3))
@settings(deadline=None)
def test_weighted_mean(weights: list[float]) -> None:
    states = [state_of(seed) for seed in range(len(weights))]
    merged = merge([Ingredient(str(i), s, w) for i, (s, w) in enumerate(zip(states, weights, strict=True))])
    expected = sum(s["encoder.w"].double() * w for s, w in zip(states, weights, strict=True)) / sum(weights)
    torch.testing.assert_close(merged["encoder.w"].double(), expected, rtol=0, atol=1e-5)
    assert merged["encoder.steps"] == 7
    assert merged["base_projection.w"].tolist() == [1, 1]


def test_ends_are_the_ingredients() -> None:
    one, other = state_of(0), state_of(1)
    assert torch.equal(merge([Ingredient("a", one, 1), Ingredient("b", other, 0)])["encoder.w"], one["encoder.w"])
    assert torch.equal(merge([Ingredient("a", one, 0), Ingredient("b", other, 2)])["encoder.w"], other["encoder.w"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_equal_weights_stay_as_they_are(dtype: torch.dtype) -> None:
    """A frozen backbone is the same in all runs, also in half precision."""
    state = {"encoder.w": torch.randn(1000, generator=torch.Generator().manual_seed(0)).to(dtype)}
    merged = merge([Ingredient(name, state, 1) for name in "abc"])
    assert merged["encoder.w"].dtype is dtype
    assert torch.equal(merged["encoder.w"], state["encoder.w"])


def test_what_only_one_has_is_kept() -> None:
    only, both = torch.tensor(3.0), torch.tensor(1.0)
    one, other = state_of(0, **{"losses.x.t": only, "losses.y.t": both}), state_of(1, **{"losses.y.t": both + 2})
    merged = merge([Ingredient("a", one, 1), Ingredient("b", other, 3)])
    assert (merged["losses.x.t"], merged["losses.y.t"]) == (3.0, 2.5)
    assert merge([Ingredient("a", one, 0), Ingredient("b", other, 1)])["losses.x.t"] == 3.0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"encoder.w": torch.ones(3, 5)}, r"different encoders \(w: \(3, 4\) and \(3, 5\)\)"),
        ({"encoder.more": torch.ones(1)}, r"different encoders \(more: absent and \(1,\)\)"),
        ({"base_projection.w": torch.zeros(2)}, "started differently"),
    ],
)
def test_what_does_not_fit(changed: State, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        merge([Ingredient("a", state_of(0), 1), Ingredient("b", state_of(1) | changed, 1)])


@pytest.mark.parametrize("weights", [(-1.0, 2.0), (0.0, 0.0), (float("inf"), 1.0), (float("nan"), 1.0)])
def test_weights_out_of_range(weights: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="0 or more"):
        merge([Ingredient(name, state_of(0), weight) for name, weight in zip("ab", weights, strict=True)])


@pytest.fixture
def run(tiny_model: Path, demo_root: Path, mtcl_command: Run) -> list[str]:
    """The run `a` of 8 dimensions has ended; the value is what a run `b` of another seed is started with."""
    short = {"trainer.max_steps": 10, "trainer.val_check_interval": 10, "model.encoder.dim": 8, "data.num_workers": 0}
    short["tasks.search.loss"] = "{class_path: InfoNCE, init_args: {learn_temperature: true}}"
    done = mtcl_command("fit", *options(tiny_model, demo_root, "a", **short))
    assert done.returncode == 0, done.stderr
    return options(tiny_model, demo_root, "b", **short, **{"seed_everything": 2})


def saved(about: dict[str, Any]) -> SavedRun:
    """A checkpoint without weights."""
    return SavedRun.of({"mtcl": about, "state_dict": {}, "global_step": 0}, "run.ckpt")


def checkpoint(path: Path) -> dict[str, Any]:
    return dict(torch.load(path, weights_only=True))


def test_what_another_source_trained_is_not_held_out() -> None:
    def source(tasks: list[str], held_out: list[str]) -> SavedRun:
        config = {
            "tasks": {n: {} for n in tasks},
            "data": {"held_out": held_out},
            "model": {"encoder": {"pooling": "cls"}},
        }
        return saved({"config": json.dumps(config), "base": {}})

    merged = SavedRun.of(checkpoint_of({}, [source(["a"], ["b", "c"]), source(["b"], [])], {}), "merged")
    assert merged.section("data")["held_out"] == ["c"]
    assert set(merged.section("tasks")) == {"a", "b"}


def test_other_prompts_and_lengths_are_told(caplog: pytest.LogCaptureFixture) -> None:
    def source(prompt: str, length: int, task_length: int) -> SavedRun:
        config = {"tasks": {"a": {}}, "model": {"encoder": {"pooling": "cls"}}}
        tasks = {"a": {"prompt": {"query": "q: "}, "max_length": task_length}}
        about = {"config": json.dumps(config), "base": {}, "prompt": prompt, "max_length": length, "tasks": tasks}
        return saved(about)

    sources = {"x": source("", 64, 16), "y": source("hey: ", 64, 32)}
    with caplog.at_level("WARNING", "mtcl"):
        warn_of_other_texts(sources)
    assert caplog.messages == [
        "the prompt is '' in x and 'hey: ' in y: merged is x's",
        "max_length of task 'a' is 16 in x and 32 in y: merged is x's",
    ]
    merged = SavedRun.of(checkpoint_of({}, list(sources.values()), {}), "merged")
    assert (merged.prompt, merged.lengths) == (sources["x"].prompt, {"a": 16})


def test_runs_of_different_bases_have_no_mean() -> None:
    runs = {
        name: saved({"facts": {"model.encoder": {"weights": weights}}})
        for name, weights in zip("ab", "xy", strict=True)
    }
    with pytest.raises(ConfigError, match="'a' and 'b' started from different base encoders"):
        check_one_base(runs)
    check_one_base({"a": runs["a"], "merged": saved({"base_weights": "x"}), "old": saved({})})


def test_command(run: list[str], tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run) -> None:
    """Of two runs and the base; judged, used as a start, refused as a run to go on with."""
    done = mtcl_command("fit", "--init_from", "runs/a", *run)
    assert done.returncode == 0, done.stderr
    done = mtcl_command("merge", "runs/a", "runs/b", "base", "--weights", "0.5", "0.3", "0.2", "--out", "soup")
    assert done.returncode == 0, done.stderr
    assert "mtcl test --ckpt soup" in done.stdout
    soup = checkpoint(tmp_path / "soup" / "checkpoints" / "best.ckpt")
    one, other = (checkpoint(tmp_path / "runs" / name / "checkpoints" / "best.ckpt") for name in "ab")
    base = Encoder.load(EncoderConfig(name=str(tiny_model))).state_dict()
    name = "backbone.encoder.layer.0.output.dense.weight"
    parts = [one["state_dict"][f"encoder.{name}"], other["state_dict"][f"encoder.{name}"], base[name]]
    expected = sum(part * weight for part, weight in zip(parts, (0.5, 0.3, 0.2), strict=True))
    torch.testing.assert_close(soup["state_dict"][f"encoder.{name}"], expected)
    assert soup["mtcl"]["base_weights"] == one["mtcl"]["facts"]["model.encoder"]["weights"]
    assert soup["mtcl"]["merged"] == {"runs/a": 0.5, "runs/b": 0.3, "base": 0.2}

    done = mtcl_command("test", "--ckpt", "soup")
    assert done.returncode == 0, done.stderr
    assert set(json.loads((tmp_path / "soup" / "test.json").read_text())) == {"search", "interest", "storyline"}
    settings = {"tasks": {"interest": {}}, "model": {"encoder": {"name": str(tiny_model), "dim": 8}}}
    settings |= {"data": {"root": str(demo_root), "num_workers": 0}, "trainer": {"max_steps": 10}}
    (tmp_path / "less.yaml").write_text(json.dumps(settings))
    done = mtcl_command("fit", "--init_from", "soup", "--config", "less.yaml", "--run_dir", "runs/c")
    assert done.returncode == 0, done.stderr
    (tmp_path / "apart.yaml").write_text("data: {held_out: [search]}\n")
    refused = mtcl_command("test", "--ckpt", "runs/c", "--config", "apart.yaml")
    assert refused.returncode == 2
    assert "data.held_out has 'search', which the checkpoint was trained on" in refused.stderr, "through two runs"
    for source in ("soup", "soup/checkpoints/best.ckpt"):
        refused = mtcl_command("fit", "--resume", source)
        assert refused.returncode == 2
        assert "weights only" in refused.stderr
        assert "--init_from" in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1


@pytest.mark.usefixtures("run")
def test_all_of_the_base_is_the_base(tmp_path: Path, mtcl_command: Run) -> None:
    """The projection that the run began with included: both columns of the table are equal."""
    assert mtcl_command("merge", "runs/a", "base", "--weight", "0", "--out", "base.ckpt").returncode == 0
    done = mtcl_command("validate", "--ckpt", "base.ckpt", "--run_dir", "out", "--trainer.precision", "32-true")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "val.json").read_text())
    for task, primary in checkpoint(tmp_path / "base.ckpt")["mtcl"]["base"].items():
        assert primary in found[task].values()


@pytest.mark.parametrize("other", ["./run", "run/", "run/checkpoints/best.ckpt", "run/../run", "link", "{}/run"])
def test_one_checkpoint_under_two_names(other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mtcl.commands.merge import main

    monkeypatch.chdir(tmp_path)
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    best.parent.mkdir(parents=True)
    best.touch()
    (tmp_path / "link").symlink_to("run")
    with pytest.raises(ConfigError, match=r"run and .* are the same checkpoint: give different ones, or one and .base"):
        main("merge", ["run", "base", other.format(tmp_path), "--out", "out"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.ckpt",), "at least two different checkpoints"),
        (("base", "base"), "at least two different checkpoints"),
        (("a.ckpt", "b.ckpt", "--weights", "1"), "1 weights for 2 checkpoints"),
        (("a.ckpt", "b.ckpt", "--weight", "1.5"), "0 to 1: found 1.5"),
        (("a.ckpt", "b.ckpt", "--weight", "0.5", "--weights", "1", "2"), "--weight and --weights cannot be combined"),
        (("a.ckpt", "b.ckpt", "base", "--weight", "0.5"), "for more than two give --weights"),
        (("a.ckpt", "base"), "no checkpoint 'a.ckpt'"),
    ],
)
def test_usage(arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mtcl.commands.merge import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        main("merge", [*arguments, "--out", "out"])
