"""Output of commands: a progress bar on standard error, tables, and texts of any origin without control characters.

Names and texts come from task files and data. An escape code in them would change the terminal, and rich would read
`[bold]` as markup and `:star:` as an emoji, so both are shown literally.
"""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Step = TypeVar("Step")
LINE_EVERY_S = 30
WIDEST = 100
"""The most columns of text in a terminal."""
FOLDED = 6
"""The fewest characters per line of a table's cells that may be folded."""
log = logging.getLogger("mtcl")


CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters except tabs and line breaks, and characters that change the direction of writing."""


def plain(text: object) -> str:
    """The text with its control characters as Python escapes them."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def line_of(text: object) -> str:
    """The text as one line, as messages are."""
    return " ".join(plain(text).splitlines())


def columns() -> int:
    """The columns of the terminal, at most `WIDEST`."""
    return min(shutil.get_terminal_size().columns, WIDEST)


def console(*, stderr: bool = False) -> Console:
    """A console that shows text as it is written."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def print_table(table: Table) -> None:
    """Print all of a table: one that does not fit is wider than the terminal, so that no figure is cut off.

    Only columns without `no_wrap` are folded, and none in a file or a pipe.
    """
    from rich.cells import cell_len

    shown, needed = console(), 1
    for column in table.columns:
        widest = max(cell_len(str(cell)) for cell in [column.header, *column.cells])
        can_fold = shown.is_terminal and not column.no_wrap
        needed += 3 + (min(widest, FOLDED) if can_fold else widest)
    shown.width = max(shown.width, needed)
    shown.print(table)


def track(steps: Sequence[Step], what: str) -> Iterable[Step]:
    """The steps one by one, with a progress bar labelled `what` that disappears at the end. There is no bar for a
    single step; if standard error is not a terminal, a line is logged every half minute.
    """
    from rich.markup import escape
    from rich.progress import track as shown

    errors = console(stderr=True)
    if not errors.is_terminal:
        return _logged(steps, what)
    return shown(steps, description=escape(plain(what)), transient=True, console=errors, disable=len(steps) < 2)


def _logged(steps: Sequence[Step], what: str) -> Iterator[Step]:
    last = time.monotonic()
    for number, step in enumerate(steps):
        if time.monotonic() - last >= LINE_EVERY_S:
            last = time.monotonic()
            log.info("%s: %.0f %%", what, 100 * number / len(steps))
        yield step


def one_line(text: str, width: int, *, end: str = " ...") -> str:
    """The text without line breaks, cut to `width` characters with `end` as its last ones."""
    line = " ".join(plain(text).split())
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
    """The text without line breaks and with `|` escaped."""
    return " ".join(plain(value).split()).replace("|", r"\|")
