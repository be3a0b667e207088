"""Locks that keep two processes of one machine from the same work: an input, one of its windows, or its last step.

A lock is a file that is locked with `flock`, so it is free as soon as its process ends, however that happens. A process
that gets a lock must check whether the work was done in the meantime.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtcl.deploy.embed.settings import PARTS
from mtcl.deploy.embed.shards import Shard

ATTEMPTS = 100
"""The folder of a lock may be removed, because it is empty, right before the lock is made."""


@dataclass(frozen=True)
class Claim:
    """A lock that this process holds."""

    path: Path
    lock: Any

    @classmethod
    def take(cls, path: Path) -> Claim | None:
        """Take a lock. Returns None if another process holds it."""
        from filelock import FileLock, Timeout

        lock = FileLock(path)
        for attempt in range(ATTEMPTS):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                return None
            except FileNotFoundError:
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                return cls(path, lock)
        return None

    def release(self) -> None:
        self.path.unlink(missing_ok=True)
        self.lock.release()
        remove_empty(self.path.parent)


@contextmanager
def claimed(folder: Path, shard: Shard) -> Iterator[bool]:
    """Whether this process is the first to work on the input; no other one on this machine is at the same time."""
    with held(input_lock(folder, shard)) as is_mine:
        yield is_mine


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Whether this process has the lock, until the block ends."""
    claim = Claim.take(path)
    try:
        yield claim is not None
    finally:
        if claim is not None:
            claim.release()


def input_lock(folder: Path, shard: Shard) -> Path:
    """The lock of the process that works on an input first."""
    return folder / PARTS / f".{shard.name.replace('/', '%')}.lock"


def remove_empty(folder: Path) -> None:
    """Remove a folder below that of all parts, and those above it, as far as they are empty."""
    for one in (folder, *folder.parents):
        with suppress(OSError):
            one.rmdir()
        if one.name == PARTS or one.exists():
            return
