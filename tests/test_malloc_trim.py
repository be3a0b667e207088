"""Freed memory goes back to the system.

python -m pytest tests/test_malloc_trim.py
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from mtcl.encoder import malloc_trim as heap

SCRIPT = """
from mtcl.encoder.malloc_trim import trim_heap
from tests.benchmarks.process_memory import memory_mib

blocks = [bytearray(100_000) for _ in range(4000)]  # below the size that malloc maps apart
kept = blocks[::200]  # lie between, and at the end, so that freeing alone gives little back
kept.append(blocks[-1])
del blocks
before = memory_mib("RssAnon")
trim_heap()
print(before - memory_mib("RssAnon"))
"""


@pytest.mark.usefixtures("starts_processes")
@pytest.mark.skipif(heap._malloc_trim() is None, reason="needs glibc")
def test_free_pages_between_blocks_in_use_go_back() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 200, "of 381 MiB"


def test_nothing_happens_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []
    monkeypatch.setattr(heap, "_malloc_trim", lambda: called.append)
    heap.trim_heap()
    assert called == [0]
    monkeypatch.setattr(heap, "_malloc_trim", lambda: None)
    heap.trim_heap()
    assert called == [0]
