"""What a checkpoint says about the run that wrote it.

With it, a checkpoint of any Trainer can be loaded, resumed and exported like one of `mtcl fit`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import yaml

from mtcl.encoder.run_record import RunRecord, TaskRecord
from mtcl.records.version import __version__
from mtcl.training.datamodule import MtclDataModule
from mtcl.training.facts import facts_of
from mtcl.training.recipe import plain_option
from mtcl.training.run import Run

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


def record_of(run: Run, *, config: str, recipe: dict[str, Any]) -> RunRecord:
    """The run's record for a checkpoint, with this configuration and recipe."""
    data = run.data
    return RunRecord(
        config=config,
        base=run.base_figures,
        start=run.start_figures,
        history=run.history,
        cosines_at=run.cosines_at,
        facts=facts_of(run),
        recipe=recipe,
        tasks={name: _task_record(run, name) for name in data.evaluated},
        prompt=data.stores.default_prompt.plain(),
        max_length=data.stores.default_length,
        tokenizer=data.stores.tokenizer.probe,
        trained_before=sorted(run.trained_before),
        version=__version__,
    )


def _task_record(run: Run, name: str) -> TaskRecord:
    data, model = run.data, run.model
    task, loss = data.evaluated[name], model.loss_of(name) if name in model.losses else None
    return TaskRecord(
        prompt=data.stores.prompt_of(name).plain(),
        max_length=data.stores.length_of(name),
        about=" ".join((inspect.getdoc(type(task)) or "").split()),
        owner=task.owner,
        license=task.license,
        loss=loss.words if loss is not None else "",
        metric=task.metric.name,
    )


def config_text(options: Mapping[str, Any], run: Run) -> str:
    """The configuration of a run without a configuration file (in a notebook), as YAML of plain values.

    `options` are those of the run's module.
    """
    data, trainer = run.data, run.trainer
    config = {
        "seed_everything": data.seed,
        "tasks": {name: task.described() for name, task in data.task_configs.items()},
        "model": dict(options),
        "data": _data(data),
        "trainer": {name: value for name in PLAIN_OF_TRAINER if _is_plain(value := plain_option(trainer, name))},
    }
    return str(yaml.safe_dump(config, sort_keys=False))


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
