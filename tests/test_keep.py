"""Keeping an encoder near its start: the distance, how it is estimated, and exact resume.

python -m pytest tests/test_keep.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtcl import ConfigError, MtclDataModule, MtclModule, TaskConfig
from mtcl.data.batch import StepBatch
from mtcl.data.rows import TaskData
from mtcl.data.steps import StepDataset
from mtcl.training.keep import SAVED, KeepConfig
from mtcl.training.metrics import DISTANCE
from tests.conftest import Run, quiet_trainer
from tests.test_resume import options, weights

TASKS = {"search": TaskConfig(hard_negatives=0), "interest": TaskConfig()}


@pytest.fixture
def data(demo_root: Path, cache: Path) -> MtclDataModule:
    return MtclDataModule(
        root=str(demo_root), cache=str(cache), tasks=TASKS, batch_size=8, max_length=24, num_workers=0
    )


def module_of(model: Path, keep: Any, **encoder: Any) -> MtclModule:
    given = {"name": str(model), "dim": 16, "dropout": 0.0, **encoder}
    return MtclModule(encoder=given, optimizer={"lr": 1e-3}, keep=keep, evaluate_base=False)


def dataset(data: MtclDataModule, *, share: float, rank: int = 0, world: int = 1) -> StepDataset:
    tasks = [TaskData(data.store(name, "train")) for name in data.tasks]
    return StepDataset(data.plan, tasks, rank=rank, world=world, keep_share=share)


def estimate(batch: StepBatch, values_T: np.ndarray) -> float:
    assert batch.kept is not None
    return float((values_T[batch.kept.places_K.numpy()] * batch.kept.weights_K.numpy()).sum())


def values_of(batch: StepBatch) -> np.ndarray:
    """A number that depends on the text's tokens only."""
    rows = [chunk.ids * chunk.mask for chunk in batch.texts.chunks]
    sums = torch.cat([(row * torch.arange(1, row.shape[1] + 1)).sum(dim=1) for row in rows])
    return (sums[batch.texts.place_T] % 97).double().numpy()


@pytest.fixture
def opened(data: MtclDataModule, tiny_model: Path) -> MtclDataModule:
    quiet_trainer(max_steps=1).fit(module_of(tiny_model, None), data)
    return data


def test_all_texts_give_the_mean_over_rows(opened: MtclDataModule) -> None:
    batch = dataset(opened, share=1.0)[0]
    values_T = values_of(batch)
    rows = torch.cat([column.texts_N for part in batch.parts for column in part.columns]).numpy()
    assert estimate(batch, values_T) == pytest.approx(values_T[rows].mean())
    assert batch.kept is not None
    assert batch.kept.texts.num_tokens == batch.texts.num_tokens
    assert dataset(opened, share=0.0)[0].kept is None


def test_a_share_of_the_texts_gives_it_without_bias(opened: MtclDataModule) -> None:
    all_of, some_of = dataset(opened, share=1.0), dataset(opened, share=0.25)
    pairs = [(all_of[step], some_of[step]) for step in range(300)]
    wanted = np.array([estimate(one, values_of(one)) for one, _ in pairs])
    found = np.array([estimate(some, values_of(some)) for _, some in pairs])
    drawn = sum(len(some.kept.places_K) for _, some in pairs) / sum(len(one.kept.places_K) for one, _ in pairs)
    assert drawn == pytest.approx(0.25, abs=0.02)
    error = (found - wanted).std() / np.sqrt(len(found))
    assert abs(found.mean() - wanted.mean()) < 4 * error


def test_the_mean_over_ranks_is_that_of_one_process(opened: MtclDataModule) -> None:
    for step in range(8):
        one = dataset(opened, share=0.3)[step]
        ranks = [dataset(opened, share=0.3, rank=rank, world=2)[step] for rank in range(2)]
        parts = [estimate(batch, values_of(batch)) for batch in ranks]
        assert np.mean(parts) == pytest.approx(estimate(one, values_of(one)))


def shown(folder: Path, tag: str = DISTANCE) -> list[float]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [event.value for event in events.Scalars(tag)] if tag in events.Tags()["scalars"] else []


