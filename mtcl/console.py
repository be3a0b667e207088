"""What people see of a command that takes long: a bar on standard error while it works, and tables in Markdown."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import TypeVar

Step = TypeVar("Step")


def track(steps: Sequence[Step], what: str) -> Iterable[Step]:
    """The steps one by one. On a terminal a bar that says `what` shows how far they are, and goes when they are done;
    nothing is shown for a single step, nor where standard error is a file or a pipe.
    """
    from rich.console import Console
    from rich.progress import track as shown

    console = Console(stderr=True)
    is_hidden = len(steps) < 2 or not console.is_terminal
    return shown(steps, description=what, transient=True, console=console, disable=is_hidden)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Container[int] = ()) -> str:
    """A whole table, its last line ended. Columns of `numbers` (counted from 0) are set to the right."""
    return "\n".join([markdown_head(head, numbers=numbers), *map(markdown_row, rows)]) + "\n"


def markdown_head(head: Sequence[str], *, numbers: Container[int] = ()) -> str:
    """The first two lines, for a table whose rows are printed as they come."""
    rule = ["---:" if column in numbers else "---" for column in range(len(head))]
    return f"{markdown_row(head)}\n{markdown_row(rule)}"


def markdown_row(cells: Iterable[object]) -> str:
    """One line."""
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(value: object) -> str:
    """Without what would end the cell or the line."""
    return " ".join(str(value).split()).replace("|", r"\|")
