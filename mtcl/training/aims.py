"""The settings that change what a run's weights become, but not whether a checkpoint fits.

A resumed run may have other values of them, and says so. `facts.py` has the settings that must be equal.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtcl.training.module import MtclModule

OF_TRAINER = ("precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm")
OF_OPTIMIZER = ("decay", "warmup_steps")


def aims_of(module: MtclModule) -> dict[str, Any]:
    """The settings by their keys in a configuration, as plain values."""
    trainer, keep = module.trainer, module.keep
    losses = {f"tasks.{name}.loss": module.parts.loss_of(name).words for name in module.losses}
    return losses | {
        "model.encoder.dropout": module.encoder_config.dropout,
        "model.weighting": module.weighting.words,
        "model.keep.strength": keep and keep.config.strength,
        **{f"model.optimizer.{name}": getattr(module.optimizer_config, name) for name in OF_OPTIMIZER},
        **{f"trainer.{name}": plain_option(trainer, name) for name in OF_TRAINER},
    }


def changed_aims(saved: object, now: dict[str, Any]) -> list[str]:
    """The settings that differ from those in a checkpoint, one phrase each; earlier versions recorded none."""
    before = saved if isinstance(saved, dict) else {}
    both = [name for name in now if name in before]
    return [f"{n}: {before[n]!s:.200} in the checkpoint, {now[n]} now" for n in both if before[n] != now[n]]


def plain_option(trainer: Any, name: str) -> Any:
    """An option of the Trainer; Lightning keeps some names as an enum, which neither YAML nor a checkpoint can hold."""
    value = getattr(trainer, name, None)
    return str(value.value) if isinstance(value, Enum) and isinstance(value, str) else value
