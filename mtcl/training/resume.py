"""How a run begins, what it must share with the checkpoint it goes on from, and what it means to go on otherwise.

A checkpoint holds the facts that decide the pairs of each step and what their loss is of: each task's pairs, version
and data, the encoder, the mixture. A resumed run compares them with its own. One change is none: fewer sub-batches a
step and as many more steps accumulated make the same optimizer steps. Where the user accepts a difference, the run goes
on behind the pairs that were handed out, or at the same step where the tasks are others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder
from mtcl.errors import ConfigError
from mtcl.training.datamodule import MtclDataModule

Facts = dict[str, Any]
"""Plain values by name, in nested dicts: a checkpoint is read without executing anything."""
SHOWN = 4
ANEW = "--init_from in the place of --resume starts anew from the weights"


@dataclass
class Beginning:
    """How a run begins; set by who starts it, before `setup`."""

    config_text: str = ""
    """The run's whole configuration as YAML: kept in every checkpoint."""
    with_base: bool = True
    """Whether `fit` evaluates the base encoder first, to compare with."""
    allow_changes: bool = False
    """Whether to go on from a checkpoint of another run."""
    has_weights: bool = False
    """Whether weights were loaded, so that the projection is not started anew."""
    trained_before: set[str] = field(default_factory=set)
    """Tasks that those weights had seen."""


def facts_of(data: MtclDataModule, encoder: EncoderConfig, *, weights: str, accumulate: int) -> Facts:
    """The facts of a run. `weights` is the digest of the base encoder's; the stores of `data` must be open."""
    mixture = asdict(data.plan)
    del mixture["tasks_per_step"]
    tasks = {task.pop("name"): task for task in mixture.pop("tasks")}
    for name, task in tasks.items():
        task["schedule"] = [[step * data.plan.num_slots, weight] for step, weight in task["schedule"]]
        task["max_length"] = data.length_of(name)
        task["version"] = data.tasks[name].version
        task |= {"prompt": prompt} if (prompt := data.prompt_of(name)) else {}
        task["data"] = data.store(name, "train").folder.name.rpartition("-")[2]
    return {
        "model.encoder": {
            "name": encoder.name,
            "revision": encoder.revision,
            "weights": weights,
            "pooling": encoder.pooling,
            "dim": encoder.dim,
        },
        "tasks": tasks,
        "order of tasks": list(tasks),
        "sub-batches an optimizer step": data.plan.num_slots * accumulate,
        **mixture,
    }


def check(saved: Facts, now: Facts, *, allow_changes: bool) -> list[str]:
    """The differences, a phrase each. Raises `ConfigError` if there are any, unless they are allowed."""
    changes = differences(saved, now)
    if changes and not allow_changes:
        what = f"cannot resume, the run is another one ({shown(changes)})"
        raise ConfigError(f"{what}: give --allow_changes to go on all the same; {ANEW}")
    return changes


def shown(changes: list[str]) -> str:
    """The first few phrases, and how many more there are."""
    return "; ".join(changes[:SHOWN]) + (f"; and {len(changes) - SHOWN} more" if len(changes) > SHOWN else "")


def differences(
    saved: Facts, now: Facts, prefix: str = "", *, sides: tuple[str, str] = ("in the checkpoint", "now")
) -> list[str]:
    """What differs, by dotted name; a branch that one side lacks is named once, and equal weights have one name."""
    if prefix == "model.encoder." and saved.get("weights") == now["weights"]:
        now = {**now, "name": saved.get("name"), "revision": saved.get("revision")}
    if set(saved.get("tasks", ())) != set(now.get("tasks", ())):
        saved, now = ({k: v for k, v in facts.items() if k != "order of tasks"} for facts in (saved, now))
    found: list[str] = []
    for key in dict.fromkeys([*saved, *now]):
        old, new, name = saved.get(key), now.get(key), f"{prefix}{key}"
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{name}.", sides=sides)
        elif key not in saved or key not in now:
            found.append(f"{name}: only {sides[key not in saved]}")
        elif old != new:
            found.append(f"{name}: {old} {sides[0]}, {new} {sides[1]}")
    return found


def check_never_trained(trained: Iterable[str], held_out: Iterable[str]) -> None:
    """Raise `ConfigError` if a task that is held out now is among those that a checkpoint was trained on."""
    if seen := set(trained) & set(held_out):
        raise ConfigError(f"data.held_out has {min(seen)!r}, which the checkpoint was trained on: leave it out")


def check_trained(saved: dict[str, Tensor], now: dict[str, Tensor]) -> None:
    """Raise `ConfigError` if other tensors are trained, of which the optimizer's state would know nothing."""
    shapes = [{name: tuple(value.shape) for name, value in state.items()} for state in (saved, now)]
    for name in dict.fromkeys([*now, *saved]):
        old, new = (shape.get(name, "absent") for shape in shapes)
        if old != new:
            raise ConfigError(f"cannot resume, {name} is {old} in the checkpoint and {new} now: {ANEW}")


def check_dim(saved: dict[str, Tensor], encoder: Encoder) -> None:
    """Raise `ConfigError` if saved weights are of an encoder with another projection than the configured one."""
    weight, now = saved.get("encoder.projection.weight"), encoder.projection
    sizes = [None if weight is None else len(weight), None if now is None else now.out_features]
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"the checkpoint has model.encoder.dim {sizes[0]}, the configuration {sizes[1]}: give the same"
        )
