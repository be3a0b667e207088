"""Checks of the callbacks that a user gives to the Trainer: some of Lightning's cannot work here, and a callback may
monitor a metric that does not exist. Lightning would report both late, or not at all.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch import callbacks

from mtcl.errors import ConfigError, nearest
from mtcl.task.contract import Task
from mtcl.training import lightning_private, metrics
from mtcl.training.trainer_checks import num_batches

INSTEAD: dict[type[callbacks.Callback], str] = {
    callbacks.BackboneFinetuning: "it adds groups to the optimizer that have no learning rate schedule; leave it out",
    callbacks.BatchSizeFinder: "a loss depends on the batch size; set data.batch_size",
    callbacks.GradientAccumulationScheduler: "a run has a single epoch; set trainer.accumulate_grad_batches",
    callbacks.StochasticWeightAveraging: "a run has a single epoch; set averaging, for example {decay: 0.999}",
}
"""Lightning's callbacks that cannot work in a run, with what to do instead."""
OURS = ("mtcl.", "lightning.")
log = logging.getLogger("mtcl")


def check_callbacks(trainer: pl.Trainer) -> None:
    """Raise `ConfigError` for a callback that cannot work."""
    for callback in _callbacks(trainer):
        for kind, instead in INSTEAD.items():
            if isinstance(callback, kind):
                raise ConfigError(f"trainer.callbacks has {kind.__name__}, which mtcl does not support: {instead}")
        if isinstance(callback, callbacks.LambdaCallback):
            _check_functions(callback)


def check_before_training(
    module: pl.LightningModule, tasks: Mapping[str, Task], trained: Iterable[str], evaluated: set[str]
) -> None:
    """Raise `ConfigError` for a monitored metric that the run will not have.

    `tasks` are those that the run evaluates, `trained` the names of those it trains. `evaluated` has the names of a
    validation's values if there was one; otherwise any value of one of the tasks is accepted. Nothing is checked if a
    module or callback of the user's own may log other values.
    """
    trainer = module.trainer
    if not all(_logs_nothing_else(one) for one in (module, *_callbacks(trainer))):
        return
    certain = {metrics.eval_tag("val", task.metric.name, name) for name, task in tasks.items()}
    known = evaluated | certain | {metrics.VAL_MEAN}
    if _logs(trainer):
        known |= metrics.training_tags(trained) | ({metrics.DISTANCE} if getattr(module, "keep", None) else set())
    possible = () if evaluated else (*(f"/{task}" for task in tasks), "_mean")
    for callback, monitor, is_ours in _monitors(trainer):
        if monitor.startswith("val") and trainer.limit_val_batches == 0 and not is_ours:
            raise ConfigError(
                f"{callback} monitors {monitor!r}, but trainer.limit_val_batches is 0, so nothing is validated: give "
                "1.0, or leave the callback out"
            )
        is_possible = monitor.startswith("val") and monitor.endswith(possible)
        if monitor not in known and not is_possible and not monitor.startswith("lr-"):  # of LearningRateMonitor
            raise _unknown(trainer, callback, monitor, known)


def warn_of_late_callbacks(trainer: pl.Trainer) -> None:
    """Log a warning for callbacks that look at their metric only when the run's single epoch ends.

    `EarlyStopping` then never stops the run. Lightning decides so by itself for `val_check_interval: 1`, which it takes
    for 1.0, the whole epoch; its `ModelCheckpoint` then keeps the last weights instead of the best ones.
    """
    interval = trainer.val_check_interval
    num, is_each_batch = num_batches(trainer), isinstance(interval, int) and interval == 1
    if not trainer.is_global_zero or num < 2 or num < trainer.max_steps * trainer.accumulate_grad_batches:
        return
    because = " (Lightning takes trainer.val_check_interval 1 for 1.0)" if is_each_batch else ""
    for callback in _callbacks(trainer):
        if isinstance(callback, callbacks.EarlyStopping) and lightning_private.stops_at_epoch_end(callback):
            log.warning(
                "EarlyStopping looks at %r only when the run ends%s, so it never stops it: give the callback "
                "check_on_train_epoch_end: false",
                callback.monitor,
                because,
            )
        if (
            is_each_batch
            and isinstance(callback, callbacks.ModelCheckpoint)
            and lightning_private.is_saved_at_epoch_end_by_default(callback)
        ):
            log.warning(
                "ModelCheckpoint (monitor %r) saves only when the run ends%s: give the callback "
                "save_on_train_epoch_end: false",
                callback.monitor,
                because,
            )


def check_at_validation(trainer: pl.Trainer, shown: Iterable[str]) -> None:
    """Raise `ConfigError` for a monitored metric that is missing when callbacks are about to read it."""
    known = {*trainer.callback_metrics, *shown}
    for callback, monitor, _ in _monitors(trainer):
        if monitor not in known:
            raise _unknown(trainer, callback, monitor, known)


def _check_functions(callback: callbacks.LambdaCallback) -> None:
    """Raise `ConfigError` for a function that does not take what its hook gives: Lightning fails when it calls it."""
    for name, function in vars(callback).items():
        hook = getattr(callbacks.Callback, name, None)
        if hook is None:
            continue
        given = list(inspect.signature(hook).parameters)[1:]
        by_name = {"stage"} & {*given}  # as Lightning passes it
        try:
            signature = inspect.signature(function)
            signature.bind(*[None] * (len(given) - len(by_name)), **dict.fromkeys(by_name))
        except ValueError:  # a function written in C may have no signature
            continue
        except TypeError as error:
            raise ConfigError(
                f"trainer.callbacks has LambdaCallback, whose {name} is called with ({', '.join(given)}), but the "
                f"given function does not take them: {error}"
            ) from error


def _logs_nothing_else(one: Any) -> bool:
    """Whether a module or callback is one that logs no values of the user's own."""
    return type(one).__module__.startswith(OURS) and not isinstance(one, callbacks.LambdaCallback)


def _callbacks(trainer: pl.Trainer) -> list[callbacks.Callback]:
    found: list[callbacks.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return found


def _logs(trainer: Any) -> bool:
    """Whether the run computes training values."""
    return bool(trainer.log_every_n_steps)


def _monitors(trainer: pl.Trainer) -> Iterator[tuple[str, str, bool]]:
    """The name of each callback that needs a metric, the metric, and whether the callback is mtcl's own."""
    for callback in _callbacks(trainer):
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and getattr(callback, "strict", True):
            yield type(callback).__name__, monitor, type(callback).__module__.startswith("mtcl.")


def _unknown(trainer: pl.Trainer, callback: str, monitor: str, known: Collection[str]) -> ConfigError:
    if not _logs(trainer) and monitor in metrics.training_tags([monitor.rpartition("/")[2]]):
        return ConfigError(
            f"{callback} monitors {monitor!r}, but trainer.log_every_n_steps is 0: give the number of steps between "
            "log points, at which it is computed"
        )
    alike = [name for name in known if name.startswith(monitor[:3])]
    hint = nearest(monitor, alike or [name for name in known if name.startswith("val")])
    return ConfigError(f"{callback} monitors {monitor!r}, which the run does not log{hint}")
