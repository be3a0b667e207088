"""What a checkpoint says about the run that wrote it, as plain values; it makes any Trainer's checkpoint complete."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import yaml

from mtcl.training.aims import aims_of, plain_option
from mtcl.training.facts import facts_of
from mtcl.types import __version__
from mtcl.weighting import Mean

if TYPE_CHECKING:
    from mtcl.training.datamodule import MtclDataModule
    from mtcl.training.module import MtclModule

PLAIN_OF_TRAINER = (
    "max_steps",
    "val_check_interval",
    "check_val_every_n_epoch",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "log_every_n_steps",
    "num_sanity_val_steps",
    "precision",
)
"""Options of the Trainer that determine a run's results and are plain numbers or names."""


def record_of(module: MtclModule) -> dict[str, Any]:
    """The run's record for a checkpoint, as plain values; it makes any Trainer's checkpoint complete."""
    data = module.data
    return {
        "base": module.base.figures,
        "start": module.start_figures,
        "history": module.history,
        "facts": facts_of(module),
        "aims": aims_of(module),
        "tasks": {name: _about(module, name) for name in data.evaluated},
        "prompt": data.stores.default_prompt.plain(),
        "max_length": data.stores.default_length,
        "trained_before": sorted(module.trained_before),
        "version": __version__,
    }


def _about(module: MtclModule, name: str) -> dict[str, Any]:
    """How a task's texts are read, and what a model card says about the task."""
    data = module.data
    task, loss = data.evaluated[name], module.parts.loss_of(name) if name in module.losses else None
    return {
        "prompt": data.stores.prompt_of(name).plain(),
        "max_length": data.stores.length_of(name),
        "about": " ".join((inspect.getdoc(type(task)) or "").split()),
        "owner": task.owner,
        "license": task.license,
        "loss": loss.words if loss is not None else "",
        "metric": task.metric.name,
    }


def config_text(module: MtclModule) -> str:
    """The configuration of a run without a configuration file (in a notebook), as YAML of plain values."""
    data, trainer = module.data, module.trainer
    config = {
        "seed_everything": data.seed,
        "tasks": {name: task.described() for name, task in data.task_configs.items()},
        "model": _model(module),
        "data": _data(data),
        "trainer": {name: value for name in PLAIN_OF_TRAINER if _is_plain(value := plain_option(trainer, name))},
    }
    return str(yaml.safe_dump(config, sort_keys=False))


def _model(module: MtclModule) -> dict[str, Any]:
    return {
        "encoder": asdict(module.encoder_config),
        "optimizer": asdict(module.optimizer_config),
        "weighting": None if type(module.weighting) is Mean else module.weighting.described(),
        "gradient_cosines_every_n_steps": module.gradient_cosines_every_n_steps,
        "eval_dims": list(module.vectors.dims) or None,
        "eval_groups": module.vectors.groups,
        "activation_checkpointing": module.encoder.activation_checkpointing,
        "evaluate_base": module.evaluate_base,
        "evaluate_start": module.evaluate_start,
        "unseen_weight": module.selection.unseen_weight,
        "keep": None if module.keep is None else asdict(module.keep.config),
    }


def _data(data: MtclDataModule) -> dict[str, Any]:
    own = ("max_length", "allow_leaks", "num_workers", "start_method", "tasks_dir")
    return {
        "root": None if data.root is None else str(data.root),
        "prompt": None if data.prompt is None else data.prompt.plain(),
        **{name: getattr(data, name) for name in own},
        **asdict(data.mixture),
        "held_out": list(data.held_out) or None,
    }


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
