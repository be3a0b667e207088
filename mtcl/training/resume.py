"""Checks that a resumed run matches its checkpoint, and handles accepted differences.

A checkpoint contains the facts that determine each step's pairs and loss: each task's pairs, version and data, the
encoder, the mixture. A resumed run compares them with its own. One difference is ignored: fewer sub-batches per step
with correspondingly more accumulated steps give the same optimizer steps. If the user accepts a difference, the run
continues after the pairs that were handed out, or at the same step if its tasks differ.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

import yaml
from torch import Tensor

from mtcl.data.subset import Subset
from mtcl.distributed import together, world
from mtcl.encoder.checkpoint import SavedRun
from mtcl.encoder.config import EncoderConfig
from mtcl.errors import ConfigError
from mtcl.training.lightning_private import set_batches_done
from mtcl.training.optimizer import OptimizerConfig
from mtcl.types import __version__

if TYPE_CHECKING:
    from mtcl.losses import Loss
    from mtcl.training.datamodule import MtclDataModule
    from mtcl.training.run import Run

log = logging.getLogger("mtcl")

Facts = dict[str, Any]
"""Plain values by name, in nested dicts, so that reading a checkpoint executes nothing."""
SHOWN = 4
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
ANEW = "--init_from instead of --resume starts a new run from the weights"
IN_OPTIMIZER_STATE = ("lr", "head_lr", "weight_decay", "layer_decay")
"""Options of the optimizer that a resumed run takes from the checkpoint: other values would be silently ignored."""


def facts_of(data: MtclDataModule, encoder: EncoderConfig, *, pooling: str, weights: str, accumulate: int) -> Facts:
    """The facts of a run.

    `pooling` is the one in effect, `weights` the digest of the base encoder's weights; the stores of `data` must be
    open.
    """
    mixture = asdict(data.plan)
    del mixture["tasks_per_step"]
    if not data.plan.replayed:  # a run without these facts is the same as one of a version that had no replay
        del mixture["replay"]
    tasks = {task.pop("name"): task for task in mixture.pop("tasks")}
    for name, task in tasks.items():
        task["schedule"] = [[step * data.plan.num_slots, weight] for step, weight in task["schedule"]]
        if not task["is_replayed"]:
            del task["is_replayed"]
        task["max_length"] = data.length_of(name)
        task["version"] = data.tasks[name].version
        task |= {"prompt": prompt} if (prompt := data.prompt_of(name).plain()) else {}
        task |= {"head": head} if (head := data.task_configs[name].head) else {}
        if isinstance(store := data.store(name, "train"), Subset):
            task["pairs_used"] = store.digest
        task["data"] = data.store(name, "train").folder.name.rpartition("-")[2]
    return {
        "model.encoder": {
            "name": encoder.name,
            "revision": encoder.revision,
            "weights": weights,
            "pooling": pooling,
            "dim": encoder.dim,
            **encoder.tuning,
        },
        "tasks": tasks,
        "order of tasks": list(tasks),
        "sub-batches an optimizer step": data.plan.num_slots * accumulate,
        **mixture,
    }


def check(saved: Facts, now: Facts, *, allow_changes: bool) -> list[str]:
    """The differences, one phrase each. Raises `ConfigError` if there are any, unless they are allowed."""
    changes = differences(saved, now)
    if changes and not allow_changes:
        what = f"cannot resume, this is a different run ({shown(changes)})"
        raise ConfigError(f"{what}: give --allow_changes to resume it anyway; {ANEW}")
    return changes


def shown(changes: list[str]) -> str:
    """The first few phrases, and the number of further ones."""
    return "; ".join(changes[:SHOWN]) + (f"; and {len(changes) - SHOWN} more" if len(changes) > SHOWN else "")


def differences(
    saved: Facts, now: Facts, prefix: str = "", *, sides: tuple[str, str] = ("in the checkpoint", "now")
) -> list[str]:
    """The differences, by dotted name. A branch missing on one side is named once. If the base weights are equal, the
    encoder's name and revision are not compared.
    """
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
    """Raise `ConfigError` if a checkpoint was trained on a task that is held out now."""
    if seen := set(trained) & set(held_out):
        raise ConfigError(f"data.held_out has {min(seen)!r}, which the checkpoint was trained on: leave it out")


def check_trained(saved: dict[str, Tensor], now: dict[str, Tensor]) -> None:
    """Raise `ConfigError` if the trained tensors differ, because the optimizer's state would not fit them."""
    shapes = [{name: tuple(value.shape) for name, value in state.items()} for state in (saved, now)]
    for name in dict.fromkeys([*now, *saved]):
        old, new = (shape.get(name, "absent") for shape in shapes)
        if old != new:
            raise ConfigError(f"cannot resume, {name} is {old} in the checkpoint and {new} now: {ANEW}")


def check_same_parts(saved: Facts, now: Facts) -> None:
    """Raise `ConfigError` if other parameters of the encoder train, which the optimizer's state would not fit."""
    sides = [facts.get("model.encoder") or {} for facts in (saved, now)]
    for name in ("train", "freeze_layers"):
        old, new = (side.get(name, getattr(EncoderConfig, name)) for side in sides)
        if old != new:
            raise ConfigError(f"cannot resume, model.encoder.{name} is {old} in the checkpoint and {new} now: {ANEW}")


