"""Checks and counts the parameters that a run trains before its first step, and describes how the encoder is used."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict

import numpy as np
from torch import nn

from mtcl.distributed import world
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.layers import layers_of
from mtcl.encoder.lora_state import A
from mtcl.errors import ConfigError
from mtcl.task.prompt import NO_PROMPT, Prompt
from mtcl.training.datamodule import MtclDataModule
from mtcl.training.model import Model
from mtcl.training.optimizer import OptimizerConfig
from mtcl.training.stores import Stores
from mtcl.weighting import GradientWeighting

log = logging.getLogger("mtcl")


def check(model: Model, data: MtclDataModule, optimizer: OptimizerConfig, *, shows_cosines: bool) -> None:
    """Raise `ConfigError` if nothing trains in a task, or if a task or option needs more of the encoder to train, and
    warn of options without effect.

    `shows_cosines` says whether gradient cosines are logged.
    """
    train = model.config.train
    if train == "head" and not _count(model.encoder) and not model.heads:
        raise ConfigError(
            "model.encoder.train is head, but the encoder has no head: give model.encoder.dim or tasks.NAME.head"
        )
    for name in model.tasks if not _count(model.encoder) and not _count(model.weighting) else ():
        if name not in model.heads and not _count(model.losses[name]):
            if frozen := model.config.freeze_layers:
                raise ConfigError(
                    f"model.encoder.freeze_layers is {frozen}, which is every layer, so nothing trains in task "
                    f"{name!r}: give at most {frozen - 1}"
                )
            raise ConfigError(
                f"model.encoder.train is {train}, and nothing trains in task {name!r}: give tasks.{name}.head, "
                "model.encoder.dim with train: head, train: lora or all, or a loss with parameters"
            )
    for option, is_set in (
        ("weighting is GradientWeighting", isinstance(model.weighting, GradientWeighting)),
        ("gradient_cosines_every_n_steps is set", shows_cosines),
    ):
        if is_set and not model.encoder.last_shared():
            raise ConfigError(
                f"model.{option}, but no parameter that the tasks share trains: give model.encoder.train: head, lora "
                "or all, or leave it out"
            )
        if is_set and (why := _one_at_a_time(data)) and world()[0] == 0:
            log.warning("model.%s, but it compares the tasks of a step, and %s", option, why)
    for name in model.tasks if model.encoder.is_frozen else ():
        store = data.store(name, "train")
        is_itself = np.asarray(store.pairs.anchors) == np.asarray(store.pairs.positives)
        if store.pairs.groups is None and is_itself.any():  # partners in groups are drawn
            raise ConfigError(
                f"task {name!r} pairs a text with itself under two dropout masks, but model.encoder.train is {train}, "
                "without dropout: give train: all or lora, or leave the task out"
            )

    for line in _without_effect(model, optimizer) if world()[0] == 0 else ():
        log.warning("%s", line)


def _without_effect(model: Model, optimizer: OptimizerConfig) -> Iterator[str]:
    """A line for each option that is set, but changes nothing."""
    encoder, config = model.encoder, model.config
    changed = {name: value for name, value in asdict(optimizer).items() if value != getattr(OptimizerConfig, name)}
    if config.projection != EncoderConfig.projection and config.dim is None:
        yield f"model.encoder.projection is {config.projection!r}, but dim is null: it has no effect, leave it out"
    idle = [] if _count(encoder.backbone) else ["layer_decay"]
    idle += [] if _count(encoder.backbone) or _count(encoder.dense) else ["lr"]
    for name in (name for name in idle if name in changed):
        yield (
            f"model.optimizer.{name} is {changed[name]:g}, but the encoder's own weights do not train: it has no "
            f"effect (the rate of what trains is head_lr, {optimizer.head_lr:g})"
        )
    if "head_lr" in changed and not any(map(_count, (model.losses, model.weighting, model.heads, encoder.projection))):
        yield (
            f"model.optimizer.head_lr is {optimizer.head_lr:g}, but only the encoder's own weights train: it has no "
            f"effect (their rate is lr, {optimizer.lr:g})"
        )


def _one_at_a_time(data: MtclDataModule) -> str:
    """Why no step has two tasks, with what to do; empty if some have."""
    if len(data.tasks) == 1:
        return f"{next(iter(data.tasks))!r} is the only task: it has no effect, leave it out"
    if data.plan.num_slots == 1:
        return "data.tasks_per_step is 1: it has no effect, leave it out or give 2 or more tasks per step"
    return ""


def summary(model: Model) -> str:
    """One line: `training 0.3 M of 22.7 M parameters (LoRA r 16 on 36 layers, projection)`."""
    parts = [model.encoder, model.losses, model.weighting, model.heads]
    own = [p for part in parts for p in part.parameters()]
    total = sum(p.numel() for p in own)
    return f"training {_words(sum(map(_count, parts)))} of {_words(total)} parameters ({', '.join(_parts(model))})"


def use_of_encoder(model: Model, stores: Stores) -> str:
    """One line: how the encoder is used, with the declared value next to each changed setting."""
    encoder, config, declared = model.encoder, model.config, model.encoder.declared
    max_length, prompt = stores.default_length, stores.default_prompt
    has_layers = any(layer.kind != "Normalize" for layer in declared.layers)

    def beside(now: object, before: object) -> str:
        return "" if before is None or now == before else f" (declared: {before})"

    def words(one: Prompt) -> str:
        return f"{one.query!r} before queries, {one.document!r} before documents" if one.differs else repr(one.query)

    parts = [
        f"{encoder.pooling} pooling{beside(encoder.pooling, '+'.join(declared.pooling))}",
        f"{encoder.dim} dimensions",
        f"texts of up to {max_length} tokens{beside(max_length, declared.max_length)}",
    ]
    if has_layers:
        parts.insert(1, "its own layers after it" if config.dense else "without its own layers after it")
    if prompt != NO_PROMPT or declared.prompt != NO_PROMPT:
        parts.append(f"prompt {words(prompt)}{beside(words(prompt), words(declared.prompt))}")
    return f"encoder {config.name}: {', '.join(parts)}"


def _parts(model: Model) -> list[str]:
    config, encoder = model.config, model.encoder
    found = []
    if config.adapter is not None:
        adapted = sum(name.endswith(A) for name, _ in encoder.backbone.named_parameters())
        found.append(f"LoRA r {config.adapter.r} on {adapted} layers")
    elif config.freeze_layers:
        num_layers = len(layers_of(encoder.backbone).stack)
        found.append(f"the upper {num_layers - config.freeze_layers} of {num_layers} layers")
    elif not encoder.is_frozen:
        found.append("all layers")
    found += ["dense layers"] * bool(_count(encoder.dense))
    found += ["projection"] * bool(_count(encoder.projection))
    found += [f"{len(model.heads)} task head{'s' if len(model.heads) > 1 else ''}"] * bool(model.heads)
    found += ["losses"] * bool(_count(model.losses))
    found += ["weighting"] * bool(_count(model.weighting))
    return found


def _count(module: nn.Module | None) -> int:
    """The number of parameters that train."""
    return 0 if module is None else sum(p.numel() for p in _trained(module.parameters()))


def _trained(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [p for p in parameters if p.requires_grad]


def _words(count: int) -> str:
    """A number in millions, or below 50,000 in full."""
    return f"{count / 1e6:.1f} M" if count >= 50_000 else f"{count:,}"
