"""Digests of files' contents, cached so that a file is read once per node and not by every process at every start.

A digest is valid as long as the file's path, size, inode and times (in nanoseconds) stay the same. The times include
ctime, because every write sets it, even when the modification time is set back, as unpacking an archive does. File
systems have a clock coarser than a nanosecond, so the digest of a file that changed just before it was hashed is not
cached: the file could change again within the same tick (git calls such an entry racily clean).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from functools import cache
from pathlib import Path

from mtcl.files import cache_folder, written_whole

SETTLED_NS = 2_000_000_000
"""A file this old shows every later change in its times. The coarsest clock in use, FAT's, ticks every 2 s."""
MAX_REMEMBERED = 20_000
"""Number of files in the cache; the ones hashed longest ago are dropped first."""
Entry = tuple[tuple[int, ...], str]
"""Size, inode and times of a file, and its digest."""
log = logging.getLogger("mtcl")
_entries: dict[str, Entry] = {}
"""This process's copy of the cache, by path."""


def digest_files(paths: list[Path]) -> str:
    """SHA-256 over the files' contents; their names and folders do not matter."""
    names = [os.path.realpath(path) for path in paths]
    if any(_digest_of(name) is None for name in names):
        _entries.update(_read_memo())
    whole, is_new = hashlib.sha256(), False
    for name in names:
        digest = _digest_of(name)
        if digest is None:
            digest, entry = _hash(name)
            if entry:
                _entries[name], is_new = entry, True
        whole.update(bytes.fromhex(digest))
    if is_new:
        _write_memo({name: _entries[name] for name in names if name in _entries})
    return whole.hexdigest()


def _digest_of(name: str) -> str | None:
    """The cached digest of a file, None if there is none or the file has changed."""
    identity, digest = _entries.get(name, ((), ""))
    return digest if identity == _identity(Path(name).stat()) else None


def _identity(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns


def _hash(name: str) -> tuple[str, Entry | None]:
    """The digest of a file, and an entry to cache if the file is old enough and did not change while it was read."""
    start = time.time_ns()
    with Path(name).open("rb") as file:
        before = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        after = os.fstat(file.fileno())
    changed = max(before.st_mtime_ns, before.st_ctime_ns)
    is_settled = changed + SETTLED_NS <= start and _identity(before) == _identity(after)
    return digest, (_identity(before), digest) if is_settled else None


def _memo() -> Path:
    return cache_folder() / "digests.json"


def _read_memo() -> dict[str, Entry]:
    """The cache that all processes share; empty if its file is missing or damaged."""
    try:
        content = json.loads(_memo().read_text(encoding="utf-8"))
        return {name: (tuple(identity), digest) for name, (identity, digest) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write_memo(new: dict[str, Entry]) -> None:
    """Add entries to the shared cache. Warns once if its folder cannot be written: later starts are then slower."""
    from filelock import FileLock

    try:
        _memo().parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{_memo()}.lock"):
            others = {name: entry for name, entry in _read_memo().items() if name not in new}
            kept = dict(list((others | new).items())[-MAX_REMEMBERED:])
            with written_whole(_memo()) as path:
                path.write_text(json.dumps(kept), encoding="utf-8")
    except OSError as error:
        _warn(f"digests of data files cannot be saved to {_memo()} ({error}): each start reads all data")


@cache
def _warn(message: str) -> None:
    log.warning(message)