def check_resumable(saved: SavedRun, optimizer: OptimizerConfig, *, is_averaging: bool) -> None:
    """Raise `ConfigError` for a checkpoint that a run with this optimizer cannot resume."""
    if not saved.has_run_state:
        raise ConfigError(
            f"{str(saved.path)!r} has weights only, not the state of a run: give --resume with the run's folder, whose "
            "last.ckpt has it, or --init_from to start a new run from the weights"
        )
    if saved.facts is None:
        raise ConfigError(f"cannot resume, the checkpoint is of an earlier version of mtcl: {ANEW}")
    if saved.is_averaged and not is_averaging:
        raise ConfigError(
            "the run averages its weights and cannot be resumed with `averaging: null`: "
            "give --init_from to start a new run from the average"
        )
    began = saved.section("model", "optimizer")
    for name in IN_OPTIMIZER_STATE:
        before, now = began.get(name, getattr(OptimizerConfig, name)), getattr(optimizer, name)
        if not isinstance(before, int | float):
            raise saved.malformed(f"model.optimizer.{name} is {before!r:.60}")
        if before != now:
            raise ConfigError(
                f"model.optimizer.{name} is {now:g}, but the run began with {before:g}, which its optimizer's state "
                "keeps: leave it unchanged, or give --init_from instead of --resume to start a new run"
            )


def on_save(module: Run) -> dict[str, Any]:
    """The run's record for a checkpoint, as plain values; it makes any Trainer's checkpoint complete."""
    data = module.data
    return {
        "base": module.base.figures,
        "start": module.start_figures,
        "history": module.history,
        "facts": module.facts(),
        "tasks": {name: _about(module, name) for name in data.evaluated},
        "prompt": data.default_prompt.plain(),
        "max_length": data.default_length,
        "trained_before": sorted(module.trained_before),
        "version": __version__,
    }


def _about(module: Run, name: str) -> dict[str, Any]:
    """How a task's texts are read, and what a model card says about the task."""
    data = module.data
    task, loss = data.evaluated[name], cast("Loss", module.losses[name]) if name in module.losses else None
    return {
        "prompt": data.prompt_of(name).plain(),
        "max_length": data.length_of(name),
        "about": " ".join((inspect.getdoc(type(task)) or "").split()),
        "owner": task.owner,
        "license": task.license,
        "loss": loss.words if loss is not None else "",
        "metric": task.metric.name,
    }


def on_resume(module: Run, saved: SavedRun, checkpoint: dict[str, Any]) -> None:
    """Compare a checkpoint with the run that resumes it, and take over its figures.

    Raises `ConfigError` on all ranks if this is a different run, unless its module allows changes.
    """
    data, trainer = module.data, module.trainer
    with together():
        if saved.facts is None:
            raise ConfigError(f"cannot resume, the checkpoint is of an earlier version of mtcl: {ANEW}")
        check_same_parts(saved.facts, module.facts())
        changes = check(saved.facts, module.facts(), allow_changes=module.allow_changes)
        check_trained(saved.state, module.state_dict())
        check_never_trained(saved.trained, data.held_out)
        base, start, history = saved.base_figures, saved.start_figures, saved.history
    for change in changes if world()[0] == 0 else ():
        log.warning("resuming with a change: %s", change)

    def still_evaluated(primary: dict[str, float]) -> dict[str, float]:
        return {name: value for name, value in primary.items() if name in data.evaluated}

    module.trained_before = saved.trained
    module.base.figures, module.start_figures = still_evaluated(base), still_evaluated(start)
    module.history = {step: still_evaluated(primary) for step, primary in history.items()}
    if set(saved.facts["tasks"]) != set(data.tasks) or _chooses_otherwise(module, saved, checkpoint):
        # the means change: choose the best checkpoint again
        module.history, checkpoint["callbacks"] = {}, {}
    checkpoint["callbacks"].pop("Timer", None)  # trainer.max_time is per process, like a scheduler's limit
    set_batches_done(checkpoint, saved.step * trainer.accumulate_grad_batches)


def _chooses_otherwise(module: Run, saved: SavedRun, checkpoint: dict[str, Any]) -> bool:
    """Whether the metric that chooses the best checkpoint is another one, or its mean has other unseen tasks."""
    weight = module.selection.unseen_weight
    if weight != saved.section("model").get("unseen_weight", 0.0):
        return True
    return bool(weight) and set(checkpoint["mtcl"]["tasks"]) != set(module.data.evaluated)


def config_text(module: Run) -> str:
    """The configuration of a run without a configuration file (in a notebook), as YAML of plain values."""
    data, trainer = module.data, module.trainer
    config = {
        "seed_everything": data.seed,
        "tasks": {name: task.described() for name, task in data.task_configs.items()},
        "model": module.described(),
        "data": data.described(),
        "trainer": {name: value for name in PLAIN_OF_TRAINER if _is_plain(value := getattr(trainer, name, None))},
    }
    return str(yaml.safe_dump(config, sort_keys=False))


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