@pytest.mark.parametrize("more", [{}, {"train": "lora"}, {"train": "head"}, {"dim": None}], ids=str)
def test_the_start_is_the_first_step(data: MtclDataModule, tiny_model: Path, more: dict[str, Any]) -> None:
    """Whatever trains: no distance before the first update, and some after it."""
    if more.get("train") == "lora":
        pytest.importorskip("peft")
    found: list[float] = []
    module = module_of(tiny_model, {"share": 1.0}, **more)
    assert module.keep is not None
    distance = module.keep.distance

    def noted(batch: StepBatch, vectors_TD: torch.Tensor) -> torch.Tensor:
        value = distance(batch, vectors_TD)
        found.append(value.item())
        return value

    module.keep.distance = noted  # type: ignore[method-assign]
    quiet_trainer(max_steps=3).fit(module, data)
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert found[1] > 1e-7


def test_it_stays_near(tiny_model: Path, demo_root: Path, mtcl_command: Run, tmp_path: Path) -> None:
    """The stronger, the nearer; without the key, nothing is measured, and the command line takes it."""
    last = []
    for run, keep in (("off", None), ("weak", "{strength: 0.0, share: 1}"), ("strong", "{strength: 100, share: 0.5}")):
        changed = {"trainer.max_steps": 20, "trainer.val_check_interval": 20, "data.num_workers": 0}
        changed |= {} if keep is None else {"model.keep": keep}
        done = mtcl_command("fit", "--no_base", *options(tiny_model, demo_root, run, **changed))
        assert done.returncode == 0, done.stderr
        last.append(shown(tmp_path / "runs" / run))
    off, weak, strong = last
    assert off == []
    assert len(weak) == len(strong) == 20
    assert np.mean(strong[-5:]) < np.mean(weak[-5:]) / 2
    for name, value in weights(tmp_path / "runs" / "off").items():
        assert torch.equal(value, weights(tmp_path / "runs" / "weak")[name]), name


def test_resumed_from_a_start_that_is_not_the_base(
    trained_run: Path, demo_root: Path, mtcl_command: Run, tmp_path: Path
) -> None:
    """The starting weights are in the checkpoint: the file that the run started from is not needed again."""
    common = ["--init_from", str(trained_run), "--model.encoder.dim", "16", "--data.root", str(demo_root)]
    common += ["--tasks.hashtag.weight", "1", "--data.batch_size", "8", "--data.num_workers", "0", "--no_base"]
    common += ["--model.keep.strength", "5", "--model.optimizer.lr", "1e-3", "--checkpoint_every_n_steps", "3"]
    common += ["--trainer.precision", "32-true", "--model.encoder.name", str(_base(trained_run))]
    common += ["--model.optimizer.decay", "constant", "--trainer.enable_progress_bar", "false"]
    common += ["--trainer.val_check_interval", "3"]
    assert mtcl_command("fit", *common, "--trainer.max_steps", "6", "--run_dir", "whole").returncode == 0
    assert mtcl_command("fit", *common, "--trainer.max_steps", "3", "--run_dir", "half").returncode == 0
    assert SAVED in torch.load(tmp_path / "half/checkpoints/last.ckpt", weights_only=True)
    done = mtcl_command("fit", "--resume", "half", "--trainer.max_steps", "6")
    assert done.returncode == 0, done.stderr
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(value, weights(tmp_path / "half")[name]), name


def _base(run: Path) -> str:
    from mtcl import TextEncoder

    return TextEncoder.load(run).facts.base


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        ({"strength": -1.0}, "model.keep.strength is -1.0: give 0 or more"),
        ({"share": 0.0}, "model.keep.share is 0.0: give more than 0"),
        ({"share": 2.0}, "model.keep.share is 2.0"),
        ({"strong": 1.0}, "keep has an unknown name 'strong'; did you mean 'strength'"),
    ],
)
def test_wrong_values(tiny_model: Path, keep: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        module_of(tiny_model, keep)


def test_defaults() -> None:
    assert KeepConfig() == KeepConfig(strength=1.0, share=1 / 32)
