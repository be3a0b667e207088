"""Lightning's callbacks in a run: they monitor what the run logs, or are refused in one line; none ends in a traceback.

python -m pytest tests/test_callbacks.py
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback, EarlyStopping, LambdaCallback, ModelCheckpoint

from mtcl import ConfigError, MtclDataModule, MtclModule
from mtcl.training import metrics
from mtcl.training.callbacks import ProgressLines
from tests.conftest import Run, quiet_trainer

Fit = Callable[..., Any]


@pytest.fixture
def fit(tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run) -> Fit:
    """`mtcl fit` with callbacks, given as (name, arguments)."""

    def run(*callbacks: tuple[str, dict[str, Any]], arguments: tuple[str, ...] = ("--no_base",), **trainer: Any) -> Any:
        given = [{"class_path": f"lightning.pytorch.callbacks.{name}", "init_args": args} for name, args in callbacks]
        config = {
            "tasks": {"search": {}},
            "model": {"encoder": {"name": str(tiny_model)}},
            "data": {"root": str(demo_root), "max_length": 16, "batch_size": 8, "num_workers": 0},
            "trainer": {"max_steps": 4, "val_check_interval": 2, "callbacks": given, **trainer},
        }
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        return mtcl_command("fit", "--config", "config.yaml", "--run_dir", "run", *arguments)

    return run


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("EarlyStopping", {"monitor": "val/mean", "mode": "max"}),
        ("EarlyStopping", {"monitor": "val_mrr/search", "mode": "max"}),
        ("EarlyStopping", {"monitor": "train/loss"}),
        ("EarlyStopping", {"monitor": "train_loss/search", "check_on_train_epoch_end": True}),
        ("ModelCheckpoint", {"monitor": "train/loss", "every_n_train_steps": 1}),
        ("LearningRateFinder", {"num_training_steps": 3}),
        ("LearningRateMonitor", {"logging_interval": "step"}),
        ("DeviceStatsMonitor", {"cpu_stats": False}),
        ("TQDMProgressBar", {}),
        ("RichProgressBar", {}),
        ("Timer", {"duration": "00:01:00:00"}),
        ("ModelSummary", {"max_depth": 1}),
        ("LambdaCallback", {"on_train_batch_end": "builtins.print"}),
    ],
)
def test_it_works(fit: Fit, name: str, arguments: dict[str, Any]) -> None:
    done = fit((name, arguments))
    assert done.returncode == 0, done.stderr
    assert "step 4 of 4" in done.stderr


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("EarlyStopping", {"monitor": "val/maen"}, "EarlyStopping monitors 'val/maen', which the run does not log; "),
        ("EarlyStopping", {"monitor": "val/maen"}, "did you mean 'val/mean'?"),
        ("EarlyStopping", {"monitor": "val_ndcg@10/serch"}, "did you mean 'val_ndcg@10/search'"),
        ("EarlyStopping", {"monitor": "train/los"}, "did you mean 'train/loss'"),
        ("ModelCheckpoint", {"monitor": "val_loss"}, "ModelCheckpoint monitors 'val_loss', which the run does not log"),
        ("GradientAccumulationScheduler", {"scheduling": {0: 2}}, "set trainer.accumulate_grad_batches"),
        ("StochasticWeightAveraging", {"swa_lrs": 0.1}, "set averaging, for example"),
        ("BatchSizeFinder", {}, "set data.batch_size"),
        (
            "LambdaCallback",
            {"on_train_end": "math.sqrt"},
            "whose on_train_end is called with (trainer, pl_module), but",
        ),
        ("LambdaCallback", {"setup": "math.sqrt"}, "whose setup is called with (trainer, pl_module, stage), but"),
        ("BackboneFinetuning", {}, "trainer.callbacks has BackboneFinetuning, which mtcl does not support"),
    ],
)
def test_it_is_refused_before_the_first_step(
    fit: Fit, tmp_path: Path, name: str, arguments: dict[str, Any], told: str
) -> None:
    refused = fit((name, arguments))
    assert refused.returncode == 2, refused.stderr
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("mtcl:")]
    assert told in line
    assert "Traceback" not in refused.stderr
    assert not list(tmp_path.glob("run/checkpoints/*"))


def test_a_wrong_metric_of_a_right_task_is_found_with_the_base_or_at_the_first_validation(
    fit: Fit, tmp_path: Path
) -> None:
    stop = ("EarlyStopping", {"monitor": "val_mmr/search"})
    for arguments in ((), ("--no_base",)):
        refused = fit(stop, arguments=arguments, log_every_n_steps=1)
        assert refused.returncode == 2, refused.stderr
        assert "did you mean 'val_mrr/search'" in refused.stderr
        has_trained = bool(arguments)
        assert list(tmp_path.glob("run/checkpoints/*")) == []
        assert any("train/loss" in path.read_bytes().decode("latin-1") for path in tmp_path.glob("run/events*")) is (
            has_trained
        )


def test_training_values_need_log_points(fit: Fit) -> None:
    refused = fit(("EarlyStopping", {"monitor": "train/loss"}), log_every_n_steps=0)
    assert refused.returncode == 2, refused.stderr
    assert "EarlyStopping monitors 'train/loss', but trainer.log_every_n_steps is 0" in refused.stderr


@pytest.mark.parametrize("name", ["EarlyStopping", "ModelCheckpoint"])
def test_a_callback_that_monitors_a_validation_is_refused_if_there_is_none(fit: Fit, name: str, tmp_path: Path) -> None:
    refused = fit((name, {"monitor": "val/mean", "mode": "max"}), limit_val_batches=0)
    assert refused.returncode == 2, refused.stderr
    assert f"{name} monitors 'val/mean', but trainer.limit_val_batches is 0" in refused.stderr
    assert not list(tmp_path.glob("run/checkpoints/*"))
    done = fit(limit_val_batches=0)
    assert done.returncode == 0  # mtcl's own best checkpoint is no reason
    assert [path.name for path in tmp_path.glob("run/checkpoints/*")] == ["last.ckpt"]
    assert "no validation, so there is no table and no best.ckpt: give other commands run/checkpoints/last.ckpt" in (
        done.stderr.replace(f"{tmp_path}/", "")
    )


def test_callbacks_that_wait_for_the_end_of_the_run_are_reported(fit: Fit, tmp_path: Path) -> None:
    """Lightning takes an interval of 1 batch for 1.0, the whole epoch."""
    stop = ("EarlyStopping", {"monitor": "val/mean", "mode": "max", "min_delta": 10, "patience": 0})
    keep = ("ModelCheckpoint", {"monitor": "val/mean", "mode": "max", "dirpath": str(tmp_path / "kept")})
    told = (
        "EarlyStopping looks at 'val/mean' only when the run ends",
        "ModelCheckpoint (monitor 'val/mean') saves only",
    )
    done = fit(stop, keep, val_check_interval=1)
    assert done.returncode == 0, done.stderr
    assert all(line in done.stderr for line in told)
    assert "step 4 of 4" in done.stderr
    at_validation = {"check_on_train_epoch_end": False}, {"save_on_train_epoch_end": False}
    followed = [(name, given | more) for (name, given), more in zip((stop, keep), at_validation, strict=True)]
    shutil.rmtree(tmp_path / "run")
    done = fit(*followed, val_check_interval=1)
    assert done.returncode == 0, done.stderr
    assert not any(line in done.stderr for line in told)
    assert "stopped at step 2 of 4" in done.stderr
    shutil.rmtree(tmp_path / "run")
    done = fit(stop, keep, val_check_interval=2)
    assert not any(line in done.stderr for line in told)


def test_a_time_between_validations_is_refused(fit: Fit) -> None:
    refused = fit(val_check_interval="00:00:10:00")
    assert refused.returncode == 2, refused.stderr
    assert "trainer.val_check_interval is a time: " in refused.stderr
    assert "Traceback" not in refused.stderr


class Own(Callback):
    """Logs a value of its own."""

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        trainer.callback_metrics["val_own"] = torch.tensor(1.0)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        trainer.callback_metrics["val_own"] = torch.tensor(1.0)


def _data(demo_root: Path, cache: Path) -> MtclDataModule:
    return MtclDataModule(
        str(demo_root),
        {"search": {}},
        batch_size=8,
        max_length=16,
        num_workers=0,
        cache=str(cache),  # type: ignore[dict-item]
    )


def test_from_python(demo_root: Path, cache: Path, tiny_model: Path, tmp_path: Path) -> None:
    """train/loss of the last steps is there; a callback of one's own may log what another monitors."""
    module = MtclModule(encoder={"name": str(tiny_model)}, evaluate_base=False)  # type: ignore[arg-type]
    stop = EarlyStopping("val_own", mode="max")
    keep = ModelCheckpoint(tmp_path, monitor="train/loss", save_top_k=1)
    options = {"max_steps": 6, "val_check_interval": 3, "log_every_n_steps": 4, "enable_checkpointing": True}
    trainer = quiet_trainer(**options, callbacks=[Own(), stop, keep])
    trainer.fit(module, _data(demo_root, cache))
    found = trainer.callback_metrics
    assert found["train/loss"] == pytest.approx(found["train_loss/search"])
    assert {tag for tag in found if tag.startswith(("train", "throughput"))} >= {
        metrics.TRAIN_LOSS,
        "train_accuracy/search",
    }
    assert keep.best_model_score is not None
    module = MtclModule(encoder={"name": str(tiny_model)}, evaluate_base=False)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="EarlyStopping monitors 'val_own', which the run does not log"):
        quiet_trainer(**options, callbacks=[EarlyStopping("val_own")]).fit(module, _data(demo_root, cache))


