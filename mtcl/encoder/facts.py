"""Facts about an encoder besides its weights: its origin, and the tasks of its run.

They come from a checkpoint's record and configuration, or from the `mtcl.json` of an exported folder. Anyone may have
written these files, so each value is checked and none is executed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mtcl.encoder.checkpoint import SavedRun
from mtcl.encoder.run_record import TaskRecord, check_texts
from mtcl.errors import ConfigError
from mtcl.records.mapping import from_mapping
from mtcl.task.prompt import Prompt

FILE = "mtcl.json"
"""The file of an exported folder."""
MATRYOSHKA = "Matryoshka"


@dataclass(frozen=True)
class TaskFacts(TaskRecord):
    """A task of the run, and what came of it.

    Attributes:
        is_trained: Whether the run trained it; otherwise it was only evaluated.
        head: Dimensions of its own projection of the shared vector; None if it has none.
        num_pairs: Training pairs.
        base, now: The primary metric on validation, of the base encoder and of these weights.
    """

    is_trained: bool = True
    head: int | None = None
    num_pairs: int | None = None
    base: float | None = None
    now: float | None = None


@dataclass(frozen=True)
class Facts:
    """An encoder's origin.

    Attributes:
        base: Name or folder of the base model.
        version: The version of mtcl that trained it; empty if it was not trained by mtcl, or by an early version.
        step: Optimizer steps of the run.
        seed: The run's seed.
        trained_dims: Numbers of leading dimensions that the shared vector was trained at (`Matryoshka`), falling,
            without its full size.
        tasks: The run's tasks by name.
    """

    base: str = ""
    version: str = ""
    step: int | None = None
    seed: int | None = None
    trained_dims: list[int] = field(default_factory=list)
    tasks: dict[str, TaskFacts] = field(default_factory=dict)

    @classmethod
    def of_run(cls, saved: SavedRun) -> Facts:
        """The facts in a checkpoint. Raises `ConfigError` if they are malformed."""
        config, heads, record = saved.section("tasks"), saved.heads, saved.record
        in_facts: dict[str, Any] = (record.facts or {}).get("tasks") or {}
        history: list[dict[str, float]] = [{}, *record.history.values()]
        now = record.history.get(saved.step, history[-1])
        trained = saved.trained
        tasks = {
            name: {
                **asdict(task),
                "is_trained": name in trained,
                "head": heads[name].out_features if name in heads else None,
                "num_pairs": (in_facts.get(name) or {}).get("num_pairs"),
                "base": record.base.get(name),
                "now": now.get(name),
            }
            for name, task in saved.tasks.items()
        }
        shared = [name for name in saved.trained_in_run if name not in heads]
        dims = {dim for name in shared for dim in _matryoshka_dims((config.get(name) or {}).get("loss"))}
        given = {
            "base": saved.encoder_config.name,
            "version": record.version,
            "step": saved.step,
            "seed": seed if isinstance(seed := saved.config.get("seed_everything"), int) else None,
            "trained_dims": sorted((dim for dim in dims if 0 < dim < _dim(saved)), reverse=True),
            "tasks": tasks,
        }
        return cls.of(given, where=f"checkpoint {str(saved.path)!r}")

    @classmethod
    def of_folder(cls, folder: Path) -> Facts | None:
        """The facts in an exported folder; None if mtcl did not write it. Raises `ConfigError` for a malformed file."""
        file = folder / FILE
        if not file.is_file():
            return None
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{file} is not readable as JSON ({error}): export the run again") from error
        return cls.of(content, where=str(file))

    @classmethod
    def of(cls, given: Any, *, where: str) -> Facts:
        """From plain values, as of `plain`. Raises a `ConfigError` that begins with `where` for any other."""
        if not isinstance(given, Mapping):
            raise ConfigError(f"{where} has no facts about a run: it holds {given!r:.60}")
        facts = from_mapping(cls, given, where=where)
        for name, task in facts.tasks.items():
            check_texts(task, where=f"{where}: tasks.{name}")
        return facts

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)

    @property
    def prompts(self) -> dict[str, Prompt]:
        """The prompt of each task's texts."""
        return {name: Prompt.of(task.prompt) for name, task in self.tasks.items() if task.prompt is not None}

    @property
    def lengths(self) -> dict[str, int]:
        """The max length, in tokens, of each task's texts."""
        return {name: task.max_length for name, task in self.tasks.items() if task.max_length is not None}


def _dim(saved: SavedRun) -> float:
    """Dimensions of the shared vector if the configuration sets them."""
    return saved.encoder_config.dim or float("inf")


def _matryoshka_dims(loss: Any) -> Iterator[int]:
    """The dimensions of all `Matryoshka` losses inside a loss's description, a configuration's untrusted value."""
    if isinstance(loss, list):
        for one in loss:
            yield from _matryoshka_dims(one)
    elif isinstance(loss, dict):
        arguments = loss.get("init_args")
        if not isinstance(arguments, dict):
            return
        dims = arguments.get("dims")
        if str(loss.get("class_path")).rpartition(".")[2] == MATRYOSHKA and isinstance(dims, list):
            yield from (dim for dim in dims if isinstance(dim, int))
        for value in arguments.values():
            yield from _matryoshka_dims(value)
