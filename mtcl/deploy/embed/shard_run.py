"""One input from its rows to its file of vectors."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from mtcl.deploy.embed.computing import Computer, Distinct
from mtcl.deploy.embed.numbers import Stored
from mtcl.deploy.embed.progress import Report
from mtcl.deploy.embed.reading import opened
from mtcl.deploy.embed.rows import Rows, Window
from mtcl.deploy.embed.shards import Columns, Shard
from mtcl.deploy.embed.tokens import TokenProcess
from mtcl.deploy.embed.writing import ShardFiles
from mtcl.deploy.vectors import ShardRecord
from mtcl.encoder.malloc_trim import trim_heap
from mtcl.errors import DataError

log = logging.getLogger("mtcl")


@dataclass(frozen=True)
class _Work:
    """A window that is on its way."""

    window: Window
    distinct: Distinct
    is_last: bool
    read: int


def embed_shard(
    files: ShardFiles, computer: Computer, columns: Columns, tokenizing: TokenProcess, report: Report
) -> ShardRecord:
    """Write an input's file of vectors, beginning after the windows that are done. Raises `DataError` for an input that
    cannot be read, or whose first window has no good row.
    """
    parts = files.finished_parts()
    last: tuple[Window, Stored] | None = None
    with opened(files.shard, columns) as rows:
        if parts:
            rows.skip(parts[-1].stop)
            log.info("%s: continuing at row %s", files.shard, f"{parts[-1].stop:,}")
            report(0, rows.bytes_read)
        work = _work(rows, files, computer)
        for one, tokens in tokenizing.each(work, lambda one: one.distinct.texts):
            vectors = computer.vectors(tokens)[one.distinct.of_row]
            stored = files.settings.numbers.encode(vectors)
            if one.is_last and not parts:
                last = (one.window, stored)
            else:
                parts.append(files.write_part(one.window, stored))
            report(one.window.stop - one.window.start, one.read)
            trim_heap()
    return files.finish(parts, last)


def _work(rows: Rows, files: ShardFiles, computer: Computer) -> Iterator[_Work]:
    """The windows; each is known to be the last one or not."""
    before = rows.bytes_read
    window = rows.take(files.settings.window)
    if window is not None and window.start == 0:
        check_usable(files.shard, window)
    while window is not None:
        following = rows.take(files.settings.window)
        now = rows.bytes_read
        yield _Work(window, computer.distinct(window.texts), following is None, now - before)
        window, before = following, now


def check_usable(shard: Shard, window: Window) -> None:
    """Raise `DataError` if an input begins with a window of bad rows only: the wrong column was chosen, say."""
    if not window.texts:
        first = window.bad[0]
        place = f"row {first.row}" if first.line is None else f"line {first.line}"
        raise DataError(
            f"{shard}: none of the first {len(window.bad):,} rows can be embedded ({place}: {first.reason}): "
            "check --text and --id"
        )


def sample_texts(shard: Shard, columns: Columns, num_rows: int) -> list[str]:
    """The first texts of an input."""
    with opened(shard, columns) as rows:
        window = rows.take(num_rows)
    return [] if window is None else window.texts
