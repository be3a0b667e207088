"""The run that `mtcl tasks check` and `mtcl tasks batch` look at: a configured one, or a run of one task alone."""

from __future__ import annotations

import argparse
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mtcl.errors import ConfigError, nearest

if TYPE_CHECKING:
    from mtcl.losses import Loss
    from mtcl.training.datamodule import MtclDataModule


@dataclass(frozen=True)
class RunOfTask:
    """The data of a run with the task `name`, the task's configured loss, and those arguments of the run's `MtclModule`
    that matter for a single task.
    """

    data: MtclDataModule
    name: str
    given_loss: Any
    model: dict[str, Any]

    def loss(self) -> Loss | None:
        """The task's loss; None if only a run itself can make it. Raises `ConfigError` for wrong arguments."""
        import mtcl.losses as losses
        from mtcl.configuration.from_checkpoint import made, own_class
        from mtcl.task.contract import kind_of

        if self.given_loss is None:
            return losses.default_loss(kind_of(self.data.evaluated[self.name]))
        try:
            found: Loss | None = made(own_class(self.given_loss, losses))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"tasks.{self.name}.loss: {error}") from error
        return found


def run_of(options: argparse.Namespace, *, batch_size: int | None = None, alone: bool = False) -> RunOfTask:
    """The configured run; with `alone`, without its other tasks. If none is configured, a run of this task alone with
    `batch_size` pairs per batch.
    """
    from mtcl.configuration.yaml_files import load
    from mtcl.training.datamodule import MtclDataModule

    default = {} if batch_size is None else {"data": {"batch_size": batch_size}}
    config: dict[str, Any] = load(options.config) if options.config else default
    tasks = {name: {**(task or {}), "loss": None} for name, task in (config.get("tasks") or {}).items()}
    given = {name: getattr(options, name) for name in ("root", "tasks_dir", "batch_size", "max_length")}
    settings = {**(config.get("data") or {}), **{name: value for name, value in given.items() if value is not None}}
    encoder = dict((config.get("model") or {}).get("encoder") or {}) | (
        {"name": options.model} if options.model else {}
    )
    if options.config and options.name not in tasks:
        raise ConfigError(f"the configuration has no task {options.name!r}{nearest(options.name, tasks)}")
    seed = config.get("seed_everything", 1)
    if unknown := set(settings) - set(inspect.signature(MtclDataModule).parameters):
        raise ConfigError(f"unknown key 'data.{min(unknown)}'")
    if alone:
        tasks = {name: task for name, task in tasks.items() if name == options.name}
        settings = {key: value for key, value in settings.items() if key not in ("held_out", "replay")}
    named = ((config.get("tasks") or {}).get(options.name) or {}).get("loss")
    data = MtclDataModule(**{"tasks": tasks or {options.name: {}}, "encoder": encoder, "seed": seed, **settings})
    of_model = config.get("model") or {}
    model = {key: of_model[key] for key in ("activation_checkpointing", "optimizer") if key in of_model}
    return RunOfTask(data, options.name, named, {"encoder": encoder, **model})
