"""From Python as from the command line: Lightning's own Trainer with its defaults, and what comes out of it.

python -m pytest tests/test_notebook.py
"""

from __future__ import annotations

import math
import os
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, LearningRateFinder, ModelCheckpoint

import mtcl
from mtcl import (
    MRR,
    AveragingConfig,
    ConfigError,
    EncoderConfig,
    InfoNCE,
    LabelText,
    Matryoshka,
    MtclDataModule,
    MtclModule,
    OptimizerConfig,
    Rows,
    Task,
    TaskConfig,
    TextEncoder,
    inspect_batch,
    trainer_options,
)
from mtcl.__main__ import main
from mtcl.encoder import text_encoder
from mtcl.encoder.checkpoint import SavedRun
from mtcl.errors import DataError
from tests.conftest import ROOT, quiet_trainer


@pytest.fixture
def data(demo_root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MtclDataModule:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MTCL_CACHE", str(cache))
    return data_of(demo_root)


def data_of(root: Path, **options: Any) -> MtclDataModule:
    tasks: dict[str, Any] = {"search": {}, "interest": {"weight": 2}}
    given = {"tasks": tasks, "batch_size": 8, "max_length": 24, "num_workers": 0}
    return MtclDataModule(root=str(root), **given | options)


def module_of(model: Path, **options: Any) -> MtclModule:
    return MtclModule(encoder={"name": str(model), "dim": 16}, **options)


def test_a_task_class_in_place_of_options(demo_root: Path) -> None:
    class Own(Task):
        """A task of a notebook's cell."""

        name = "own"
        data = Rows(train=[{"text": "a", "label": "b"}])
        pairs = LabelText()
        metric = MRR()
        sample = [{"text": "a", "label": "b"}, {"text": "c", "label": "d"}]

    for given in (Own, Own()):
        with pytest.raises(ConfigError, match=r"^tasks\.own is a Task: write its class to tasks/own\.py "):
            MtclDataModule(root=str(demo_root), tasks={"own": given})  # type: ignore[dict-item]


def test_the_bar_of_a_run_that_was_over_and_got_more_steps(
    data: MtclDataModule, tiny_model: Path, demo_root: Path, tmp_path: Path
) -> None:
    shown: list[float] = []

    class Shown(Callback):
        def on_train_batch_end(self, trainer: Trainer, *arguments: Any, **options: Any) -> None:
            bar: Any = trainer.progress_bar_callback
            shown.append(bar.progress.tasks[bar.train_progress_bar_id].completed)
            assert bar.progress.tasks[bar.train_progress_bar_id].total == trainer.max_steps * 2

    for max_steps, resumed in ((2, None), (4, "last")):
        options = trainer_options(tmp_path / "run", board=None)
        options["callbacks"].append(Shown())
        trainer = Trainer(max_steps=max_steps, accumulate_grad_batches=2, accelerator="cpu", **options)
        trainer.fit(module_of(tiny_model, evaluate_base=False), data_of(demo_root), ckpt_path=resumed)
    assert shown == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.fixture
def checkpoint(data: MtclDataModule, tiny_model: Path, tmp_path: Path) -> Path:
    """What Lightning's Trainer with its own defaults writes."""
    trainer = Trainer(max_steps=4, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(module_of(tiny_model), data)
    (path,) = tmp_path.glob("lightning_logs/*/checkpoints/*.ckpt")
    return path


def test_every_reader_takes_the_checkpoint_of_any_trainer(
    checkpoint: Path, data: MtclDataModule, tiny_model: Path, demo_root: Path, tmp_path: Path
) -> None:
    trained = torch.load(checkpoint, weights_only=True)["state_dict"]
    for given in (str(checkpoint), checkpoint, checkpoint.parents[1]):
        encoder = TextEncoder.load(given, device="cpu")
        assert torch.equal(encoder.model.state_dict()["projection.weight"], trained["encoder.projection.weight"])
    module = MtclModule.load_from_checkpoint(checkpoint, map_location="cpu")
    assert MtclModule.load_from_checkpoint(checkpoint, torch.device("meta")).device.type == "meta"
    with pytest.raises(ConfigError, match="strict has no effect here"):
        MtclModule.load_from_checkpoint(checkpoint, strict=False)
    (results,) = quiet_trainer().test(module, data, verbose=False)
    assert {"test_ndcg@10/search", "test_mrr/interest", "test/mean"} <= results.keys()
    root = ["--data.root", str(demo_root)]
    assert main(["test", "--ckpt", str(checkpoint), *root, "--run_dir", "tested"]) == 0
    assert main(["predict", "--ckpt", str(checkpoint), *root, "--run_dir", "predicted"]) == 0
    fit = ["fit", *root, "--data.num_workers", "0", "--trainer.val_check_interval", "1"]
    assert main([*fit, "--init_from", str(checkpoint), "--run_dir", "second", "--trainer.max_steps", "1"]) == 0
    assert main([*fit, "--resume", str(checkpoint), "--run_dir", "third", "--trainer.max_steps", "5"]) == 0
    assert torch.load("third/checkpoints/last.ckpt", weights_only=True)["global_step"] == 5
    assert main(["merge", str(checkpoint), "base", "--out", "merged"]) == 0
    assert main(["mine", "search", "--ckpt", str(checkpoint), "--out", "mined", "--ranks", "0", "20", *root]) == 0


def test_metrics_reach_the_trainer(data: MtclDataModule, tiny_model: Path) -> None:
    trainer = quiet_trainer(max_steps=2)
    module = module_of(tiny_model)
    trainer.fit(module, data)
    assert trainer.callback_metrics["val_ndcg@10/search"] == pytest.approx(module.results["search"].primary)
    assert trainer.callback_metrics["val/mean"] == pytest.approx(np.mean([r.primary for r in module.results.values()]))
    (found,) = trainer.test(module, data, verbose=False)
    assert found["test_mrr/interest"] == pytest.approx(module.results["interest"].primary)


def test_callbacks_monitor_a_task(data: MtclDataModule, tiny_model: Path, tmp_path: Path) -> None:
    best = ModelCheckpoint(dirpath=tmp_path, monitor="val_mrr/interest", mode="max", filename="best")
    stop = EarlyStopping(monitor="val_ndcg@10/search", mode="max", patience=1, min_delta=1.0)
    trainer = quiet_trainer(max_steps=40, val_check_interval=2, callbacks=[best, stop], enable_checkpointing=True)
    trainer.fit(module_of(tiny_model), data)
    assert trainer.global_step == 4, "the second validation was not better by 1"
    assert (tmp_path / "best.ckpt").is_file()


def test_a_clipping_algorithm_is_recorded(data: MtclDataModule, tiny_model: Path) -> None:
    """Lightning keeps its name as an enum, which a checkpoint that is read without trust cannot hold."""
    trainer = quiet_trainer(max_steps=1, gradient_clip_val=0.5, gradient_clip_algorithm="value", limit_val_batches=0)
    trainer.fit(module_of(tiny_model, evaluate_base=False), data)
    trainer.save_checkpoint("own.ckpt")
    saved = SavedRun.read("own.ckpt")
    assert saved.section("trainer")["gradient_clip_algorithm"] == "value"
    assert saved.record.recipe["trainer.gradient_clip_algorithm"] == "value"


def test_a_learning_rate_is_found(data: MtclDataModule, tiny_model: Path) -> None:
    module = module_of(tiny_model, evaluate_base=False)
    finder = LearningRateFinder(num_training_steps=10, early_stop_threshold=None)
    trainer = quiet_trainer(max_steps=3, callbacks=[finder], enable_checkpointing=True)
    trainer.fit(module, data)
    assert finder.optimal_lr is not None
    assert len(finder.optimal_lr.results["lr"]) == 10
    assert module.lr == (finder.optimal_lr.suggestion() or OptimizerConfig.lr)
    module.lr = 3e-4
    assert module.configure_optimizers()["optimizer"].param_groups[0]["lr"] == 3e-4
    assert trainer.global_step == 3


def test_a_run_of_a_notebook_is_that_of_the_command_line(
    data: MtclDataModule, tiny_model: Path, demo_root: Path, tmp_path: Path
) -> None:
    """The same weights to the last bit, and the same files."""
    torch.manual_seed(1)
    options = trainer_options("notebook", checkpoint_every_n_steps=2) | {"precision": "32-true"}
    options["callbacks"] = [one for one in options["callbacks"] if type(one).__name__ != "Progress"]
    data.seed = 1
    Trainer(max_steps=4, val_check_interval=2, accelerator="cpu", enable_progress_bar=False, **options).fit(
        module_of(tiny_model), data
    )
    arguments = ["--data.root", str(demo_root), "--tasks", "{search: {}, interest: {weight: 2}}"]
    arguments += ["--data.batch_size", "8", "--data.max_length", "24", "--data.num_workers", "0"]
    arguments += ["--model.encoder.name", str(tiny_model), "--model.encoder.dim", "16"]
    arguments += ["--trainer.max_steps", "4", "--trainer.val_check_interval", "2", "--trainer.precision", "32-true"]
    arguments += ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    assert main(["fit", *arguments, "--run_dir", "command", "--checkpoint_every_n_steps", "2"]) == 0
    one, other = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("notebook", "command")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    files = [{p.name.split(".")[0] for p in (tmp_path / name).iterdir()} for name in ("notebook", "command")]
    assert files[0] == files[1]


def test_what_a_notebook_cannot_resume(data: MtclDataModule, tiny_model: Path, demo_root: Path) -> None:
    """As on the command line: another learning rate would be ignored, weights alone have no state."""

    def fit(max_steps: int, from_: str | None = None, averaging: Any = None, **options: Any) -> None:
        of_run = trainer_options("run", averaging=averaging, progress_bar=False, board=None)
        trainer = Trainer(max_steps=max_steps, accelerator="cpu", enable_progress_bar=False, **of_run)
        trainer.fit(module_of(tiny_model, evaluate_base=False, **options), data_of(demo_root), ckpt_path=from_)

    fit(2, averaging={"decay": 0.5}, optimizer={"lr": 1e-4})
    last, best = (f"run/checkpoints/{name}.ckpt" for name in ("last", "best"))
    for message, from_, options in [
        ("model.optimizer.lr is 0.001, but the run began with 0.0001", last, {"optimizer": {"lr": 1e-3}}),
        ("has weights only, not the state of a run", best, {}),
        ("the run averages its weights", last, {"averaging": None}),
    ]:
        with pytest.raises(ConfigError, match=message):
            fit(4, from_, **{"averaging": {"decay": 0.5}, "optimizer": {"lr": 1e-4}, **options})
    fit(4, last, averaging={"decay": 0.5}, optimizer={"lr": 1e-4})


WRONG = [
    (lambda: data_of(Path(), tasks=["search"]), r"^tasks is \['search'\]: give names with options"),
    (lambda: data_of(Path(), tasks="search"), "^tasks is 'search': give names with options"),
    (lambda: data_of(Path(), held_out="storyline"), "^data.held_out is 'storyline': give a list of text or null"),
    (lambda: data_of(Path(), batch_size="8"), "^data.batch_size is '8': give a whole number"),
    (lambda: data_of(Path(), batch_size=8.0), "^data.batch_size is 8.0: give a whole number"),
    (lambda: data_of(Path(), seed="x"), "^data.seed is 'x': give a whole number"),
    (lambda: data_of(Path(), num_workers="2"), "^data.num_workers is '2': give a whole number"),
    (lambda: MtclModule(eval_dims=8), "^model.eval_dims is 8: give a list of a whole number or null"),  # type: ignore[arg-type]
    (lambda: MtclModule(eval_dims=["8"]), "^model.eval_dims is"),  # type: ignore[list-item]
    (lambda: MtclModule(unseen_weight="0.5"), "^model.unseen_weight is '0.5': give a number"),  # type: ignore[arg-type]
    (lambda: MtclModule(weighting="Uncertainty"), "^model.weighting is 'Uncertainty': give Weighting or null"),  # type: ignore[arg-type]
    (lambda: trainer_options("run", averaging=0.9), "^averaging is 0.9: give a mapping of names"),  # type: ignore[arg-type]
    (lambda: trainer_options("run", averaging={"deacy": 1}), "^averaging has an unknown name 'deacy'; did you mean"),  # type: ignore[arg-type]
    (lambda: trainer_options("run", checkpoint_every_n_steps="5"), "^checkpoint_every_n_steps is '5': give"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[message for _, message in WRONG])
def test_arguments_of_a_wrong_type(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_an_average_from_python(data: MtclDataModule, tiny_model: Path) -> None:
    options = trainer_options("run", averaging=AveragingConfig(decay=0.5), progress_bar=False)
    Trainer(max_steps=2, accelerator="cpu", enable_progress_bar=False, **options).fit(module_of(tiny_model), data)
    assert "current_model_state" in torch.load("run/checkpoints/last.ckpt", weights_only=True)


SCRIPT = """
import sys
from lightning.pytorch import Trainer
from mtcl import MtclDataModule, MtclModule, TextEncoder
root, model, ranks = sys.argv[1:]
data = MtclDataModule(root=root, tasks={"search": {}, "interest": {"weight": 2}}, batch_size=8, max_length=24)
module = MtclModule(encoder={"name": model, "dim": 16, "dropout": 0.0}, optimizer={"lr": 1e-3})
distributed = {"strategy": "ddp", "devices": 2} if ranks == "2" else {"devices": 1}
trainer = Trainer(max_steps=6, accelerator="cpu", **distributed)
trainer.fit(module, data)
if trainer.is_global_zero:
    trainer.save_checkpoint(f"ranks{ranks}.ckpt")
    print("VALUE", float(trainer.callback_metrics["val_mrr/interest"]))
else:
    trainer.save_checkpoint("other.ckpt")
"""


@pytest.mark.usefixtures("starts_processes")
def test_two_ranks_with_the_defaults_of_lightning(
    data: MtclDataModule, tiny_model: Path, demo_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning replaces samplers there unless told not to: the weights are those of one process all the same."""
    Path("script.py").write_text(SCRIPT)
    command = ["script.py", str(demo_root), str(tiny_model)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command, "2"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "VALUE" in done.stdout
    monkeypatch.setattr(sys, "argv", [*command, "1"])
    runpy.run_path("script.py", run_name="__main__")
    one, two = (torch.load(f"ranks{n}.ckpt", weights_only=True)["state_dict"] for n in (1, 2))
    assert one.keys() == two.keys()
    far = 0
    for name in one:
        far += int((~torch.isclose(two[name], one[name], rtol=1e-4, atol=1e-5)).sum())
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=5e-5)
    assert far <= 3, "AdamW makes the rounding of a few small gradients larger, not of many"
    assert TextEncoder.load("ranks2.ckpt", device="cpu").encode("one text").shape == (16,)


# What a user gives wrong is told in one line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit_val_batches": 1}, "trainer.limit_val_batches is 1: a batch is a whole task there"),
        ({"limit_test_batches": 0.5}, "trainer.limit_test_batches is 0.5: a batch is a whole task there"),
        ({"limit_predict_batches": 1}, "trainer.limit_predict_batches is 1: a batch is a whole task there"),
        ({"fast_dev_run": True}, "trainer.fast_dev_run is not supported: it would evaluate only the first tasks"),
        ({"overfit_batches": 1}, "trainer.overfit_batches is not supported: give data.pairs_per_task"),
        ({"precision": "bf16-true"}, "trainer.precision is bf16-true: give bf16-mixed, 16-mixed or 32-true"),
    ],
)
@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
def test_a_trainer_that_would_leave_out_tasks(
    data: MtclDataModule, tiny_model: Path, stage: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        getattr(quiet_trainer(max_steps=2, **options), stage)(module_of(tiny_model, evaluate_base=False), data)


def test_what_does_not_meet(data: MtclDataModule, tiny_model: Path, demo_root: Path, tmp_path: Path) -> None:
    module = module_of(tiny_model)
    with pytest.raises(ConfigError, match=r"trainer.max_steps is not set: .* Trainer\(max_steps=1000\)"):
        quiet_trainer(max_epochs=2).fit(module, data)
    with pytest.raises(ConfigError, match="reads its tasks from an MtclDataModule"):
        quiet_trainer(max_steps=1).fit(module, train_dataloaders=[1])
    other = data_of(demo_root, encoder={"name": "other"})
    with pytest.raises(ConfigError, match="the data was given the encoder 'other', but the module has"):
        quiet_trainer(max_steps=1).fit(module, other)
    with pytest.raises(ConfigError, match="no task is configured"):
        quiet_trainer(max_steps=1).fit(module, MtclDataModule(root=str(demo_root)))
    quiet_trainer(max_steps=1).fit(module, data)
    with pytest.raises(ConfigError, match="the module has the tasks search, interest: make a new one"):
        quiet_trainer(max_steps=1).fit(module, data_of(demo_root, tasks={"interest": {}}))
    with pytest.raises(ConfigError, match="the module has another loss for 'search' already"):
        quiet_trainer(max_steps=1).fit(
            module, data_of(demo_root, tasks={"search": {"loss": "InfoNCE"}, "interest": {}})
        )
    again = data_of(demo_root, tasks={"search": {"loss_weight": 3.0}, "interest": {}})
    quiet_trainer(max_steps=1).fit(module, again)
    assert module.model.tasks["search"].loss_weight == 3.0, "options that are no parameters are those of the new data"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MtclModule(encoder={"dimm": 3}), "encoder has an unknown name 'dimm'; did you mean 'dim'"),
        (lambda: MtclModule(encoder={"dim": "3"}), "encoder.dim is '3': give a whole number or null"),
        (lambda: MtclModule(encoder="name"), "encoder is 'name': give a mapping"),
        (lambda: MtclDataModule(tasks={"search": {"wait": 2}}), "tasks.search has an unknown name 'wait'.*'weight'"),
        (lambda: MtclDataModule(tasks={"search": None}), "tasks.search is None: give {} for a task with defaults"),
        (lambda: MtclDataModule(tasks={"search": {"loss": "InfoNC"}}), "no loss 'InfoNC'; did you mean 'InfoNCE'"),
        (lambda: MtclDataModule(tasks={"serach": {}}), "unknown task 'serach'; did you mean 'search'"),
        (lambda: EncoderConfig(dim=0), "model.encoder.dim is 0"),
        (lambda: MtclModule(gradient_cosines_every_n_steps=-1), "every_n_steps is -1: give 0 or more"),
        (lambda: inspect_batch(MtclDataModule()), "the data has no task to train"),
        (lambda: TextEncoder.load("nowhere"), "no checkpoint 'nowhere'"),
        (lambda: TextEncoder.load(""), "no checkpoint '/.*checkpoints/best.ckpt'"),
    ],
)
def test_what_cannot_be_made(make: Any, message: str) -> None:
    with pytest.raises(mtcl.MtclError, match=message):
        make()


def test_an_encoder_with_a_projection_is_evaluated_untrained(data: MtclDataModule, tiny_model: Path) -> None:
    """Its projection is the PCA of training texts, which nobody has opened before."""
    (found,) = quiet_trainer().validate(module_of(tiny_model), data, verbose=False)
    assert 0 < found["val/mean"] < 1


# Data without a Trainer


def test_batches_without_a_trainer(data: MtclDataModule, tiny_model: Path, demo_root: Path) -> None:
    """They are those that training would see, and looking changes nothing."""
    data = data_of(demo_root, encoder={"name": str(tiny_model)})
    steps = iter(data.train_dataloader())
    seen = [next(steps) for _ in range(3)]
    assert [batch.step for batch in seen] == [0, 1, 2]
    assert data.position == 0
    again = next(iter(data.train_dataloader()))
    assert torch.equal(again.parts[0].columns[0].keys_NK, seen[0].parts[0].columns[0].keys_NK)


def test_another_encoder_reads_the_texts_anew(data: MtclDataModule, tiny_model: Path, tmp_path: Path) -> None:
    """A module with another tokenizer than the one that the stores were opened with."""
    import shutil

    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    words = (other / "tokenizer.json").read_text().replace('"dog"', '"gnu"')
    (other / "tokenizer.json").write_text(words)
    first = data_of(data.root or Path(), encoder={"name": str(tiny_model)})
    folder = first.store("search", "train").folder
    trainer = quiet_trainer(max_steps=1)
    module = MtclModule(encoder={"name": str(other)})
    data_2 = data_of(data.root or Path())
    trainer.fit(module, data_2)
    assert data_2.store("search", "train").folder != folder


def test_a_second_run_of_the_same_objects_begins_at_the_first_pair(data: MtclDataModule, tiny_model: Path) -> None:
    module = module_of(tiny_model, evaluate_base=False)
    for _ in range(2):
        quiet_trainer(max_steps=2, limit_val_batches=0).fit(module, data)
        assert data.position == 2


def test_a_second_run_of_the_same_objects_forgets_the_first(
    data: MtclDataModule, tiny_model: Path, demo_root: Path, tmp_path: Path
) -> None:
    """It starts from trained weights: these are kept and compared with, beside the base encoder's figures."""

    def held_out() -> MtclDataModule:
        return data_of(demo_root, held_out=["hashtag"], allow_leaks=True)

    def keeping() -> MtclModule:
        return module_of(tiny_model, keep={"share": 1.0}, optimizer={"lr": 5e-3})

    module, fresh, resumed = keeping(), keeping(), keeping()
    quiet_trainer(max_steps=6, val_check_interval=3).fit(module, data)
    assert module.run.start_figures == {}
    last = module.run.history[6]
    trainer = quiet_trainer(max_steps=4)
    trainer.fit(module, held_out())
    assert list(module.run.history) == [4]
    assert {name: module.run.start_figures[name] for name in last} == last
    quiet_trainer(max_steps=1).fit(fresh, held_out())
    assert module.run.base_figures == pytest.approx(fresh.run.base_figures)
    trainer.save_checkpoint(tmp_path / "second.ckpt")
    quiet_trainer(max_steps=5).fit(resumed, held_out(), ckpt_path=str(tmp_path / "second.ckpt"))
    kept = [one.keep._start.state_dict() for one in (module, resumed) if one.keep and one.keep._start]
    assert len(kept) == 2
    for name, value in kept[0].items():
        assert torch.equal(value, kept[1][name]), name


def test_a_failed_loader_is_forgotten_in_the_next_run(data: MtclDataModule, tiny_model: Path) -> None:
    data.loader_failure = DataError("a worker of the first run was killed")
    quiet_trainer(max_steps=1, limit_val_batches=0).fit(module_of(tiny_model, evaluate_base=False), data)
    assert data.loader_failure is None


def test_options_given_as_objects_or_mappings(demo_root: Path) -> None:
    given = MtclDataModule(root=str(demo_root), tasks={"search": TaskConfig(weight=2), "interest": {"loss": InfoNCE()}})
    assert given.task_configs["search"].weight == 2
    assert isinstance(given.task_configs["interest"].loss, InfoNCE)
    named = MtclDataModule(root=str(demo_root), tasks={"search": {"loss": "InfoNCE"}})
    assert isinstance(named.task_configs["search"].loss, InfoNCE)


def test_losses_of_a_notebook_are_in_its_checkpoint(data: MtclDataModule, tiny_model: Path, demo_root: Path) -> None:
    """With their arguments, and again in the module that is loaded."""
    loss = Matryoshka(InfoNCE(learn_temperature=True), dims=[4, 8])
    given = data_of(demo_root, tasks={"search": {"loss": loss, "prompt": "q: "}})
    trainer = quiet_trainer(max_steps=2)
    trainer.fit(module_of(tiny_model), given)
    trainer.save_checkpoint("own.ckpt")
    from mtcl.encoder.checkpoint import SavedRun

    saved = SavedRun.read("own.ckpt")
    info_nce = {"class_path": "mtcl.losses.InfoNCE", "init_args": {"learn_temperature": True}}
    assert saved.section("tasks", "search")["loss"] == {
        "class_path": "mtcl.losses.Matryoshka",
        "init_args": {"loss": info_nce, "dims": [4, 8]},
    }
    fit = ["fit", "--resume", "own.ckpt", "--run_dir", "resumed", "--trainer.max_steps", "3", "--data.num_workers", "0"]
    assert main([*fit, "--data.root", str(demo_root), "--trainer.val_check_interval", "1"]) == 0
    state = torch.load("resumed/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert "losses.search.loss.log_temperature" in state


# TextEncoder


def test_encode(checkpoint: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    encoder = TextEncoder.load(checkpoint, device="cpu")
    texts = ["red dog", "a bird " * 30, "", "job"] * 3
    vectors = encoder.encode(texts)
    assert vectors.shape == (12, 16)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(12))
    torch.testing.assert_close(encoder.encode(texts[1]), vectors[1])
    array = encoder.encode(texts, output="numpy")
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.float32
    text_encoder._warn_of_untrained.cache_clear()
    cut = encoder.encode(texts, dim=4)
    encoder.encode(texts, dim=4)
    told = [record.getMessage() for record in caplog.records if "dim is 4" in record.getMessage()]
    assert told == [
        "dim is 4, but the vectors are only known to be trained at 16 dimensions: cut vectors may find less"
    ]
    torch.testing.assert_close(cut, torch.nn.functional.normalize(vectors[:, :4], dim=1))
    assert encoder.encode([]).shape == (0, 16)
    assert encoder.encode(iter(["a", "b"]), progress=True).shape == (2, 16)  # type: ignore[arg-type]
    layer = torch.nn.Linear(16, 1)
    layer(vectors).sum().backward()
    assert layer.weight.grad is not None, "a head can be trained on the vectors"
    base = TextEncoder.base({"name": str(tiny_model)}, device="cpu")
    assert base.encode("one text").shape == (32,)


def test_encode_in_threads_that_cut_at_different_lengths(checkpoint: Path) -> None:
    encoder, texts = TextEncoder.load(checkpoint, device="cpu"), ["red dog on a green job " * 4] * 8
    wanted = {length: encoder.tokenizer(texts, length).lengths().tolist() for length in (5, 20)}
    with ThreadPoolExecutor(4) as pool:
        lengths = [5, 20] * 500
        found = pool.map(lambda length: encoder.tokenizer(texts, length).lengths().tolist(), lengths)
        assert all(one == wanted[length] for one, length in zip(found, lengths, strict=True))


def test_the_seed_is_lightning_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert MtclDataModule().seed == 1, "as in the command"
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")  # what seed_everything(7) sets
    assert MtclDataModule().seed == 7
    assert MtclDataModule(seed=0).seed == 0


def test_encode_in_bf16(checkpoint: Path) -> None:
    exact, encoder = (TextEncoder.load(checkpoint, device="cpu", precision=p) for p in ("float32", "bf16"))
    texts = ["red dog", "a bird " * 30, "job"]
    vectors = encoder.encode(texts)
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(vectors, exact.encode(texts), atol=0.03, rtol=0)
    assert not torch.allclose(vectors, exact.encode(texts), atol=1e-5), "else it was float32"
    assert encoder.fingerprint() == exact.fingerprint()
    with pytest.raises(ConfigError, match="precision is 'fp16': give float32 or bf16"):
        TextEncoder.load(checkpoint, precision="fp16")  # type: ignore[arg-type]


def test_encode_puts_a_task_s_prompt_before_its_texts(data: MtclDataModule, tiny_model: Path, demo_root: Path) -> None:
    given = data_of(demo_root, tasks={"search": {"prompt": "q: ", "max_length": 8}, "interest": {}})
    trainer = quiet_trainer(max_steps=1)
    trainer.fit(module_of(tiny_model), given)
    trainer.save_checkpoint("own.ckpt")
    encoder = TextEncoder.load("own.ckpt", device="cpu")
    assert torch.equal(encoder.encode("red dog", task="search"), encoder.encode("q: red dog"))
    assert torch.equal(encoder.encode("red dog", task="interest"), encoder.encode("red dog"))
    long = "red dog cat bird " * 5
    assert torch.equal(encoder.encode(long, task="search"), encoder([f"q: {long}"], 8)[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "serach"}, "task is 'serach', which the encoder was not trained on; did you mean 'search'"),
        ({"dim": 17}, "dim is 17: give 1 to 16"),
        ({"role": "asked"}, "role is 'asked': give query or document"),
        ({"output": "list"}, "output is 'list': give torch or numpy"),
        ({"dim": 2.5}, "dim is 2.5: give 1 to 16"),
    ],
)
def test_encode_refuses(checkpoint: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TextEncoder.load(checkpoint, device="cpu").encode("a", **options)


def test_a_text_is_a_string(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="texts holds 3: give strings"):
        TextEncoder.load(checkpoint, device="cpu").encode(["a", 3])  # type: ignore[list-item]


@pytest.mark.usefixtures("starts_processes")
def test_importing_the_names_of_training_is_lazy() -> None:
    code = "import sys, mtcl; assert 'torch' not in sys.modules; mtcl.MtclModule; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert set(mtcl.__all__) <= set(dir(mtcl))
    assert all(getattr(mtcl, name) is not None for name in mtcl.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = mtcl.Nothing


def test_temperatures_and_scores_are_finite(data: MtclDataModule, tiny_model: Path) -> None:
    trainer = quiet_trainer(max_steps=2)
    trainer.fit(module_of(tiny_model), data)
    assert all(math.isfinite(float(value)) for value in trainer.callback_metrics.values())
