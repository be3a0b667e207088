"""What a long command prints on standard error: a bar on a terminal, otherwise a line now and then."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

LINE_EVERY_S = 30.0
log = logging.getLogger("mtcl")
OnProgress = Callable[[int, int], None]
"""Takes rows that are done and bytes of the inputs that were read, both since the last call."""


@dataclass
class Pace:
    """Rows per second and the time left, estimated from the share of the inputs' bytes that is read."""

    num_bytes: int
    clock: Callable[[], float] = time.monotonic
    rows: int = 0
    read: int = 0
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock()

    def add(self, rows: int, read: int) -> None:
        """Count `rows` more rows, found in `read` more bytes."""
        self.rows += rows
        self.read += read

    @property
    def share(self) -> float:
        """The share of the bytes that is read, 0 to 1; 0 if the size is not known, as for a stream."""
        return min(1.0, self.read / self.num_bytes) if self.num_bytes else 0.0

    def text(self) -> str:
        """`12,000 rows, 800 rows/s, 40 %, 0:12:30 left`."""
        passed = max(self.clock() - self.began, 1e-9)
        told = [f"{self.rows:,} rows", f"{self.rows / passed:,.0f} rows/s"]
        if self.share:
            told.append(f"{self.share:.0%}, {_time(passed * (1 - self.share) / self.share)} left")
        return ", ".join(told)


@contextmanager
def shown(num_bytes: int, *, clock: Callable[[], float] = time.monotonic) -> Iterator[OnProgress]:
    """A function to report progress to."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    pace, console = Pace(num_bytes, clock), Console(stderr=True)
    if console.is_terminal:
        with Progress(
            TextColumn("embed"), BarColumn(), TextColumn("{task.fields[pace]}"), console=console, transient=True
        ) as bar:
            task = bar.add_task("embed", total=1.0 if num_bytes else None, pace="")

            def draw(rows: int, read: int) -> None:
                pace.add(rows, read)
                bar.update(task, completed=pace.share, pace=pace.text())

            yield draw
        return
    last = pace.began

    def tell(rows: int, read: int) -> None:
        nonlocal last
        pace.add(rows, read)
        if clock() - last >= LINE_EVERY_S:
            last = clock()
            log.info("%s", pace.text())

    yield tell


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
