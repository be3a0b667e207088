"""`mtcl tasks list | show NAME | check NAME | batch NAME | new NAME`: list, inspect, check and create tasks."""

from __future__ import annotations

import argparse
import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtcl.commands.arguments import Parser
from mtcl.console import line_of
from mtcl.errors import ConfigError, TaskError, nearest
from mtcl.files import data_root, write_text
from mtcl.task.contract import NAME, Task, errors_of
from mtcl.task.pairs.table import DRAWN
from mtcl.task.registry import Registry, discover, reference_folder
from mtcl.types import Kind

if TYPE_CHECKING:
    from mtcl.losses import Loss
    from mtcl.task.pairs import PairTable
    from mtcl.training.datamodule import MtclDataModule

SPLITS = ("train", "validation", "test")
TEMPLATE = '''"""One line: what goes in and what it should be near to."""

from mtcl import NDCG, Files, QueryDocument, Task


class {class_name}(Task):
    """What the task teaches, and where its data comes from."""

    name = "{name}"
    version = 1
    owner = "@your-team"
    license = "internal"
    data = Files("{name}")  # <data root>/{name}/train.parquet, validation.parquet, test.parquet
    pairs = QueryDocument(query="query", document="document")
    metric = NDCG(k=10)
    sample = [
        {{"query": "first query", "document": "a document that answers the first query"}},
        {{"query": "second query", "document": "a document that answers the second query"}},
    ]
'''


def main(command: str, arguments: list[str]) -> int:
    parser = Parser(prog=f"mtcl {command}", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="list | show | check | batch | new")
    add_list = actions.add_parser("list", help="list all tasks, including broken files")
    add_list.add_argument("--tasks_dir", help="additional folders of task files")
    add_show = actions.add_parser("show", help="show a task's declaration and sample")
    add_show.add_argument("name")
    add_show.add_argument("--tasks_dir", help="additional folders of task files")
    add_show.add_argument("--data.root", dest="root", help="data root (default: MTCL_DATA)")
    add_check = actions.add_parser("check", help="test a task on its sample and its real rows")
    _add_run(add_check)
    add_batch = actions.add_parser("batch", help="show a training step: pairs, excluded negatives, truncated texts")
    _add_run(add_batch)
    add_batch.add_argument("--step", type=int, default=0, help="step number, from 0 (default: %(default)s)")
    add_batch.add_argument("--pairs", type=int, default=8, help="number of pairs to print (default: %(default)s)")
    add_new = actions.add_parser("new", help="write a template to tasks/NAME.py")
    add_new.add_argument("name")
    options = parser.parse_args(arguments)
    if options.action == "new":
        return new(options.name)
    if options.action == "batch":
        return show_batch(options)
    registry = discover(options.tasks_dir)
    if options.action == "list":
        return list_tasks(registry)
    task = registry[options.name]
    if options.action == "show":
        return show(task)
    if options.config or options.model:
        run = _run_of(options, alone=True)
        return check(task, run.data.root, run=run)
    if options.max_length:
        raise ConfigError(f"--max_length {options.max_length} counts tokens: give --model or --config too")
    return check(task, data_root(options.root), batch_size=options.batch_size)


def list_tasks(registry: Registry) -> int:
    """Print one line per task; exit code 1 if any file is broken."""
    width = max([len(name) for name in registry.entries], default=0)
    for name, entry in sorted(registry.entries.items()):
        if entry.task is None:
            print(f"{name:<{width}}  BROKEN  {line_of(entry.error)}")
        else:
            task = entry.task
            kind = type(task.pairs).__name__ if not callable(getattr(task.pairs, "__func__", None)) else "own pairs"
            print(line_of(f"{name:<{width}}  {kind:<13} {task.metric.name:<10} {_first_line(task)}"))
    broken = sum(entry.task is None for entry in registry.entries.values())
    if broken:
        print(f"{broken} of {len(registry.entries)} tasks are broken", file=sys.stderr)
    return 1 if broken else 0


