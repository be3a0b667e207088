"""Freed memory back to the system, where the C library is glibc.

Its heap keeps what is freed in pieces that later tensors of other sizes don't fit, so a process that frees everything
chunk by chunk still grows with the number of chunks. `malloc_trim` hands whole free pages back (malloc_trim(3)).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def trim_heap() -> None:
    """Hand free pages back; nothing where the C library has no way to."""
    if (trim := _malloc_trim()) is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # Windows has no library of the process itself
        return None
    return found
