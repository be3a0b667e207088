"""Progress on standard error, shown on a terminal only."""

from __future__ import annotations

from collections.abc import Iterable


def track(steps: range, what: str, *, least: int = 2) -> Iterable[int]:
    """The steps, with a progress bar titled `what` while they are gone through; none for fewer than `least` steps."""
    from rich.console import Console
    from rich.progress import track as rich_track

    console = Console(stderr=True)
    return rich_track(
        steps, description=what, transient=True, console=console, disable=len(steps) < least or not console.is_terminal
    )
