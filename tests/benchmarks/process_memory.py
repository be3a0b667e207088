"""Memory of this process, as the kernel reports it.

`getrusage` does not work here: it includes memory that the parent held before it started this process.
"""

from __future__ import annotations

from pathlib import Path


def memory_mib(what: str) -> float:
    """`VmHWM`: the peak memory, including mapped files. `RssAnon`: the current memory, without mapped files."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(what))
    return int(line.split()[1]) / 1024
