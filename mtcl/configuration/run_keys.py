"""The keys of a run's configuration: Lightning's trainer, mtcl's module and data, and a few of the command line."""

from __future__ import annotations

from functools import cache

from lightning.pytorch import Trainer

from mtcl.configuration.keys import Section, section_of
from mtcl.training.board.names import Level
from mtcl.training.callbacks import AveragingConfig
from mtcl.training.datamodule import MtclDataModule
from mtcl.training.module import MtclModule
from mtcl.training.task_config import TaskConfig

SET_BY = {
    "data.tasks": "tasks",
    "data.encoder": "model.encoder",
    "data.seed": "seed_everything",
    "optimizer": "model.optimizer.*, such as model.optimizer.lr",
    "lr_scheduler": "model.optimizer.*, such as model.optimizer.decay",
}
"""Keys of the parser that users do not set: linked keys, and two of Lightning's that mtcl replaces."""


@cache
def run_keys() -> Section:
    """Every key that users can set, with its type."""
    keys = {
        "seed_everything": bool | int,
        "tasks": dict[str, TaskConfig],
        "trainer": section_of(Trainer),
        "model": _given("model", section_of(MtclModule)),
        "data": _given("data", section_of(MtclDataModule)),
        "checkpoint_every_n_steps": int,
        "averaging": AveragingConfig | None,
        "board": Level | None,
    }
    return Section(keys, set_by={key: by for key, by in SET_BY.items() if "." not in key})


def _given(name: str, section: Section) -> Section:
    """A section without the keys that are derived from others."""
    set_by = {key.partition(".")[2]: by for key, by in SET_BY.items() if key.startswith(f"{name}.")}
    return Section({k: v for k, v in section.keys.items() if k not in set_by}, section.required - set_by.keys(), set_by)