def test_progress_in_a_log_file(
    demo_root: Path,
    cache: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Lines between validations, at most one per interval after the first step, and none on a terminal. The clock
    advances 5 s per look.
    """
    monkeypatch.setattr(logging.getLogger("mtcl"), "propagate", True)
    caplog.set_level(logging.INFO, "mtcl")

    def lines(*, on_terminal: bool) -> list[str]:
        ticks = iter(range(0, 10_000, 5))
        clock = SimpleNamespace(monotonic=lambda: float(next(ticks)))
        screen = SimpleNamespace(stderr=SimpleNamespace(isatty=lambda: on_terminal))
        monkeypatch.setattr("mtcl.training.callbacks.progress_lines.time", clock)
        monkeypatch.setattr("mtcl.training.callbacks.progress_lines.sys", screen)
        caplog.clear()
        module = MtclModule(encoder={"name": str(tiny_model)}, evaluate_base=False)  # type: ignore[arg-type]
        quiet_trainer(max_steps=6, limit_val_batches=0, log_every_n_steps=1, callbacks=[ProgressLines(every_s=10)]).fit(
            module, _data(demo_root, cache)
        )
        return [line for line in caplog.messages if "steps/s" in line]

    found = lines(on_terminal=False)
    assert [line.split(":")[0] for line in found] == ["step 3 of 6", "step 5 of 6"]
    assert re.fullmatch(r"step 3 of 6: loss \d\.\d{4}, 0\.20 steps/s, 15 s left", found[0])
    assert lines(on_terminal=True) == []


def test_a_lambda_callback_is_for_python(demo_root: Path, cache: Path, tiny_model: Path) -> None:
    steps: list[int] = []
    own = LambdaCallback(on_train_batch_end=lambda trainer, *_: steps.append(trainer.global_step))
    module = MtclModule(encoder={"name": str(tiny_model)}, evaluate_base=False)  # type: ignore[arg-type]
    quiet_trainer(max_steps=2, limit_val_batches=0, callbacks=[own]).fit(module, _data(demo_root, cache))
    assert steps == [1, 2]


def test_a_lambda_callback_may_log_values_of_its_own(demo_root: Path, cache: Path, tiny_model: Path) -> None:
    own = LambdaCallback(on_validation_epoch_end=lambda _, module: module.log("val_own", 1.0))
    stop = EarlyStopping("val_own", check_on_train_epoch_end=False)
    module = MtclModule(encoder={"name": str(tiny_model)}, evaluate_base=False)  # type: ignore[arg-type]
    trainer = quiet_trainer(max_steps=2, val_check_interval=2, callbacks=[own, stop])
    trainer.fit(module, _data(demo_root, cache))
    assert float(stop.best_score) == 1