def show(task: Task) -> int:
    """Print a task's declaration."""
    print(f"{task.name} (version {task.version})\n  {_first_line(type(task))}\n")
    for name in ("owner", "license", "prompt", "data", "pairs"):
        print(line_of(f"  {name:<8} {getattr(task, name)}").rstrip())
    print(f"  {'metric':<8} {line_of(task.metric.name)}\n  sample")
    for row in task.sample:
        print(f"    {row}")
    return 0


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name")
    parser.add_argument("-c", "--config", action="append", default=[], help="YAML file of a run with the task")
    parser.add_argument("--batch_size", type=int, help="pairs per batch (default: the configuration's)")
    parser.add_argument(
        "--max_length", type=int, help="tokens per text (default: the configuration's, or the encoder's)"
    )
    parser.add_argument("--model", help="encoder whose tokenizer to use (default: the configuration's)")
    parser.add_argument("--tasks_dir", help="additional folders of task files")
    parser.add_argument("--data.root", dest="root", help="data root (default: MTCL_DATA)")


@dataclass(frozen=True)
class RunOfTask:
    """The data of a run with the task `name`, and the task's loss as the configuration gives it."""

    data: MtclDataModule
    name: str
    given_loss: Any

    def loss(self) -> Loss | None:
        """The task's loss; None if only a run itself can make it. Raises `ConfigError` for wrong arguments."""
        import mtcl.losses as losses
        from mtcl.configuration.from_checkpoint import made, own_class
        from mtcl.task.contract import kind_of

        if self.given_loss is None:
            return losses.default_loss(kind_of(self.data.evaluated[self.name]))
        try:
            found: Loss | None = made(own_class(self.given_loss, losses))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"tasks.{self.name}.loss: {error}") from error
        return found


def _run_of(options: argparse.Namespace, *, batch_size: int | None = None, alone: bool = False) -> RunOfTask:
    """The configured run, with `alone` without its other tasks. If none is configured, a run of this task alone with
    `batch_size` pairs per batch.
    """
    from mtcl.configuration.yaml_files import load
    from mtcl.training.datamodule import MtclDataModule

    default = {} if batch_size is None else {"data": {"batch_size": batch_size}}
    config: dict[str, Any] = load(options.config) if options.config else default
    tasks = {name: {**(task or {}), "loss": None} for name, task in (config.get("tasks") or {}).items()}
    given = {name: getattr(options, name) for name in ("root", "tasks_dir", "batch_size", "max_length")}
    settings = {**(config.get("data") or {}), **{name: value for name, value in given.items() if value is not None}}
    encoder = dict((config.get("model") or {}).get("encoder") or {}) | (
        {"name": options.model} if options.model else {}
    )
    if options.config and options.name not in tasks:
        raise ConfigError(f"the configuration has no task {options.name!r}{nearest(options.name, tasks)}")
    seed = config.get("seed_everything", 1)
    if unknown := set(settings) - set(inspect.signature(MtclDataModule).parameters):
        raise ConfigError(f"unknown key 'data.{min(unknown)}'")
    if alone:
        tasks = {name: task for name, task in tasks.items() if name == options.name}
        settings = {key: value for key, value in settings.items() if key not in ("held_out", "replay")}
    named = ((config.get("tasks") or {}).get(options.name) or {}).get("loss")
    data = MtclDataModule(**{"tasks": tasks or {options.name: {}}, "encoder": encoder, "seed": seed, **settings})
    return RunOfTask(data, options.name, named)


def show_batch(options: argparse.Namespace) -> int:
    """Print a task's part of a training step; without a configuration, that of a run of this task alone."""
    from mtcl.training.inspection import InspectedStep, inspect_batch

    shown = inspect_batch(_run_of(options, batch_size=8).data, options.step)
    part = tuple(task for task in shown.tasks if task.name == options.name)
    print(InspectedStep(shown.step, part).text(options.pairs))
    if not part:
        print(f"the task has no sub-batch in step {options.step}; others do: {', '.join(t.name for t in shown.tasks)}")
    return 0


