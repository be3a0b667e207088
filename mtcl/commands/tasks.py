"""`mtcl tasks list | show NAME | check NAME | batch NAME | new NAME`: list, inspect, check and create tasks."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mtcl.commands.arguments import Parser
from mtcl.commands.process import quiet_libraries
from mtcl.commands.task_check import check
from mtcl.commands.task_run import run_of
from mtcl.errors import ConfigError
from mtcl.files import data_root
from mtcl.task.contract import NAME, Task
from mtcl.task.registry import Registry, discover, reference_folder

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
        quiet_libraries()
        run = run_of(options, alone=True)
        return check(task, run.data.root, run=run)
    if options.max_length:
        raise ConfigError(f"--max_length {options.max_length} counts tokens: give --model or --config too")
    return check(task, data_root(options.root), batch_size=options.batch_size)


def list_tasks(registry: Registry) -> int:
    """Print one line per task; exit code 1 if any file is broken."""
    width = max([len(name) for name in registry.entries], default=0)
    for name, entry in sorted(registry.entries.items()):
        if entry.task is None:
            print(f"{name:<{width}}  BROKEN  {entry.error}")
        else:
            task = entry.task
            kind = type(task.pairs).__name__ if not callable(getattr(task.pairs, "__func__", None)) else "own pairs"
            print(f"{name:<{width}}  {kind:<13} {task.metric.name:<10} {_first_line(task)}")
    broken = sum(entry.task is None for entry in registry.entries.values())
    if broken:
        print(f"{broken} of {len(registry.entries)} tasks are broken", file=sys.stderr)
    return 1 if broken else 0


def show(task: Task) -> int:
    """Print a task's declaration."""
    print(f"{task.name} (version {task.version})\n  {_first_line(type(task))}\n")
    for name in ("owner", "license", "prompt", "data", "pairs"):
        print(f"  {name:<8} {getattr(task, name)}".rstrip())
    print(f"  {'metric':<8} {task.metric.name}\n  sample")
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


def show_batch(options: argparse.Namespace) -> int:
    """Print a task's part of a training step; without a configuration, that of a run of this task alone."""
    from mtcl.training.inspection import InspectedStep, inspect_batch

    shown = inspect_batch(run_of(options, batch_size=8).data, options.step)
    part = tuple(task for task in shown.tasks if task.name == options.name)
    print(InspectedStep(shown.step, part).text(options.pairs))
    if not part:
        print(f"the task has no sub-batch in step {options.step}; others do: {', '.join(t.name for t in shown.tasks)}")
    return 0


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
    path.parent.mkdir(exist_ok=True)
    class_name = "".join(part.capitalize() for part in name.split("_"))
    path.write_text(TEMPLATE.format(name=name, class_name=class_name), encoding="utf-8")
    print(f"written {path}: edit it, then run: mtcl tasks check {name}")
    return 0


def _first_line(task: type[Task]) -> str:
    return (task.__doc__ or "").strip().splitlines()[0]
