"""Memory of this process, or of a group of processes, as the kernel reports it.

`getrusage` does not work here: it includes memory that the parent held before it started this process.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def memory_mib(what: str) -> float:
    """`VmHWM`: the peak memory, including mapped files. `RssAnon`: the current memory, without mapped files."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(what))
    return int(line.split()[1]) / 1024


def group_mib(group: int, what: str) -> float:
    """The same, of all processes of a group together."""
    total = 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if int((folder / "stat").read_text().rpartition(")")[2].split()[2]) == group:
                lines = (folder / "status").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024
    return total