def check(task: Task, root: Path | None, *, run: RunOfTask | None = None, batch_size: int | None = None) -> int:
    """Make pairs from the sample and the real rows and print a summary. Raises an error if that fails, or if training
    would learn nothing: with the defaults, on whole texts; with `run`, as that run cuts and batches them.
    """
    from mtcl.task.pairs import Pairs, PairTable
    from mtcl.task.rows import pairs_of
    from mtcl.task.sources import Source, as_table
    from mtcl.training import learnable

    with errors_of(task, "sample"):
        roles = task.pairs.columns() if isinstance(task.pairs, Pairs) else None
        table = task.pairs(as_table(task.sample, roles))
        if not isinstance(table, PairTable):
            raise TaskError(f"pairs must give a PairTable, not {type(table).__name__}: use mtcl.pair_table")
        print(f"sample: {describe(table)}")
    tables = {}
    source = task.data
    missing = [split for split in SPLITS if isinstance(source, Source) and not source.has(split, root)]
    if missing and "test" not in missing:
        print(f"no {' and no '.join(missing)} split: the task can be held out or watched, and `mtcl test` evaluates it")
    for split in SPLITS if "test" in missing else [split for split in SPLITS if split not in missing]:
        with errors_of(task, split):
            tables[split] = table = pairs_of(task, split, root)
        print(f"{split}: {describe(table)}")
        if split == "train":
            print("\n".join(f"    {line}" for line in examples(table)))
            warnings = _check_run(run) if run else learnable.check_table(task, table, batch_size=batch_size)
            print("".join(f"    warning: {line}\n" for line in warnings), end="")
            continue
        if "train" in tables and (seen := num_seen(table, tables["train"])):
            print(f"    {seen:,} of {len(table.queries):,} queries are training texts too, so they test nothing new")
        if table.kind is Kind.POSITIVE and len(table.candidates) == 1:
            print("    warning: there is only one text to find, so any encoder has a perfect metric")
    print(f"task {task.name!r} is ready: add it to a configuration under `tasks:`")
    return 0


def _check_run(run: RunOfTask) -> list[str]:
    from mtcl.training import learnable

    if (loss := run.loss()) is None:
        return ["the loss is a class of your own, so only a run can check that it has something to learn"]
    return learnable.check_data(run.data, lambda _: loss) if run.data.tasks else []


def describe(table: PairTable) -> str:
    """Summarise a table of pairs in one line."""
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in table.skipped.items())
    words = f"{len(table.anchors):,} pairs, {len(table.texts):,} distinct texts, {len(table.candidates):,} candidates"
    return words + (f"; left out: {left_out}" if left_out else "")


def num_seen(table: PairTable, train: PairTable) -> int:
    """The number of a split's queries that are also anchors in the training split."""
    import numpy as np
    import pyarrow.compute as pc

    known = train.texts.take(np.unique(train.anchors[train.anchors != DRAWN]))
    return int(pc.sum(pc.is_in(table.texts.take(table.queries), value_set=known)).as_py() or 0)


def examples(table: PairTable, count: int = 3) -> list[str]:
    """The first pairs as readable lines."""
    lines = []
    for anchor, positive in list(zip(table.anchors, table.positives, strict=True))[:count]:
        if table.groups is not None:
            members = table.groups[positive]
            anchor = members[0] if anchor == DRAWN else anchor
            positive = next((member for member in members if member != anchor), anchor)
        lines.append(f"{table.texts[int(anchor)].as_py()[:70]!r} -> {table.texts[int(positive)].as_py()[:70]!r}")
    return lines


def new(name: str) -> int:
    """Write tasks/NAME.py from the template."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"task name {name!r}: use lower case letters, digits and underscores, starting with a letter")
    path = Path("tasks") / f"{name}.py"
    if path.exists():
        raise ConfigError(f"{path} exists: choose another name, or edit it")
    reference = reference_folder()
    if path.parent.resolve() == reference.resolve() and (taken := sorted(reference.rglob(path.name))):
        raise ConfigError(f"{taken[0]} is a reference task with the same name: choose another")
    if path.parent.exists() and not path.parent.is_dir():
        raise ConfigError(f"{str(path.parent)!r} is not a folder: rename it, because mtcl looks for tasks there")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    write_text(path, TEMPLATE.format(name=name, class_name=class_name))
    print(f"written {path}: edit it, then run: mtcl tasks check {name}")
    return 0


def _first_line(task: type[Task]) -> str:
    lines = (task.__doc__ or "").strip().splitlines()
    return line_of(lines[0]) if lines else ""
