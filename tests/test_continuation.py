"""A checkpoint of another run is refused in one line, or accepted by --allow_changes; equal optimizer steps go on.

python -m pytest tests/test_continuation.py
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from transformers import BertConfig, BertModel

from mtcl import ConfigError, MtclDataModule, MtclModule, trainer_options
from mtcl.data.plan import Plan, PlanTask
from mtcl.encoder.backbone import digest_of
from mtcl.encoder.run_record import RunRecord
from mtcl.training.metrics import VAL_MEAN, eval_tag
from mtcl.training.recipe import changed
from mtcl.training.resume import NEW_RUN, check, check_trained
from tests.conftest import ROOT, Run, command_in
from tests.test_resume import losses, options, weights

STEPS = 24
COMMON = {
    "model.encoder.dropout": 0.0,
    "model.optimizer.lr": 0.0001,
    "model.optimizer.decay": "constant",
    "trainer.max_steps": STEPS,
    "trainer.val_check_interval": STEPS,
    "data.num_workers": 0,
}


def facts(**changed: Any) -> dict[str, Any]:
    task = {"num_pairs": 9, "version": 1}
    encoder = {"name": "a", "revision": None, "weights": "12ab", "pooling": "mean"}
    tasks = {"x": task, "y": task}
    return {"model.encoder": encoder, "tasks": tasks, "order of tasks": list(tasks), "seed": 1} | changed


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({"seed": 2}, r"\(seed: 1 in the checkpoint, 2 now\)"),
        (
            {"tasks": {"x": {"num_pairs": 8, "version": 2}, "y": {"num_pairs": 9, "version": 1}}},
            r"\(tasks\.x\.num_pairs: 9 in the checkpoint, 8 now; tasks\.x\.version: 1 in the checkpoint, 2 now\)",
        ),
        (
            {"tasks": {"x": {"num_pairs": 9, "version": 1}, "z": {}}, "order of tasks": ["x", "z"]},
            r"\(tasks\.y: only in the checkpoint; tasks\.z: only now\)",
        ),
        ({"order of tasks": ["y", "x"]}, r"\(order of tasks: \['x', 'y'\] in the checkpoint, \['y', 'x'\] now\)"),
        (
            {"model.encoder": {"name": "b", "revision": "c", "weights": "ff", "pooling": "mean"}},
            r"model\.encoder\.name: a in the checkpoint, b now; .*revision: None .*, c now; .*weights: 12ab .*, ff now",
        ),
    ],
)
def test_a_difference_is_named_once(now: dict[str, Any], told: str) -> None:
    changed = facts(**now)
    with pytest.raises(ConfigError, match=told):
        check(facts(), changed, allow_changes=False)
    assert check(facts(), changed, allow_changes=True)


def test_many_differences_stay_one_line() -> None:
    with pytest.raises(ConfigError, match="; and 6 more") as error:
        check({**facts(), **{str(n): n for n in range(10)}}, facts(), allow_changes=False)
    assert "\n" not in str(error.value)


def test_equal_weights_under_another_name_are_no_difference() -> None:
    moved = {**facts()["model.encoder"], "name": "/elsewhere", "revision": "main"}
    assert check(facts(), facts(**{"model.encoder": moved}), allow_changes=False) == []


def test_what_is_trained_must_be_the_same() -> None:
    one, other = {"a": torch.zeros(2), "b": torch.zeros(3)}, {"a": torch.zeros(2), "b": torch.zeros(4)}
    check_trained(one, {name: value + 1 for name, value in one.items()})
    with pytest.raises(ConfigError, match=r"b is \(3,\) in the checkpoint and \(4,\) now"):
        check_trained(one, other)
    with pytest.raises(ConfigError, match=r"b is \(3,\) in the checkpoint and absent now"):
        check_trained(one, {"a": torch.zeros(2)})


def test_the_digest_is_of_the_values() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    before = digest_of(layer)
    assert before == digest_of(layer)
    with torch.no_grad():
        layer.bias[0] = torch.nextafter(layer.bias[0], torch.tensor(9.0))
    assert before != digest_of(layer)


def test_slots_do_not_depend_on_how_many_make_a_step() -> None:
    tasks = (PlanTask("a", 50, 4), PlanTask("b", 500, 4), PlanTask("c", 70, 4, 3.0))
    one, three = Plan(tasks, tasks_per_step=1), Plan(tasks, tasks_per_step=3)
    for step in range(500):
        for slot, draw in enumerate(three.draws(step)):
            (same,) = one.draws(3 * step + slot)
            assert draw.task == same.task
            assert (draw.pairs == same.pairs).all()
            assert (draw.epochs == same.epochs).all()


@pytest.fixture(scope="module")
def half(tiny_model: Path, demo_root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first half of a run, two sub-batches a step."""
    folder = tmp_path_factory.mktemp("half")
    halved = {**COMMON, "trainer.max_steps": STEPS // 2, "trainer.val_check_interval": STEPS // 2}
    assert command_in(folder, cache)("fit", *options(tiny_model, demo_root, "half", **halved)).returncode == 0
    return folder / "runs" / "half"


def resume(command: Run, run: Path, **changed: object) -> subprocess.CompletedProcess[str]:
    values = {"trainer.max_steps": STEPS, "trainer.val_check_interval": STEPS} | changed
    given = [x for key, value in values.items() for x in (f"--{key}", *([] if value is None else [str(value)]))]
    return command("fit", "--resume", str(run), *given)


def test_other_accumulation_of_an_equal_global_batch(
    half: Path, tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run
) -> None:
    """Two sub-batches in one step, and later one in each of two: an unchanged run, to rounding."""
    whole = mtcl_command("fit", *options(tiny_model, demo_root, "whole", **COMMON))
    assert whole.returncode == 0, whole.stderr
    moved = shutil.copytree(half, tmp_path / "runs" / "moved")
    changed = {"data.tasks_per_step": 1, "trainer.accumulate_grad_batches": 2, "trainer.val_check_interval": 2 * STEPS}
    done = resume(mtcl_command, moved, **changed)
    assert done.returncode == 0, done.stderr
    assert "change: trainer.accumulate_grad_batches: 1 in the checkpoint, 2 now" in done.stderr
    expected, found = losses(tmp_path / "runs" / "whole"), losses(moved)
    for tag in (tag for tag in expected if tag.startswith(("train_loss/", "val"))):
        for step, value in expected[tag].items():
            assert found[tag][step] == pytest.approx(value, rel=1e-5), (tag, step)
    for name, value in weights(tmp_path / "runs" / "whole").items():
        torch.testing.assert_close(weights(moved)[name], value, atol=1e-5, rtol=1e-4, msg=name)
    back = resume(mtcl_command, moved, **{"trainer.max_steps": STEPS + 1, "trainer.val_check_interval": 1})
    assert back.returncode == 0, back.stderr
    last = torch.load(moved / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == STEPS + 1
    assert last["MtclDataModule"]["position"] == 2 * (STEPS + 1)


def test_another_version_and_another_encoder_are_refused(half: Path, tmp_path: Path, mtcl_command: Run) -> None:
    text = (ROOT / "tasks" / "demo" / "search.py").read_text()
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "search.py").write_text(text.replace('name = "search"', 'name = "search"\n    version = 2'))
    before = (half / "checkpoints" / "last.ckpt").read_bytes()
    refused = resume(mtcl_command, half, **{"model.encoder.dim": 8})
    assert refused.returncode == 2
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("mtcl:")]
    assert line.startswith(
        "mtcl: ConfigError: cannot resume, this is a different run (model.encoder.dim: None in the checkpoint, 8 now; "
        "tasks.search.version: 1 in the checkpoint, 2 now; tasks.search.data: "
    )
    assert line.endswith("give --allow_changes to resume it anyway; " + NEW_RUN)
    never = resume(mtcl_command, half, **{"model.encoder.dim": 8, "allow_changes": None})
    assert never.returncode == 2
    assert "cannot resume, encoder.projection.weight is absent in the checkpoint and (8, 32) now" in never.stderr
    assert "Traceback" not in refused.stderr + never.stderr
    assert (half / "checkpoints" / "last.ckpt").read_bytes() == before
    kept = resume(mtcl_command, half, **{"model.optimizer.lr": 0.5})
    assert kept.returncode == 2
    assert "ConfigError: model.optimizer.lr is 0.5, but the run began with " in kept.stderr


