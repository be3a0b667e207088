"""A run's recipe: the settings that change what the weights become, but not whether a checkpoint fits.

A resumed run may have another recipe, and says so. `facts.py` has the settings that must be equal.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from lightning.pytorch.callbacks import WeightAveraging

from mtcl.training.keep import KeepConfig
from mtcl.training.optimizer import OptimizerConfig
from mtcl.training.run import Run

OF_TRAINER = ("precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm")
OF_TASKS = ("loss_weight", "hard_negatives")
OF_OPTIMIZER = ("decay", "warmup_steps")


def recipe_of(run: Run, optimizer: OptimizerConfig, keep: KeepConfig | None) -> dict[str, Any]:
    """The settings by their keys in a configuration, as plain values."""
    model, tasks = run.model, run.data.task_configs
    losses = {f"tasks.{name}.loss": model.loss_of(name).words for name in model.losses}
    of_tasks = {f"tasks.{name}.{key}": getattr(tasks[name], key) for name in model.losses for key in OF_TASKS}
    callbacks: list[Any] = run.trainer.callbacks  # type: ignore[attr-defined]
    averaging = next((one for one in callbacks if isinstance(one, WeightAveraging)), None)
    return losses | {
        **of_tasks,
        "model.encoder.dropout": model.config.dropout,
        "model.weighting": model.weighting.words,
        "model.keep.strength": None if keep is None else keep.strength,
        "model.keep.share": None if keep is None else keep.share,
        "averaging.decay": getattr(getattr(averaging, "config", None), "decay", None),
        **{f"model.optimizer.{name}": getattr(optimizer, name) for name in OF_OPTIMIZER},
        **{f"trainer.{name}": plain_option(run.trainer, name) for name in OF_TRAINER},
    }


def changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The settings that differ from those in a checkpoint, one phrase each; earlier versions recorded none."""
    both = [name for name in now if name in before]
    return [f"{n}: {before[n]!s:.200} in the checkpoint, {now[n]} now" for n in both if before[n] != now[n]]


def plain_option(trainer: Any, name: str) -> Any:
    """An option of the Trainer; Lightning keeps some names as an enum, which neither YAML nor a checkpoint can hold."""
    value = getattr(trainer, name, None)
    return str(value.value) if isinstance(value, Enum) and isinstance(value, str) else value
