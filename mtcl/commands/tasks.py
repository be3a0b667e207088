"""`mtcl tasks list | show NAME | check NAME | batch NAME | new NAME | docs | codeowners`: look at tasks, make one."""

from __future__ import annotations

import argparse

from mtcl.commands.arguments import Parser, user_path
from mtcl.commands.process import quiet_libraries
from mtcl.commands.task_check import check
from mtcl.commands.task_new import TEMPLATES, new
from mtcl.commands.task_pages import codeowners, docs, first_line, list_tasks
from mtcl.commands.task_run import run_of
from mtcl.console import line_of
from mtcl.errors import ConfigError
from mtcl.files import data_root
from mtcl.task.contract import Task
from mtcl.task.registry import discover

TASKS_DIR = "additional folders of task files"


def main(command: str, arguments: list[str]) -> int:
    options = _parser(command).parse_args(arguments)
    if options.action == "new":
        root = user_path(options.root) if options.root else None
        return new(options.name, kind=options.kind, tasks_dir=options.tasks_dir, root=root)
    if options.action == "batch":
        return show_batch(options)
    registry = discover(options.tasks_dir)
    if options.action == "list":
        return list_tasks(registry)
    if options.action in ("docs", "codeowners"):
        return (docs if options.action == "docs" else codeowners)(registry, options.out)
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


def _parser(command: str) -> Parser:
    parser = Parser(prog=f"mtcl {command}", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add_list = actions.add_parser("list", help="list all tasks, including broken files")
    add_list.add_argument("--tasks_dir", help=TASKS_DIR)
    add_show = actions.add_parser("show", help="show a task's declaration and sample")
    add_show.add_argument("name")
    add_show.add_argument("--tasks_dir", help=TASKS_DIR)
    add_check = actions.add_parser("check", help="test a task on its sample and its real rows")
    _add_run(add_check)
    add_batch = actions.add_parser("batch", help="show a training step: pairs, excluded negatives, truncated texts")
    _add_run(add_batch)
    add_batch.add_argument("--step", type=int, default=0, help="step number, from 0 (default: %(default)s)")
    add_batch.add_argument("--pairs", type=int, default=8, help="number of pairs to print (default: %(default)s)")
    add_new = actions.add_parser("new", help="write a task file to edit")
    add_new.add_argument("name")
    kinds = ", ".join(TEMPLATES)
    add_new.add_argument(
        "--kind", choices=TEMPLATES, default="QueryDocument", metavar="KIND", help=f"{kinds} (default: %(default)s)"
    )
    add_new.add_argument("--tasks_dir", help="folder to write to (default: tasks)")
    add_new.add_argument("--data.root", dest="root", help="also write the sample there as rows, if there are none")
    for name, what in (
        ("docs", "write the catalogue of tasks as Markdown"),
        ("codeowners", "write a CODEOWNERS file from the owners of the tasks"),
    ):
        add_page = actions.add_parser(name, help=what)
        add_page.add_argument("--out", type=user_path, help="file to write (default: standard output)")
        add_page.add_argument("--tasks_dir", help=TASKS_DIR)
    return parser


def show(task: Task) -> int:
    """Print a task's declaration."""
    print(f"{task.name} (version {task.version})\n  {first_line(type(task))}\n")
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
    parser.add_argument("--model", help="encoder to read the texts with (default: the configuration's)")
    parser.add_argument("--tasks_dir", help=TASKS_DIR)
    parser.add_argument("--data.root", dest="root", help="data root (default: MTCL_DATA)")


def show_batch(options: argparse.Namespace) -> int:
    """Print a task's part of a training step; without a configuration, of a run with this task alone."""
    from mtcl.training.inspection import InspectedStep, inspect_batch

    shown = inspect_batch(run_of(options, batch_size=8).data, options.step)
    part = tuple(task for task in shown.tasks if task.name == options.name)
    print(InspectedStep(shown.step, part).text(options.pairs))
    if not part:
        print(f"the task has no sub-batch in step {options.step}; others do: {', '.join(t.name for t in shown.tasks)}")
    return 0
