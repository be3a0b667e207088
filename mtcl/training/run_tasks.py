"""The tasks of a run, each in its role: trained, replayed, watched or held out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from mtcl.errors import ConfigError, MtclError
from mtcl.task.contract import Task, kind_of
from mtcl.task.kind import Kind
from mtcl.task.registry import discover
from mtcl.training.task_config import TaskConfig, TaskRole

T = TypeVar("T")


@dataclass(frozen=True)
class RunTasks:
    """`configs` has the options of the tasks that the run configures, which are all but those held out.

    `trained` are the tasks that are trained, with those that are replayed last; `evaluated` has the others as well.
    """

    configs: Mapping[str, TaskConfig]
    held_out: tuple[str, ...]
    trained: dict[str, Task]
    evaluated: dict[str, Task]

    @classmethod
    def find(cls, configs: Mapping[str, TaskConfig], held_out: tuple[str, ...], tasks_dir: str | None) -> RunTasks:
        """Find the tasks by their names. Raises `ConfigError` for a task in two roles or with options of another."""
        for name, task in configs.items():
            task.check_role(name)
        if both := [name for name in held_out if name in configs]:
            verb = "watches" if configs[both[0]].watch else "trains"
            raise ConfigError(f"data.held_out has {both[0]!r}, which `tasks` {verb}: remove it from one of the two")
        registry = discover(tasks_dir)
        own, replayed, watched = (
            [name for name, task in configs.items() if task.role is role]
            for role in (TaskRole.TRAIN, TaskRole.REPLAY, TaskRole.WATCH)
        )
        trained = {name: registry[name] for name in own} | for_each_replayed(replayed, registry.__getitem__)
        return cls(configs, held_out, trained, trained | {name: registry[name] for name in (*watched, *held_out)})

    def with_role(self, role: TaskRole) -> list[str]:
        """The names of the configured tasks in a role."""
        return [name for name, task in self.configs.items() if task.role is role]

    @property
    def trained_configs(self) -> dict[str, TaskConfig]:
        """The options of the tasks that are trained."""
        return {name: self.configs[name] for name in self.trained}

    @property
    def kinds(self) -> dict[str, Kind]:
        """The kind of pairs of each trained task."""
        return {name: kind_of(task) for name, task in self.trained.items()}

    @property
    def apart(self) -> dict[str, str]:
        """The role of each task that is not part of `val/mean`."""
        held_out = dict.fromkeys(self.held_out, TaskRole.HELD_OUT.value)
        roles = {name: task.role.value for name, task in self.configs.items()}
        return {name: role for name, role in roles.items() if role != TaskRole.TRAIN} | held_out

    def check_trains(self, replay: float) -> None:
        """Raise `ConfigError` if nothing would be trained, or if tasks and share of the replay do not fit."""
        replayed = self.with_role(TaskRole.REPLAY)
        if not self.with_role(TaskRole.TRAIN):
            raise ConfigError(
                "no task is trained, only evaluated or replayed: give `tasks` one without watch or replay"
            )
        if replay and not replayed:
            raise ConfigError(
                f"data.replay is {replay:g}, but there is no task to replay: start from a run that trained other tasks "
                "(--init_from), give tasks `replay: true`, or give data.replay 0"
            )
        if replayed and not replay:
            raise ConfigError(
                f"tasks.{replayed[0]}.replay is true, but data.replay is 0: give a share such as 0.05, or give the "
                "task `watch: true` to evaluate it only"
            )


def for_each_replayed(names: Iterable[str], use: Callable[[str], T]) -> dict[str, T]:
    """What `use` returns for each replayed task. The user may not have named these tasks, so an error names all tasks
    that fail and says how to leave them out.
    """
    found: dict[str, T] = {}
    failed: dict[str, MtclError] = {}
    for name in names:
        try:
            found[name] = use(name)
        except MtclError as error:
            failed[name] = error
    if failed:
        first = next(iter(failed.values()))
        without = ", ".join(f"{name}: null" for name in failed)
        raise type(first)(
            f"cannot replay {', '.join(failed)} ({first}): leave out with `tasks: {{{without}}}`, or give data.replay 0"
        ) from first
    return found
