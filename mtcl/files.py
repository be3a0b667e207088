"""Writing files atomically, and the two folders that the environment can set: the data root and the cache."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KNOWN_ROOTS = "data_roots.txt"


@contextmanager
def written_whole(path: Path, *, alone: bool = False) -> Iterator[Path]:
    """Yield a temporary path next to `path` for a file or a folder; it is renamed to `path` when the block ends.

    Data is flushed to the disk before the rename, so a reader never finds half a file, even after a power cut. If the
    block raises, the temporary copy is removed and an earlier `path` stays as it was. A killed process leaves its
    unfinished copy. With `alone`, for callers that are the only writer of `path` (because they hold a lock, say), such
    copies are removed first. A folder cannot replace an earlier folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if alone:
        for left_over in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
            _remove(left_over)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield aside
        for written in [aside, *aside.rglob("*")] if aside.is_dir() else [aside]:
            _flush(written)
        aside.replace(path)
        _flush(path.parent)
    finally:
        _remove(aside)


def write_text(path: Path, text: str, *, alone: bool = False) -> None:
    """Write a UTF-8 text file atomically; `alone` is as in `written_whole`."""
    with written_whole(path, alone=alone) as aside:
        aside.write_text(text, encoding="utf-8")


def cache_folder(given: str | None = None) -> Path:
    """The folder of token stores and embeddings: `given`, the environment's MTCL_CACHE, or ~/.cache/mtcl."""
    return Path(given or os.environ.get("MTCL_CACHE") or "~/.cache/mtcl").expanduser()


def data_root(given: str | None = None) -> Path | None:
    """The folder with a sub-folder for each task: `given`, the environment's MTCL_DATA, or None."""
    named = given or os.environ.get("MTCL_DATA")
    return Path(named).expanduser() if named else None


def remember_root(root: Path, *, cache: Path) -> None:
    """Record that the user has read a data root, so that their checkpoints may refer to it."""
    if not is_known_root(root, cache=cache):
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / KNOWN_ROOTS).open("a", encoding="utf-8") as file:
            file.write(f"{root.resolve()}\n")


def is_known_root(root: Path, *, cache: Path) -> bool:
    """Whether the user has read this data root before."""
    known = cache / KNOWN_ROOTS
    return known.is_file() and str(root.resolve()) in known.read_text(encoding="utf-8").splitlines()


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
