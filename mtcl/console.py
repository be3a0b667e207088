"""Output of long commands: a progress bar on standard error, and Markdown tables."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import TypeVar

Step = TypeVar("Step")


def track(steps: Sequence[Step], what: str) -> Iterable[Step]:
    """The steps one by one, with a progress bar labelled `what` that disappears at the end. There is no bar for a
    single step, or if standard error is not a terminal.
    """
    from rich.console import Console
    from rich.progress import track as shown

    console = Console(stderr=True)
    is_hidden = len(steps) < 2 or not console.is_terminal
    return shown(steps, description=what, transient=True, console=console, disable=is_hidden)


def one_line(text: str, width: int, *, end: str = " ...") -> str:
    """The text without line breaks, cut to `width` characters with `end` as its last ones."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - len(end)] + end


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Container[int] = ()) -> str:
    """A whole table, with a final line break. The columns in `numbers` (counted from 0) are right-aligned."""
    return "\n".join([markdown_head(head, numbers=numbers), *map(markdown_row, rows)]) + "\n"


def markdown_head(head: Sequence[str], *, numbers: Container[int] = ()) -> str:
    """A table's first two lines, for printing rows one at a time."""
    rule = ["---:" if column in numbers else "---" for column in range(len(head))]
    return f"{markdown_row(head)}\n{markdown_row(rule)}"


def markdown_row(cells: Iterable[object]) -> str:
    """One row of a table."""
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(value: object) -> str:
    """Without line breaks, and with `|` escaped."""
    return " ".join(str(value).split()).replace("|", r"\|")