def test_another_set_of_tasks_goes_on_where_it_is_allowed(half: Path, tmp_path: Path, mtcl_command: Run) -> None:
    run = shutil.copytree(half, tmp_path / "runs" / "more")
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    task_removed = {"config": tmp_path / "less.yaml", "tasks.hashtag.weight": 1}
    (tmp_path / "less.yaml").write_text("tasks: {search: null}")
    refused = resume(mtcl_command, run, **task_removed)
    assert refused.returncode == 2
    assert "(tasks.search: only in the checkpoint; tasks.hashtag: only now)" in refused.stderr
    done = resume(mtcl_command, run, **task_removed, allow_changes=None)
    assert done.returncode == 0, done.stderr
    assert "resuming with a change: tasks.hashtag: only now" in done.stderr
    now = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert now["MtclDataModule"]["position"] == now["global_step"] == STEPS
    base, old = now["mtcl"]["base"], saved["mtcl"]["base"]
    assert list(base) == ["interest", "storyline", "hashtag"]
    assert {name: base[name] for name in ("interest", "storyline")} == {k: old[k] for k in ("interest", "storyline")}
    validated = mtcl_command("validate", "--ckpt", str(run / "checkpoints" / "last.ckpt"), "--run_dir", "out")
    assert validated.returncode == 0, validated.stderr
    assert f"{base['hashtag']:.4f}" in validated.stdout, "the new task's base figure is the base encoder's"


