"""`mtcl tasks list | docs | codeowners`: all tasks, for a terminal, as a Markdown page and as a CODEOWNERS file."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from mtcl.console import columns, line_of, markdown_table
from mtcl.errors import ConfigError
from mtcl.files import write_text
from mtcl.task.contract import Task
from mtcl.task.pairs import Pairs
from mtcl.task.registry import Registry

INDENT = "    "
ABOUT_PAGE = "<!-- Written by `mtcl tasks docs`. -->\n\n# Tasks\n\n"


def list_tasks(registry: Registry) -> int:
    """Print each task with its pairs, metric and first sentence; exit code 1 if any file is broken."""
    room = columns()
    width = max([len(name) for name in registry.entries], default=0)
    for name, entry in sorted(registry.entries.items()):
        if entry.task is None:
            print(f"{name:<{width}}  BROKEN  {line_of(entry.error)}")
            continue
        print(f"{name:<{width}}  {pairs_of(entry.task)}, {line_of(entry.task.metric.name)}")
        print(textwrap.fill(first_line(entry.task), room, initial_indent=INDENT, subsequent_indent=INDENT))
    broken = sum(entry.task is None for entry in registry.entries.values())
    if broken:
        print(f"{broken} of {len(registry.entries)} tasks are broken", file=sys.stderr)
    return 1 if broken else 0


def docs(registry: Registry, out: Path | None) -> int:
    """Write the catalogue of tasks: what each teaches, its pairs, metric, owner and licence. Broken files are named."""
    tasks = [entry.task for _, entry in sorted(registry.entries.items()) if entry.task]
    rows = [
        (f"`{one.name}`", first_line(one), f"`{pairs_of(one)}`", one.metric.name, one.owner, one.license)
        for one in tasks
    ]
    text = ABOUT_PAGE + markdown_table(("task", "what it teaches", "pairs", "metric", "owner", "licence"), rows)
    broken = sorted(name for name, entry in registry.entries.items() if entry.task is None)
    text += f"\nBroken: {', '.join(broken)}\n" if broken else ""
    return _written(text, out)


def codeowners(registry: Registry, out: Path | None) -> int:
    """Write a line per task file below the working folder: its path and the task's owner.

    Raises `ConfigError` if a task has no owner that GitHub and GitLab know: `@team`, `@org/team` or an address.
    """
    here = Path.cwd()
    entries = sorted(registry.entries.values(), key=lambda entry: entry.origin)
    files = [(Path(entry.origin).resolve(), entry.task) for entry in entries if entry.task]
    inside = [(path.relative_to(here).as_posix(), task) for path, task in files if path.is_relative_to(here)]
    if not inside:
        raise ConfigError(f"no task file below {here}: run it in the repository that has them")
    if odd := [task for _, task in inside if not _is_owner(task.owner)]:
        raise ConfigError(f"task {odd[0].name!r}: owner is {odd[0].owner!r}: give @team, @org/team or an address")
    lines = [f"/{path} {task.owner}" for path, task in inside]
    return _written("\n".join(["# Written by `mtcl tasks codeowners`.", *lines]) + "\n", out)


def pairs_of(task: type[Task]) -> str:
    """The name of a task's pair construction."""
    return type(task.pairs).__name__ if isinstance(task.pairs, Pairs) else "own pairs"


def first_line(task: type[Task]) -> str:
    """The first line of a task's docstring."""
    return line_of((task.__doc__ or "").strip().splitlines()[0])


def _is_owner(owner: str) -> bool:
    return "@" in owner and all("@" in word and len(word) > 1 for word in owner.split())


def _written(text: str, out: Path | None) -> int:
    if out is None:
        print(text, end="")
    else:
        write_text(out, text)
        print(f"written {out}")
    return 0
