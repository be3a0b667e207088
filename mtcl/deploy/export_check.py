"""Measures what each exported form costs: its validation metric on the run's tasks minus that of the full vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mtcl.arrays import IntArray, Ragged
from mtcl.console import markdown_table
from mtcl.data.store import prepare
from mtcl.encoder.exported import Exported
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.errors import ConfigError, nearest
from mtcl.evaluation import Pool, evaluate
from mtcl.files import cache_folder, data_root
from mtcl.task.contract import Task
from mtcl.task.registry import discover

SPLIT = "validation"
WHOLE = "float32"


@dataclass(frozen=True)
class Question:
    """A pool's texts, for a form to embed."""

    pool: Pool
    task: str

    def tokens(self) -> Ragged:
        """The texts' tokens, with their prompts."""
        return self.pool.store.tokens.take(self.pool.texts)

    def texts(self) -> list[str]:
        """The texts without prompts."""
        return list(self.pool.store.pairs.texts.take(self.pool.texts).to_pylist())


Form = Callable[[Question], Tensor]
"""Gives the (T, D) unit vectors of a question's texts."""


@dataclass(frozen=True)
class Check:
    """Where the run's tasks and their rows are.

    Attributes:
        root: Folder with a sub-folder for each task; MTCL_DATA if None.
        tasks_dir: Additional folders of task files.
        cache: Folder for stores; MTCL_CACHE or ~/.cache/mtcl if None.
        tasks: Names of tasks; all of the exported ones if empty.
    """

    root: str | None = None
    tasks_dir: str | None = None
    cache: str | None = None
    tasks: Sequence[str] = ()

    def chosen(self, exported: Exported) -> list[Task]:
        """The tasks to evaluate. Raises `ConfigError` for a task that is unknown or not exported."""
        known, registry = exported.tasks, discover(self.tasks_dir)
        names = list(self.tasks) or list(known)
        if odd := [name for name in names if name not in known]:
            raise ConfigError(f"--check_tasks has {odd[0]!r}, which is not exported{nearest(odd[0], known)}")
        if not names:
            raise ConfigError("the encoder has no tasks to evaluate: leave --check out")
        return [registry[name] for name in names]

    def pools(self, encoder: TextEncoder, exported: Exported) -> list[Pool]:
        """The validation splits of the tasks to evaluate, read as in training.

        Raises `ConfigError` or `DataError` for tasks that cannot be evaluated here.
        """
        return [self._pool(task, encoder) for task in self.chosen(exported)]

    def _pool(self, task: Task, encoder: TextEncoder) -> Pool:
        store = prepare(
            task,
            SPLIT,
            root=data_root(self.root),
            tokenizer=encoder.tokenizer,
            max_length=encoder.length_of(task),
            cache=cache_folder(self.cache),
            prompt=encoder.prompt_of(task),
        )
        return Pool(task.name, store, task.metric)


@dataclass(frozen=True)
class Costs:
    """Metrics by task and form, the first of which is the whole encoder."""

    metrics: dict[str, str]
    figures: dict[str, dict[str, float]]

    def table(self) -> str:
        """Markdown: a row per task and their mean, a column per form with its difference from the first."""
        forms = list(next(iter(self.figures.values())))
        rows = [
            [f"{task} ({self.metrics[task]})", *_cells(list(found.values()))] for task, found in self.figures.items()
        ]
        if len(rows) > 1:
            means = [float(np.mean([found[form] for found in self.figures.values()])) for form in forms]
            rows.append(["mean", *_cells(means)])
        return markdown_table(["task", *forms], rows, numbers=range(1, len(forms) + 1))


def _cells(values: Sequence[float]) -> list[str]:
    first, *rest = values
    return [f"{first:.4f}", *(f"{value:.4f} ({value - first:+.4f})" for value in rest)]


def costs(encoder: TextEncoder, exported: Exported, forms: Mapping[str, Form], pools: Sequence[Pool]) -> Costs:
    """Evaluate the encoder, its vectors cut to the dimensions that it was trained at, and the exported `forms`."""
    metrics, figures = {}, {}
    for pool in pools:
        question = Question(pool, pool.name)
        metrics[pool.name] = pool.metric.name
        found = {name: _primary(pool, vectors) for name, vectors in _whole(encoder, exported, question)}
        found |= {name: _primary(pool, form(question)) for name, form in forms.items()}
        figures[pool.name] = found
    return Costs(metrics, figures)


def _whole(encoder: TextEncoder, exported: Exported, question: Question) -> Iterator[tuple[str, Tensor]]:
    """The encoder's vectors, and those cut to each number of dimensions."""
    vectors_TD = encoder.embed(question.tokens(), task=question.task)
    yield WHOLE, vectors_TD
    dims = sorted({*exported.dims, *encoder.dims_of(exported.task)}, reverse=True)
    for dim in dims:
        if dim < encoder.dim_of(exported.task):
            yield f"{dim} dimensions", F.normalize(vectors_TD[:, :dim], dim=1)


def _primary(pool: Pool, vectors_TD: Tensor) -> float:
    """The task's metric for vectors of the pool's sorted texts."""

    def of(texts: IntArray) -> Tensor:
        return vectors_TD[torch.from_numpy(np.searchsorted(pool.texts, texts))]

    return evaluate(pool, of).primary