def test_other_tasks_reset_only_callbacks_that_monitor_a_mean(
    tiny_model: Path, demo_root: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counts of drawn pairs and the patience for a task's own metric go on, and the best mean is chosen again."""
    monkeypatch.chdir(tmp_path)

    def fit(steps: int, *tasks: str, resumes: bool = False) -> tuple[MtclModule, list[Any]]:
        module = MtclModule(encoder={"name": str(tiny_model)}, evaluate_base=False, allow_changes=resumes)
        options = {"root": str(demo_root), "cache": str(cache), "num_workers": 0, "max_length": 24}
        data = MtclDataModule(tasks={name: {} for name in tasks}, batch_size=8, **options)
        of_search = eval_tag("val", data.evaluated["search"].metric.name, "search")
        stops = [EarlyStopping(tag, mode="max", patience=50, min_delta=1.0) for tag in (VAL_MEAN, of_search)]
        of_run = trainer_options("run", averaging={"decay": 0.5}, board="lean", progress_bar=False)
        of_run["callbacks"] += stops
        quiet = {"enable_progress_bar": False, "accelerator": "cpu", "val_check_interval": 2}
        trainer = Trainer(max_steps=steps, **quiet, **of_run)
        trainer.fit(module, data, ckpt_path="run/checkpoints/last.ckpt" if resumes else None)
        return module, [*stops, *(one for one in trainer.callbacks if isinstance(one, ModelCheckpoint))]

    _, (of_mean, of_task, _) = fit(6, "search", "interest")
    assert (of_mean.wait_count, of_task.wait_count) == (2, 2)  # the first of three validations is the best
    module, (of_mean, of_task, best) = fit(8, "search", "interest", "hashtag", resumes=True)
    assert (of_mean.wait_count, of_task.wait_count) == (0, 3)
    assert float(best.best_model_score) == pytest.approx(float(of_mean.best_score))
    assert sum(module.metric_log.pairs_drawn.values()) == 8 * (6 * 2 + 2 * 3)


def test_another_recipe_is_named(half: Path, tmp_path: Path, mtcl_command: Run) -> None:
    """It is allowed, like another number of steps, but not without a word."""
    run = shutil.copytree(half, tmp_path / "runs" / "warmer")
    changed = {
        "tasks.search.loss": "InfoNCE",
        "tasks.search.loss.temperature": 0.2,
        "tasks.search.loss_weight": 2.0,
        "model.encoder.dropout": 0.2,
        "model.keep.strength": 0.5,
        "model.optimizer.decay": "cosine",
        "trainer.precision": "bf16-mixed",
        "trainer.gradient_clip_val": 0.5,
        "trainer.gradient_clip_algorithm": "value",
    }
    done = resume(mtcl_command, run, **changed)
    assert done.returncode == 0, done.stderr
    loss, *others = [
        line.partition("resuming with a change: ")[2]
        for line in done.stderr.splitlines()
        if "resuming with a change" in line
    ]
    assert loss.startswith("tasks.search.loss: InfoNCE")
    assert "temperature 0.2" in loss.replace("=", " ")
    assert others == [
        "tasks.search.loss_weight: 1.0 in the checkpoint, 2.0 now",
        "model.encoder.dropout: 0.0 in the checkpoint, 0.2 now",
        "model.keep.strength: None in the checkpoint, 0.5 now",
        "model.keep.share: None in the checkpoint, 0.03125 now",
        "model.optimizer.decay: constant in the checkpoint, cosine now",
        "trainer.precision: 32-true in the checkpoint, bf16-mixed now",
        "trainer.gradient_clip_val: 1.0 in the checkpoint, 0.5 now",
        "trainer.gradient_clip_algorithm: None in the checkpoint, value now",
    ]
    more = resume(mtcl_command, run, **{"trainer.max_steps": STEPS + 1, "trainer.val_check_interval": 1})
    assert "resuming with a change" not in more.stderr, "a run's folder keeps what it was resumed with"


def test_recipes_are_compared_as_far_as_both_are_known() -> None:
    assert changed(RunRecord.of({}).recipe, {"a": 1}) == []
    with pytest.raises(ConfigError, match=r"mtcl\.recipe is \[1\]: give a dict"):
        RunRecord.of({"recipe": [1]})
    assert changed({"a": "\n" * 999, "b": 2}, {"a": 1, "c": 2}) == ["a: " + "\n" * 200 + " in the checkpoint, 1 now"]


def test_allow_changes_belongs_to_resume(mtcl_command: Run) -> None:
    refused = mtcl_command("fit", "--allow_changes")
    assert refused.returncode == 2
    assert "--allow_changes works with --resume only" in refused.stderr


def test_a_checkpoint_of_another_base_encoder_is_refused(
    tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run
) -> None:
    """It would be compared with what it did not begin from."""
    short = {**COMMON, "trainer.max_steps": 2, "trainer.val_check_interval": 2}
    done = mtcl_command("fit", "--no_base", *options(tiny_model, demo_root, "run", **short))
    assert done.returncode == 0, done.stderr
    torch.manual_seed(1)
    model = BertModel(BertConfig.from_pretrained(tiny_model), add_pooling_layer=False)
    shutil.copytree(tiny_model, tmp_path / "other")
    model.save_pretrained(tmp_path / "other")
    for command in (["test", "--ckpt", "runs/run"], ["fit", "--init_from", "runs/run", "--run_dir", "runs/next"]):
        ended = mtcl_command(*command, "--model.encoder.name", str(tmp_path / "other"))
        assert ended.returncode == 2
        assert "but the checkpoint was trained from other weights" in ended.stderr
    tested = mtcl_command("test", "--ckpt", "runs/run")
    assert tested.returncode == 0
    assert tested.stderr.count("dimensions, texts of up to") == 1, "not again for the base encoder"
