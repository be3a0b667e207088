"""Writing files atomically, and the two folders that the environment can set: the data root and the cache."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from mtcl.errors import ConfigError

KNOWN_ROOTS = "data_roots.txt"
MAX_NAME_BYTES = 200
MIN_FREE_BYTES = 1 << 20
"""A disk with less free space than this counts as full if a write fails without a reason."""
REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""Reasons of the system to refuse a write, which libraries repeat in errors of their own."""
PART = re.compile(r"\..+\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)\.part")
ABANDONED_S = 24 * 3600
_tidied: set[Path] = set()
"""Folders in which this process has looked for files that killed processes left."""


@contextmanager
def written_whole(path: Path, *, alone: bool = False) -> Iterator[Path]:
    """Yield a temporary path next to `path` for a file or a folder; it is renamed to `path` when the block ends.

    Data is flushed to the disk before the rename, so a reader never finds half a file, even after a power cut. If the
    block raises, the temporary copy is removed and an earlier `path` stays as it was. A killed process leaves its
    unfinished copy, which the next process that writes to the folder on the same machine removes. With `alone`, for
    callers that are the only writer of `path` (because they hold a lock, say), copies of other machines are removed
    too. A folder cannot replace an earlier folder.

    Raises `OSError` with the name `path` if the system refuses a write, also where a library hides the system's error.
    """
    aside = aside_of(path)
    try:
        with _named(path, aside):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_left_overs(path.parent)
            if alone:
                for left_over in path.parent.glob(f".{glob.escape(_short(path.name))}.*.part"):
                    _remove(left_over)
            yield aside
            for written in [aside, *aside.rglob("*")] if aside.is_dir() else [aside]:
                _flush(written)
            aside.replace(path)
            _flush(path.parent)
    finally:
        with suppress(OSError):  # a read-only disk refuses even to remove what is not there
            _remove(aside)


def aside_of(path: Path) -> Path:
    """The temporary name of a file or folder, with the machine and the process that writes it."""
    return path.with_name(f".{_short(path.name)}.{_machine()}-{os.getpid()}.part")


def write_text(path: Path, text: str, *, alone: bool = False) -> None:
    """Write a UTF-8 text file atomically; `alone` is as in `written_whole`."""
    with written_whole(path, alone=alone) as aside:
        aside.write_text(text, encoding="utf-8")


def cache_folder(given: str | None = None) -> Path:
    """The folder of token stores and embeddings: `given`, the environment's MTCL_CACHE, or ~/.cache/mtcl.

    Raises `ConfigError` if it is a file.
    """
    folder = Path(given or os.environ.get("MTCL_CACHE") or "~/.cache/mtcl").expanduser()
    if folder.is_file():
        raise ConfigError(f"the cache {folder} is a file: name a folder, as data.cache or in MTCL_CACHE")
    return folder


def data_root(given: str | None = None) -> Path | None:
    """The folder with a sub-folder for each task: `given`, the environment's MTCL_DATA, or None."""
    named = given or os.environ.get("MTCL_DATA")
    return Path(named).expanduser() if named else None


def remember_root(root: Path, *, cache: Path) -> None:
    """Record that the user has read a data root, so that their checkpoints may refer to it."""
    from filelock import FileLock

    if is_known_root(root, cache=cache):
        return
    known = cache / KNOWN_ROOTS
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{known}.lock"):
        before = known.read_text(encoding="utf-8") if known.is_file() else ""
        write_text(known, f"{before}{root.resolve()}\n")


def is_known_root(root: Path, *, cache: Path) -> bool:
    """Whether the user has read this data root before."""
    known = cache / KNOWN_ROOTS
    return known.is_file() and str(root.resolve()) in known.read_text(encoding="utf-8").splitlines()


@contextmanager
def _named(path: Path, aside: Path) -> Iterator[None]:
    """Make errors of writing name the final path, and recognise a full disk whatever error a library makes of it."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and not Path(os.fsdecode(error.filename)).is_relative_to(aside):
            raise  # of another file, which the caller reads, say
        if error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        is_full = has_no_space(path.parent)  # numpy tells how much was written, but not why
        code = errno.ENOSPC if is_full else errno.EIO
        raise OSError(code, os.strerror(code) if is_full else str(error), str(path)) from error
    except Exception as error:
        for code in REFUSED:  # torch, safetensors and FAISS have errors of their own
            if os.strerror(code) in str(error):
                raise OSError(code, os.strerror(code), str(path)) from error
        raise


def dead_link(path: Path) -> str:
    """The message for a link that leads nowhere."""
    return f"{path} is a link to {path.readlink()}, which does not exist: mend or remove the link"


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that the disk or the user's share of it is full."""
    codes = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in codes or any(os.strerror(code) in str(error) for code in codes)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an error of the system the name of the file that was written, if it has none."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def has_no_space(folder: Path) -> bool:
    """Whether the disk of a folder is full, or nearly."""
    return shutil.disk_usage(folder).free < MIN_FREE_BYTES


def _short(name: str) -> str:
    """A name that leaves room for what `aside_of` adds; file systems allow 255 bytes."""
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return name if len(os.fsencode(name)) <= MAX_NAME_BYTES else f"{name[:40]}-{digest}"


@cache
def _machine() -> str:
    """A digest of what must be equal for process numbers to mean the same: the host, and on Linux the namespace."""
    namespace = Path("/proc/self/ns/pid")
    facts = (socket.gethostname(), namespace.stat().st_ino if namespace.exists() else 0)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:8]


def _remove_left_overs(folder: Path) -> None:
    """Remove what killed processes were writing in a folder, once per process and folder.

    Whether a process of another machine was killed is not known; its copies are removed if they are a day old.
    """
    folder = folder.resolve()
    if folder in _tidied:
        return
    _tidied.add(folder)
    with suppress(PermissionError):
        for path in folder.iterdir():
            if found := PART.fullmatch(path.name):
                is_here = found["machine"] == _machine()
                if not _is_alive(int(found["pid"])) if is_here else _age_s(path) > ABANDONED_S:
                    _remove(path)


def _age_s(path: Path) -> float:
    """Seconds since anything in a file or folder was written."""
    times = [one.stat().st_mtime for one in (path, *path.rglob("*")) if one.exists()]
    return time.time() - max(times, default=time.time())


def _is_alive(pid: int) -> bool:
    """Whether another process has this number. Its own is that of an earlier process, since nothing is written yet."""
    if pid == os.getpid():
        return False
    if os.name == "nt":  # there, a signal of 0 would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _flush(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
