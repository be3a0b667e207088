"""Returns freed memory to the system, if the C library is glibc.

glibc's heap keeps freed memory in pieces that are too small for later tensors, so a process that frees everything after
each chunk still grows with the number of chunks. `malloc_trim` returns whole free pages (malloc_trim(3)).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def trim_heap() -> None:
    """Return free pages to the system; does nothing if the C library has no `malloc_trim`."""
    if (trim := _malloc_trim()) is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # on Windows a process cannot be opened as a library
        return None
    return found
