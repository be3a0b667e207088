"""Checks that a resumed run matches its checkpoint, and handles accepted differences.

The run compares the checkpoint's facts with its own (`facts.py`). If the user accepts a difference, the run continues
after the pairs that were handed out, or at the same step if its tasks differ.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from lightning.pytorch.callbacks import WeightAveraging

from mtcl.distributed import together, world
from mtcl.encoder.checkpoint import SavedRun
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.module_state import State
from mtcl.errors import ConfigError
from mtcl.training.facts import Facts, differences, facts_of, shown
from mtcl.training.lightning_private import set_batches_done
from mtcl.training.metrics import is_over_tasks
from mtcl.training.optimizer import OptimizerConfig
from mtcl.training.recipe import changed
from mtcl.training.run import Run

log = logging.getLogger("mtcl")

NEW_RUN = "--init_from instead of --resume starts a new run from the weights"
IN_OPTIMIZER_STATE = ("lr", "head_lr", "weight_decay", "layer_decay")
"""Options of the optimizer that a resumed run takes from the checkpoint: other values would be silently ignored."""


def check(saved: Facts, now: Facts, *, allow_changes: bool) -> list[str]:
    """The differences, one phrase each. Raises `ConfigError` if there are any, unless they are allowed."""
    changes = differences(saved, now)
    if changes and not allow_changes:
        what = f"cannot resume, this is a different run ({shown(changes)})"
        raise ConfigError(f"{what}: give --allow_changes to resume it anyway; {NEW_RUN}")
    return changes


def check_never_trained(trained: Iterable[str], held_out: Iterable[str]) -> None:
    """Raise `ConfigError` if a checkpoint was trained on a task that is held out now."""
    if seen := set(trained) & set(held_out):
        raise ConfigError(f"data.held_out has {min(seen)!r}, which the checkpoint was trained on: leave it out")


def check_trained(saved: State, now: State) -> None:
    """Raise `ConfigError` if the trained tensors differ, because the optimizer's state would not fit them."""
    shapes = [{name: tuple(value.shape) for name, value in state.items()} for state in (saved, now)]
    for name in dict.fromkeys([*now, *saved]):
        old, new = (shape.get(name, "absent") for shape in shapes)
        if old != new:
            raise ConfigError(f"cannot resume, {name} is {old} in the checkpoint and {new} now: {NEW_RUN}")


def check_same_parts(saved: Facts, now: Facts) -> None:
    """Raise `ConfigError` if other parameters of the encoder train, which the optimizer's state would not fit."""
    sides = [facts.get("model.encoder") or {} for facts in (saved, now)]
    for name in ("train", "freeze_layers"):
        old, new = (side.get(name, getattr(EncoderConfig, name)) for side in sides)
        if old != new:
            raise ConfigError(
                f"cannot resume, model.encoder.{name} is {old} in the checkpoint and {new} now: {NEW_RUN}"
            )


def check_resumable(saved: SavedRun, optimizer: OptimizerConfig, *, is_averaging: bool) -> None:
    """Raise `ConfigError` for a checkpoint that a run with this optimizer cannot resume."""
    if not saved.has_run_state:
        raise ConfigError(
            f"{str(saved.path)!r} has weights only, not the state of a run: give --resume with the run's folder, whose "
            "last.ckpt has it, or --init_from to start a new run from the weights"
        )
    if saved.record.facts is None:
        raise ConfigError(f"cannot resume, the checkpoint is of an earlier version of mtcl: {NEW_RUN}")
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


def on_resume(
    run: Run,
    saved: SavedRun,
    checkpoint: dict[str, Any],
    *,
    optimizer: OptimizerConfig,
    recipe: dict[str, Any],
    allow_changes: bool,
) -> None:
    """Compare a checkpoint with the run that resumes it, with this optimizer and recipe, and take over its figures.

    Raises `ConfigError` on all ranks if this is a different run, unless changes are allowed.
    """
    data = run.data
    with together():
        is_averaging = any(isinstance(one, WeightAveraging) for one in run.trainer.callbacks)  # type: ignore[attr-defined]
        check_resumable(saved, optimizer, is_averaging=is_averaging)
        record, facts = saved.record, facts_of(run)
        assert record.facts is not None
        check_same_parts(record.facts, facts)
        changes = check(record.facts, facts, allow_changes=allow_changes)
        check_trained(saved.state, run.module.state_dict())
        check_never_trained(saved.trained, data.held_out)
        learned = {
            f"tasks.{name}.loss" for name, loss in run.model.losses.items() if any(True for _ in loss.parameters())
        }
        for change in changed(record.recipe, recipe):
            keeps = change.partition(":")[0] in learned
            changes.append(change + "; its learned values are kept" * keeps)
    for change in changes if world()[0] == 0 else ():
        log.warning("resuming with a change: %s", change)

    def still_evaluated(primary: dict[str, float]) -> dict[str, float]:
        return {name: value for name, value in primary.items() if name in data.evaluated}

    run.trained_before, run.cosines_at = saved.trained, record.cosines_at
    run.base_figures, run.start_figures = still_evaluated(record.base), still_evaluated(record.start)
    run.history = {step: still_evaluated(primary) for step, primary in record.history.items()}
    if record.facts.get("tasks", {}).keys() != data.tasks.keys() or _chooses_otherwise(run, saved):
        run.history = {}
        _forget_means(run, checkpoint)
    checkpoint["callbacks"].pop("Timer", None)  # trainer.max_time is per process, like a scheduler's limit
    set_batches_done(checkpoint, saved.step * run.trainer.accumulate_grad_batches)


def _forget_means(run: Run, checkpoint: dict[str, Any]) -> None:
    """Remove the states of callbacks that monitor a value of several tasks, because it changes with the tasks: the best
    checkpoint is chosen again, and early stopping begins to wait again.
    """
    for callback in run.trainer.callbacks:  # type: ignore[attr-defined]
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and is_over_tasks(monitor):
            checkpoint["callbacks"].pop(callback.state_key, None)


def _chooses_otherwise(run: Run, saved: SavedRun) -> bool:
    """Whether the metric that chooses the best checkpoint is another one, or its mean has other unseen tasks."""
    weight = run.selection.unseen_weight
    if weight != saved.section("model").get("unseen_weight", 0.0):
        return True
    return bool(weight) and set(saved.record.tasks) != set(run.data.evaluated)
