"""The contract of a task, which a team declares in one file.

A task says where its rows come from (`data`), how they become pairs (`pairs`) and how it is evaluated (`metric`).
`data` and `pairs` can be objects or methods with the same signature. A task class is checked when it is defined, and
one message lists all problems, so a mistake shows when the file is loaded and not at step 10,000.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar

from mtcl.errors import ConfigError, DataError, MtclError, TaskError, lines_in, located
from mtcl.task.kind import Kind
from mtcl.task.metrics import BASES, Metric, suited
from mtcl.task.pairs import Pairs
from mtcl.task.prompt import Prompt
from mtcl.task.sources import Source

if TYPE_CHECKING:
    import pyarrow as pa

    from mtcl.task.pairs import PairTable

NAME = re.compile(r"[a-z][a-z0-9_]*")


class Task:
    """Base class of all tasks. The docstring of a subclass says what the task teaches."""

    name: ClassVar[str]
    """Also the file's stem, the key in the YAML and the tag in TensorBoard; lower case, digits and underscores."""
    version: ClassVar[int] = 1
    """Raise it when the pairs change: token stores are rebuilt, and old checkpoints report the change."""
    owner: ClassVar[str] = ""
    """The people responsible for the task, for example `@search-team`."""
    license: ClassVar[str] = ""
    """The data's licence."""
    prompt: ClassVar[str | dict[str, str] | None] = None
    """Put before every text of the task, for example `topic of the headline:`, so that the shared encoder can tell
    which task a text is embedded for; `{"query": ..., "document": ...}` for one on each side. None takes the run's, by
    default what the base encoder declares; "" puts nothing there. A run's `tasks.NAME.prompt` overrides it."""
    data: Callable[[str, Path | None], pa.Table]
    """A `Source` or a method: `data(split, root)` returns the rows of a split."""
    pairs: Callable[..., PairTable]
    """A `Pairs` or a method: `pairs(rows, corpus=None)` returns the `PairTable`."""
    metric: Metric
    """The primary metric, used to choose the best checkpoint."""
    sample: ClassVar[list[dict[str, Any]]]
    """A few rows as `data` returns them, for offline tests and documentation."""

    def __init_subclass__(cls, *, abstract: bool = False, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not abstract and (problems := problems_of(cls)):
            raise TaskError(f"task class {cls.__name__}: " + "; ".join(problems))


@contextmanager
def errors_of(task: Task, what: str) -> Iterator[None]:
    """Add the task and `what` to errors raised inside, and file and line if the task's own methods raised them."""
    try:
        yield
    except MtclError as error:
        raise type(error)(f"task {task.name!r}, {what}: {error}") from error
    except Exception as error:
        path = Path(inspect.getfile(type(task)))
        if isinstance(error, OSError) and not lines_in(path, error):  # from one of our files or the data's
            reason = f"{error.strerror}: {error.filename}" if error.filename else error
            raise DataError(f"task {task.name!r}, {what}: {reason}") from error
        reason = located(error, path)
        raise TaskError(f"task {task.name!r}, {what}: {reason}") from error


def kind_of(task: Task | type[Task]) -> Kind:
    """The kind of the task's pairs; if `pairs` is a method, it must return positives."""
    return task.pairs.kind if isinstance(task.pairs, Pairs) else Kind.POSITIVE


DIFFERENT_COLUMNS = (
    *(("query", "document"), ("text", "label"), ("text", "cluster"), ("anchor", "positive"), ("first", "second")),
    ("source", "target"),
    *(("query", "negatives"), ("document", "negatives"), ("anchor", "negatives"), ("positive", "negatives")),
    *(("text", "negatives"), ("label", "negatives"), ("source", "negatives"), ("target", "negatives")),
)
"""Fields of pair constructions that cannot name the same column."""
CONTRACT = {
    "name": (str,),
    "version": (int,),
    "owner": (str,),
    "license": (str,),
    "prompt": (str, dict, NoneType),
    "data": (Source,),
    "pairs": (Pairs,),
    "metric": (Metric,),
    "sample": (list,),
}


def problems_of(cls: type[Task]) -> list[str]:
    """All ways in which the class breaks the contract, one sentence per problem."""
    problems = [_unknown(name) for name in _public_names(cls) if name not in CONTRACT]
    for name, kinds in CONTRACT.items():
        value: Any = getattr(cls, name, None)
        if value is None and NoneType not in kinds:
            problems.append(f"{name} is missing: declare `{name} = ...`")
        elif not isinstance(value, kinds) and not (
            name in ("data", "pairs") and callable(value) and not isinstance(value, type)
        ):
            names = ["None" if kind is NoneType else kind.__name__ for kind in kinds]
            wanted = " or ".join(names) + (" or a method" if name in ("data", "pairs") else "")
            problems.append(f"{name} must be {wanted}, not {value!r:.80}")
    problems += _unfit_methods(cls)
    if isinstance(prompt := getattr(cls, "prompt", None), dict):
        try:
            Prompt.of(prompt)
        except ConfigError as error:
            problems.append(str(error))
    metric, pairs = getattr(cls, "metric", None), getattr(cls, "pairs", None)
    if isinstance(metric, Metric) and isinstance(pairs, Pairs):
        base = BASES[pairs.kind]
        if not isinstance(metric.name, str):
            problems.append(f"metric {type(metric).__name__} has a method `name`: put @property before it")
        elif pairs.kind not in metric.kinds:
            problems.append(f"metric {metric.name} does not fit {pairs.kind} pairs: {' or '.join(suited(pairs.kind))}")
        elif not isinstance(metric, base):
            problems.append(f"metric {metric.name} must derive from {base.__name__} for {pairs.kind} pairs")
    own = getattr(cls, "name", None)
    if isinstance(own, str) and not NAME.fullmatch(own):
        problems.append(f"name {own!r} must be lower case letters, digits and underscores")
    if isinstance(pairs, Pairs):
        problems += _columns_for_both_sides(pairs)
    if isinstance(pairs, Pairs) and not is_dataclass(pairs):
        problems.append("pairs must be a frozen dataclass whose fields are everything it depends on")
    if not (cls.__doc__ or "").strip():
        problems.append("no docstring: say in a sentence what the task teaches")
    if isinstance(sample := getattr(cls, "sample", None), list) and not (
        sample and all(isinstance(r, dict) for r in sample)
    ):
        problems.append("sample must hold a few rows, each a dict")
    return problems


def _columns_for_both_sides(pairs: Pairs) -> list[str]:
    """Problems with columns that are named twice: every text would be its own positive, or its own negative."""
    return [
        f"pairs have the column {name!r} as {one} and as {other}: name two columns"
        for one, other in DIFFERENT_COLUMNS
        for name in _columns_of(pairs, one)
        if name in _columns_of(pairs, other)
    ]


def _columns_of(pairs: Pairs, field: str) -> tuple[str, ...]:
    """The columns that a field names: none, one or several."""
    names = getattr(pairs, field, None)
    return (names,) if isinstance(names, str) else tuple(names) if isinstance(names, tuple | list) else ()


def _unfit_methods(cls: type[Task]) -> list[str]:
    """Problems with the signatures of `data` and `pairs`, where these are methods."""
    problems = []
    for name, call, arguments in (("data", "data(split, root)", 2), ("pairs", "pairs(rows, corpus=None)", 1)):
        method = getattr(object.__new__(cls), name, None)
        if inspect.isroutine(method):
            try:
                inspect.signature(method).bind(*[None] * arguments)
            except TypeError as error:
                problems.append(f"{name} cannot be called as {call}: {error}")
    return problems


def _public_names(cls: type[Task]) -> list[str]:
    declared = {
        name
        for base in cls.__mro__
        if base not in (Task, object)
        for name in (*vars(base), *vars(base).get("__annotations__", {}))
    }
    return sorted(name for name in declared if not name.startswith("_"))


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, CONTRACT, n=1)
    hint = (
        f"did you mean {close[0]!r}?"
        if close
        else f"known: {', '.join(CONTRACT)}; start the names of your own helpers with an underscore"
    )
    return f"unknown attribute {name!r}: {hint}"
