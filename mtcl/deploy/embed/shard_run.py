"""One input from its rows to its file of vectors.

Several processes may work on one input: each reads all of its rows, and computes the windows that no other one has
computed or works on. The last one to reach the end of the input finds all windows done, and writes the file.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

from mtcl.deploy.embed.claims import Claim, held
from mtcl.deploy.embed.computing import Computer, Distinct
from mtcl.deploy.embed.numbers import Stored
from mtcl.deploy.embed.progress import OnProgress
from mtcl.deploy.embed.reading import opened
from mtcl.deploy.embed.rows import OpenInput, Window
from mtcl.deploy.embed.shards import Columns, Shard
from mtcl.deploy.embed.tokens import TokenProcess
from mtcl.deploy.embed.writing import Part, ShardFiles
from mtcl.deploy.vectors import ShardRecord
from mtcl.encoder.malloc_trim import trim_heap
from mtcl.errors import DataError

MANY_BAD = 1000
"""An input that begins with this many bad rows is refused."""
log = logging.getLogger("mtcl")


def embed_shard(
    files: ShardFiles,
    computer: Computer,
    columns: Columns,
    tokenizing: TokenProcess,
    report: OnProgress,
    *,
    is_first: bool = True,
) -> ShardRecord | None:
    """Compute an input's windows that are not done, and write its file of vectors if they are all done afterwards.

    `is_first` is for the process that holds the input's lock; others help. Returns None if another process finishes the
    input. Raises `DataError` for an input that cannot be read, or that begins with many bad rows and no good one.
    """
    if is_first:
        files.remove_stale_parts()
    parts = files.finished_parts()
    whole: tuple[Window, Stored, int] | None = None
    with opened(files.shard, columns) as rows, closing(_Windows(files, rows, computer)) as windows:
        if parts:
            windows.skip(parts)
            if is_first:
                log.info("%s: continuing at row %s", files.shard, f"{windows.num_rows:,}")
                report(0, rows.bytes_read)
        for one, tokens in tokenizing.each(windows.claimed(), lambda one: one.distinct.texts):
            vectors = computer.vectors(tokens)[one.distinct.of_row]
            stored = files.settings.numbers.encode(vectors)
            num_full = int((tokens.lengths()[one.distinct.of_row] >= files.settings.max_length).sum())
            if one.is_whole:
                whole = (one.window, stored, num_full)
            else:
                files.write_part(one.window, stored, num_full)
                windows.release(one.window)
            report(one.window.stop - one.window.start, one.read)
            trim_heap()
        return _finish(files, windows.num_rows, whole)


def _finish(files: ShardFiles, num_rows: int, whole: tuple[Window, Stored, int] | None) -> ShardRecord | None:
    """Write the file if all of the input's rows are in parts or in the only window, and nobody else does."""
    parts = files.finished_parts()
    if whole is None and (parts[-1].stop if parts else 0) != num_rows:
        return None
    with held(files.finish_lock) as is_mine:
        return files.finish(parts, whole) if is_mine and not files.is_finished else None


@dataclass(frozen=True)
class _Work:
    """A window that this process computes; `is_whole` if it is the only one of its input."""

    window: Window
    distinct: Distinct
    is_whole: bool
    read: int


@dataclass
class _Windows:
    """Reads an input to its end, and claims windows that nobody has computed or works on."""

    files: ShardFiles
    rows: OpenInput
    computer: Computer
    num_rows: int = 0
    """The part of the input that has been read; at the end, all of it."""
    _claims: dict[int, Claim] = field(default_factory=dict)
    _all_bad_until: int = 0
    """No row before this one is good."""

    def skip(self, parts: list[Part]) -> None:
        """Leave out the windows at the beginning that are done."""
        self.num_rows = parts[-1].stop
        self._all_bad_until = 0 if any(part.num_good for part in parts) else self.num_rows
        self.rows.skip(self.num_rows)

    def claimed(self) -> Iterator[_Work]:
        """The windows that are this process's, until `release`."""
        size, before = self.files.settings.window, self.rows.bytes_read
        window = self.rows.take(size)
        while window is not None:
            self._check(window)
            now = self.rows.bytes_read
            following = self.rows.take(size)
            self.num_rows = window.stop
            if self._claim(window):
                for note in window.notes:
                    log.warning("%s: %s", self.files.shard, note)
                is_whole = window.start == 0 and following is None
                yield _Work(window, self.computer.distinct(window.texts), is_whole, now - before)
            window, before = following, now

    def _check(self, window: Window) -> None:
        """A few bad rows are told like any others; after many, the column is probably the wrong one."""
        if window.start == self._all_bad_until and not window.texts:
            self._all_bad_until = window.stop
            if window.stop >= MANY_BAD or self.files.shard.path is None:
                check_usable(self.files.shard, window)

    def _claim(self, window: Window) -> bool:
        if self.files.has_part(window):
            return False
        claim = Claim.take(self.files.window_lock(window.start))
        if claim is None:
            return False
        if self.files.has_part(window) or self.files.is_finished:  # since it was looked at
            claim.release()
            return False
        self._claims[window.start] = claim
        return True

    def release(self, window: Window) -> None:
        """The window's part is written."""
        self._claims.pop(window.start).release()

    def close(self) -> None:
        """Give back what was claimed and not computed, after an error."""
        while self._claims:
            self._claims.popitem()[1].release()


def check_usable(shard: Shard, window: Window) -> None:
    """Raise `DataError` if a window, up to which all rows are bad, has only bad rows too: the column may be wrong."""
    if window.missing:
        raise DataError(f"{shard} has {window.missing}")
    if not window.texts:
        first = window.bad[0]
        place = f"row {first.row}" if first.line is None else f"line {first.line}"
        raise DataError(
            f"{shard}: none of the first {window.stop:,} rows can be embedded ({place}: {first.reason}): "
            "check --text and --id"
        )


def first_window(shard: Shard, columns: Columns, num_rows: int) -> Window | None:
    """The first rows of an input; None if it has none."""
    with opened(shard, columns) as rows:
        return rows.take(num_rows)
