"""A run's recipe: the settings that change what the weights become, but not whether a checkpoint fits.

A resumed run may have another recipe, and says so. `facts.py` has the settings that must be equal.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from mtcl.training.optimizer import OptimizerConfig
from mtcl.training.run import Run

OF_TRAINER = ("precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm")
OF_OPTIMIZER = ("decay", "warmup_steps")


def recipe_of(run: Run, optimizer: OptimizerConfig, *, keep_strength: float | None) -> dict[str, Any]:
    """The settings by their keys in a configuration, as plain values."""
    model = run.model
    losses = {f"tasks.{name}.loss": model.loss_of(name).words for name in model.losses}
    return losses | {
        "model.encoder.dropout": model.config.dropout,
        "model.weighting": model.weighting.words,
        "model.keep.strength": keep_strength,
        **{f"model.optimizer.{name}": getattr(optimizer, name) for name in OF_OPTIMIZER},
        **{f"trainer.{name}": plain_option(run.trainer, name) for name in OF_TRAINER},
    }


def changed(saved: object, now: dict[str, Any]) -> list[str]:
    """The settings that differ from those in a checkpoint, one phrase each; earlier versions recorded none."""
    before = saved if isinstance(saved, dict) else {}
    both = [name for name in now if name in before]
    return [f"{n}: {before[n]!s:.200} in the checkpoint, {now[n]} now" for n in both if before[n] != now[n]]


def plain_option(trainer: Any, name: str) -> Any:
    """An option of the Trainer; Lightning keeps some names as an enum, which neither YAML nor a checkpoint can hold."""
    value = getattr(trainer, name, None)
    return str(value.value) if isinstance(value, Enum) and isinstance(value, str) else value
