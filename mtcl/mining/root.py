"""Creates a data root with new training rows for one task and links to another data root for everything else.

A run of many tasks can use it directly, and rows that were not mined take no space.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from mtcl.errors import ConfigError, MtclError
from mtcl.files import written_whole
from mtcl.task.contract import Task, errors_of
from mtcl.task.reading import FORMATS
from mtcl.task.rows import roles_in, rows_of
from mtcl.task.sources import Files

log = logging.getLogger("mtcl")
REPORT = "negatives"


def lay_out(out: Path, task: Task, root: Path | None, *, overwrite: bool) -> Path:
    """The task's folder under `out`, with everything except `train.parquet`. Nothing under `root` is changed.

    Rows that do not come from files are written to files. Raises `ConfigError` if data would be lost.
    """
    name = task.data.folder if isinstance(task.data, Files) else task.name
    folder = out / name
    if root is not None and out.resolve() == root.resolve():
        raise ConfigError(f"--out {out} is the data root itself: give another folder, so that no rows are lost")
    if (folder / "train.parquet").exists() and not folder.is_symlink() and not overwrite:
        raise ConfigError(f"{folder / 'train.parquet'} exists: give another --out, or --overwrite")
    if root is not None and isinstance(task.data, Files) and _is_inside(out, root / name):
        raise ConfigError(f"--out {out} is in the folder of the task's own data: give another folder")
    if root is not None and root.is_dir():
        _check_links(root, out.resolve())
        _link_all(root, out.resolve(), Path(name).parts, is_linked=isinstance(task.data, Files))
    if folder.is_symlink():  # another task's mining linked it
        folder.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    if not isinstance(task.data, Files):
        _write_others(folder, task, root)
    return folder


def _check_links(root: Path, out: Path) -> None:
    """Raise `ConfigError` if `out` has links to another data root, from an earlier command."""
    for link in sorted(path for path in out.rglob("*") if path.is_symlink()):
        if link.resolve() != (root / link.relative_to(out)).resolve():
            raise ConfigError(f"{link} links to {link.resolve()}, in another data root: give another --out")


def _link_all(source: Path, target: Path, inside: tuple[str, ...], *, is_linked: bool) -> None:
    """Create links in `target` to all entries of `source` except the first part of the path `inside`. That entry is
    processed the same way if `is_linked`, and otherwise left to the caller.
    """
    if target.is_symlink():
        target.unlink()
    target.mkdir(parents=True, exist_ok=True)
    if not source.is_dir():
        return
    for entry in sorted(source.iterdir()):
        link = target / entry.name
        is_ours = entry.name == inside[0] if inside else _is_written(entry)
        if entry.name.startswith("."):  # the lock of a command, say
            continue
        if is_ours or os.path.lexists(link) or _is_inside(target, entry):
            continue
        try:
            link.symlink_to(entry.resolve())
        except OSError:  # Windows without the privilege
            with written_whole(link) as aside:
                (shutil.copytree if entry.is_dir() else shutil.copy2)(entry, aside)
    if inside and is_linked:
        _link_all(source / inside[0], target / inside[0], inside[1:], is_linked=True)


def _write_others(folder: Path, task: Task, root: Path | None) -> None:
    import pyarrow.parquet as pq

    corpus = getattr(task.pairs, "corpus", None)
    for split in ("validation", "test", *([corpus] if corpus else [])):
        try:
            with errors_of(task, split):
                rows = rows_of(task, split, root, roles_in(task, split, of_corpus=split == corpus), rest=True)
        except MtclError as error:
            if split != "test":  # which training does not need
                raise
            log.warning("no test split is written: %s", error)
            continue
        with written_whole(folder / f"{split}.parquet") as aside:
            pq.write_table(rows, aside)


def _is_written(entry: Path) -> bool:
    """Whether the entry has training rows or a report, which are written again."""
    return entry.name == "train" or (entry.stem == "train" and entry.suffix in FORMATS) or entry.stem == REPORT


def _is_inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
