"""Files that are whole or absent, and the two folders that the environment can name: the data root and the cache."""

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
    """Give a place next to `path` to write a file or a folder to; it is renamed to `path` when the block ends.

    A reader therefore never finds half of it, not even after a power cut: what was written is flushed to the disk
    first. If the block raises, nothing is left behind and an earlier `path` stays as it was. A process that is killed
    leaves its unfinished copy; with `alone`, for callers that are the only writer of `path` (they hold a lock, say),
    such copies are removed first. A folder cannot replace an earlier folder.
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
    """A text file in UTF-8, whole or absent; `alone` as of `written_whole`."""
    with written_whole(path, alone=alone) as aside:
        aside.write_text(text, encoding="utf-8")


def cache_folder(given: str | None = None) -> Path:
    """Where token stores and embeddings are kept: `given`, the environment's MTCL_CACHE, or ~/.cache/mtcl."""
    return Path(given or os.environ.get("MTCL_CACHE") or "~/.cache/mtcl").expanduser()


def data_root(given: str | None = None) -> Path | None:
    """The folder with a sub-folder for each task: `given`, the environment's MTCL_DATA, or None."""
    named = given or os.environ.get("MTCL_DATA")
    return Path(named).expanduser() if named else None


def remember_root(root: Path, *, cache: Path) -> None:
    """Note that the user has read a data root, so that a checkpoint of theirs may name it."""
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
