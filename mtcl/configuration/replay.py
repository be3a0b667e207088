"""The tasks that a run replays: those that the run named by --init_from has trained, with the options that they had.

They go into the new run's own `tasks`, so its configuration says all that --resume needs. The options come from a
checkpoint and are taken by the rules of `from_checkpoint.py`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import mtcl.losses as losses
from mtcl.configuration import yaml_files
from mtcl.configuration.from_checkpoint import TASK, made, plain_mixture, plain_tasks
from mtcl.configuration.overrides import applied, from_arguments, from_environment
from mtcl.configuration.run_keys import run_keys
from mtcl.configuration.values import loaded
from mtcl.encoder.checkpoint import SavedRun
from mtcl.errors import ConfigError
from mtcl.training.task_config import TaskConfig

log = logging.getLogger("mtcl")
NOT_REPLAYED = ("weight_schedule", "watch", "replay")
"""Options of a task that are about the run that trained it."""
OF_START = "a task of the start"
"""Placeholder in `tasks` for a task of the start while files are merged: null removes it, options replace it."""


def load_with_replay(paths: list[str], arguments: list[str], saved: SavedRun) -> dict[str, Any]:
    """The merged content of YAML files; if it has `data.replay`, also with the tasks of the checkpoint to replay.

    These are the tasks that the checkpoint's run has trained, apart from those that the configuration or the
    `arguments` name. Null leaves out a task. `data.alpha` and `data.cap` are then the checkpoint's unless they are
    given, so the tasks have the proportions that they had.
    """
    config = yaml_files.load(paths, below={"tasks": dict.fromkeys(saved.trained, OF_START)})
    tasks = config["tasks"]
    of_start = {name for name, options in tasks.items() if _is_untouched(options)}
    config["tasks"] = {name: options for name, options in tasks.items() if name not in of_start}
    overrides = [*from_environment(os.environ, "MTCL_SET", run_keys()), *from_arguments(arguments, run_keys())]
    given = applied(config | {"tasks": tasks}, overrides, run_keys())
    data = given.get("data") or {}
    if not _is_share(loaded(data.get("replay"))):
        return config
    if whole := [override.given_as for override in overrides if override.key == "tasks"]:
        raise ConfigError(f"{whole[0]} gives all tasks, so data.replay has none to add: give `tasks` in a file")
    known, held_out = tasks_of(saved), loaded(data.get("held_out")) or ()
    own = {name: loaded(options) for name, options in given["tasks"].items() if not _is_untouched(options)}
    for name in own.keys() & known.keys():
        if isinstance(own[name], Mapping) and loaded(own[name].get("replay")) is True:
            config["tasks"][name] = known[name] | (config["tasks"].get(name) or {})
    wanted = of_start - {*own, *held_out}
    config["tasks"] |= {name: known[name] for name in known if name in wanted}  # the command line may remove some again
    config["data"] = plain_mixture(saved, ("alpha", "cap")) | (config.get("data") or {})
    left = wanted & given["tasks"].keys()
    if unknown := sorted(left - known.keys()):
        log.warning(
            "not replayed, because the checkpoint has no options for them: %s; to replay one, give it "
            "`tasks: {%s: {replay: true}}`",
            ", ".join(unknown),
            unknown[0],
        )
    added = [name for name in known if name in left]
    log.info("replayed from %s: %s", saved.path, ", ".join(added) or "nothing but what `tasks` names")
    return config


def replayed(run: str | Path, without: Collection[str] = ()) -> dict[str, TaskConfig]:
    """The tasks that a run trained, to be replayed in another: `tasks={**replayed("runs/joint"), "jobs": {}}`.

    Args:
        run: A run folder (its best checkpoint), or a .ckpt file.
        without: Tasks to leave out.
    """
    saved = SavedRun.read(run)
    found = {name: options for name, options in tasks_of(saved).items() if name not in without}
    return {name: TaskConfig.of(name, {**options, "loss": _made(options, saved)}) for name, options in found.items()}


def tasks_of(saved: SavedRun) -> dict[str, dict[str, Any]]:
    """The options of each task that the checkpoint's run has trained, with the values that applied to it."""
    left_out: list[str] = []
    plain = saved.section("tasks") if saved.is_trusted else plain_tasks(saved, left_out)
    wanted = [name for name in (*TASK, "loss") if name not in NOT_REPLAYED]
    data = saved.section("data")
    found = {}
    for name in saved.trained_in_run:
        options = {key: value for key, value in (plain[name] or {}).items() if key in wanted and value is not None}
        options.setdefault("batch_size", data.get("batch_size"))
        options["max_length"] = saved.lengths.get(name, saved.max_length)
        if name in saved.record.tasks and name in saved.prompts:
            options["prompt"] = saved.prompts[name].plain()
        found[name] = {key: value for key, value in options.items() if value is not None} | {"replay": True}
    if left_out:
        log.warning("not taken from the checkpoint: %s", ", ".join(left_out))
    return found


def _is_untouched(options: Any) -> bool:
    return isinstance(options, str) and options == OF_START


def _is_share(value: Any) -> bool:
    """Whether something is to be replayed. Other values are reported by the checks of the configuration."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1


def _made(options: Mapping[str, Any], saved: SavedRun) -> losses.Loss | None:
    """The loss of a task, from the description of a class of mtcl."""
    try:
        loss: losses.Loss | None = made(options.get("loss"))
    except (TypeError, ValueError) as error:
        raise saved.malformed(f"a task's loss is {options['loss']!r:.80}") from error
    return loss
