"""Which steps show the gradient cosines of two tasks, and what is said of options that compare the tasks of a step.

python -m pytest tests/test_gradients_of_tasks.py
"""

from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers.logger import DummyLogger

from mtcl import GradientWeighting, MtclDataModule, MtclModule
from mtcl.training.metrics import cosine_tag
from tests.conftest import quiet_trainer

FOUR = ("search", "interest", "hashtag", "storyline")
Shown = list[tuple[str, int]]


class Kept(DummyLogger):
    """Keeps the tag and step of each gradient cosine."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: Shown = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:  # type: ignore[override]
        self.shown += [(tag, step) for tag in metrics if "gradient_cosine" in tag]


@pytest.fixture(autouse=True)
def folder(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MTCL_CACHE", str(cache))


def data_of(root: Path, tasks: tuple[str, ...] = FOUR, **options: Any) -> MtclDataModule:
    given: dict[str, Any] = {"batch_size": 8, "max_length": 24, "num_workers": 0, "alpha": 0.0}
    return MtclDataModule(root=str(root), tasks={name: {} for name in tasks}, **given | options)


def module_of(model: Path, **options: Any) -> MtclModule:
    return MtclModule(encoder={"name": str(model), "dim": 16}, evaluate_base=False, **options)


def trainer_of(logger: Logger | bool = False, **options: Any) -> Any:
    return quiet_trainer(logger=logger, limit_val_batches=0, log_every_n_steps=0, **options)


def cosines_of(module: MtclModule, data: MtclDataModule, *, from_: str | None = None, **options: Any) -> Shown:
    kept = Kept()
    trainer = trainer_of(kept, **options)
    trainer.fit(module, data, ckpt_path=from_)
    trainer.save_checkpoint("last.ckpt")
    return kept.shown


def test_every_pair_of_tasks_that_meet_is_shown(tiny_model: Path, demo_root: Path) -> None:
    """Two of four tasks per step: a fixed stride would show one pair only."""
    data = data_of(demo_root, tasks_per_step=2)
    shown = cosines_of(module_of(tiny_model, gradient_cosines_every_n_steps=4), data, max_steps=9)
    names = list(data.tasks)
    met = [frozenset(names[draw.task] for draw in data.plan.draws(step)) for step in range(9)]
    tags = {frozenset(pair): cosine_tag(*pair) for pair in combinations(names, 2)}
    assert {tag for tag, _ in shown} == {tags[pair] for pair in met}
    assert len({tag for tag, _ in shown}) > 1
    for pair in {*met}:
        steps = [step for tag, step in shown if tag == tags[pair]]
        assert steps[0] == met.index(pair)
        assert all(later - earlier >= 4 for earlier, later in pairwise(steps))


def test_one_value_per_optimizer_step(tiny_model: Path, demo_root: Path) -> None:
    data = data_of(demo_root, FOUR[:2])
    module = module_of(tiny_model, gradient_cosines_every_n_steps=2)
    (tag,) = (cosine_tag(*pair) for pair in combinations(FOUR[:2], 2))
    assert cosines_of(module, data, max_steps=5, accumulate_grad_batches=3) == [(tag, 0), (tag, 2), (tag, 4)]
    assert cosines_of(module, data, max_steps=1) == [(tag, 0)]  # a second run begins again


def test_turns_are_resumed(tiny_model: Path, demo_root: Path) -> None:
    options = {"gradient_cosines_every_n_steps": 3}
    whole = cosines_of(module_of(tiny_model, **options), data_of(demo_root, tasks_per_step=3), max_steps=8)
    first = cosines_of(module_of(tiny_model, **options), data_of(demo_root, tasks_per_step=3), max_steps=4)
    second = cosines_of(
        module_of(tiny_model, **options), data_of(demo_root, tasks_per_step=3), from_="last.ckpt", max_steps=8
    )
    assert first + second == whole


@pytest.mark.parametrize("cosines", [False, True])
def test_an_option_that_compares_tasks_is_told_if_there_is_one(
    cosines: bool, tiny_model: Path, demo_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if not cosines:
        pytest.importorskip("torchjd", reason="needs the extra `weighting`")
    for data, why in (
        (data_of(demo_root, FOUR[:2], tasks_per_step=1), "data.tasks_per_step is 1: it has no effect"),
        (data_of(demo_root, FOUR[:1]), "'search' is the only task: it has no effect"),
        (data_of(demo_root, FOUR[:2]), None),
    ):
        caplog.clear()
        options = {"gradient_cosines_every_n_steps": 1} if cosines else {"weighting": GradientWeighting("mgda")}
        module = module_of(tiny_model, **options)
        trainer_of(max_steps=3).fit(module, data)
        found = [message for message in caplog.messages if "compares the tasks of a step" in message]
        assert len(found) == (why is not None)
        assert all(message.startswith(f"model.{next(iter(options))} is ") and str(why) in message for message in found)
