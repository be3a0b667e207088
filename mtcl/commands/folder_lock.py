"""One process at a time writes to a folder: two runs would overwrite each other's checkpoints.

The lock is a file that is locked with `flock`, so it is free as soon as its process ends, however that happens. A
second file next to it says who holds it, for the error message. Different commands have different locks, so that `mtcl
test` works on a run that still trains. The first rank of a run holds its lock.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtcl.errors import ConfigError
from mtcl.files import write_text

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
"""Environment variables, at least one of which is above 0 in every process of a run except the first."""
log = logging.getLogger("mtcl")


@contextmanager
def only_writer(folder: Path, command: str, *, advice: str) -> Iterator[None]:
    """Hold the folder's lock for a command while the block runs; a missing folder is created.

    Raises `ConfigError` with `advice` and the holder's name if another process holds it. In ranks other than the first
    one, and on file systems without locks (with a warning), nothing is locked. A folder that is still empty at the end
    is removed.
    """
    if any(os.environ.get(name, "0") != "0" for name in RANKS):
        yield
        return
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(folder / f".{command}.lock", folder / f".{command}.json", command, advice):
            yield
    finally:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()


@contextmanager
def _locked(path: Path, holder: Path, command: str, advice: str) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(f"{path.parent} is in use by {_holder(holder)}: {advice}") from error
    except NotImplementedError:
        log.warning("the file system of %s has no locks: make sure that no other process writes there", path.parent)
        yield
        return
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        facts = {
            "command": f"mtcl {command.partition('-')[0]}",
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": since,
        }
        write_text(holder, json.dumps(facts))
        yield
    finally:
        holder.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        lock.release()


def _holder(path: Path) -> str:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return f"process {facts['pid']} on {facts['host']} ({facts['command']}, since {facts['since']})"
    except (OSError, ValueError, KeyError, TypeError):  # it has just taken the lock
        return "another process"
