"""Reads a data set of the Hugging Face Hub, or a local folder with the same layout, through `datasets`."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtcl.errors import DataError, TaskError, root_cause

if TYPE_CHECKING:
    import pyarrow as pa


def check_revision(repository: str, revision: str) -> None:
    """Raise `TaskError` for a revision whose rows can change: a branch, a tag, a short hash."""
    if not isinstance(revision, str) or not re.fullmatch("[0-9a-f]{40}", revision):
        raise TaskError(
            f"Hub({repository!r}, revision={revision!r}): give the full commit hash, 40 hexadecimal digits in lower "
            f"case; the data set's page on the Hub lists it under its commits (for a local folder, give any)"
        )


def read_data_set(repository: str, revision: str, *, config: str | None, split: str) -> pa.Table:
    """The rows of a split. Raises a `DataError` that names repository, revision and split."""
    folder = Path(repository)
    try:
        if not folder.is_dir():
            return _loaded(repository, name=config, split=split, revision=revision)
        with _plain_copy(folder) as (copy, converted):
            return _loaded(str(copy), name=config, split=split, cache_dir=str(converted))
    except Exception as error:  # datasets raises a different type for each format and stage
        raise DataError(f"cannot read {repository}@{revision} split {split!r}: {root_cause(error)}") from error


def _loaded(path: str, **options: Any) -> pa.Table:
    import datasets

    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(path, **options).with_format("arrow")[:]
    finally:
        if not bars:
            datasets.enable_progress_bars()


@contextmanager
def _plain_copy(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Links to the folder's files under a plain name, and a folder for the files that `datasets` writes. Both are
    removed at the end.

    The plain name is needed because `datasets` reads a path as a pattern: `run[12]` becomes `run1`. It also never
    removes its converted files. They stay memory-mapped, and on Windows a mapped file cannot be removed.
    """
    import datasets

    cache = Path(datasets.config.HF_DATASETS_CACHE)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mtcl-", dir=cache, ignore_cleanup_errors=True) as made:
        copy = Path(made) / "data"
        copy.mkdir()
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            link = copy / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            try:
                link.symlink_to(path.resolve())
            except OSError:  # Windows without the privilege
                shutil.copy2(path, link)
        yield copy, Path(made) / "converted"
