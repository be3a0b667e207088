"""Keeps rows and texts that are too large for memory in unnamed files on disk.

Arrow's arrays on such a file are memory-mapped: the kernel reads a page when it is needed, and drops it when memory is
short. A file without a name disappears with the last array that uses it, also if the process is killed. These files are
in the cache folder, because the system's temporary folder is often small, or itself in memory.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import IO, TYPE_CHECKING
from weakref import WeakSet

from mtcl.errors import DataError
from mtcl.files import cache_folder

if TYPE_CHECKING:
    import pyarrow as pa

IN_MEMORY = 1 << 28
"""Bytes that stay in memory."""
ROWS = 1 << 17
"""Rows of a large table that are handled at a time."""
_maps: WeakSet[mmap.mmap] = WeakSet()
"""The files that are mapped."""


class Spill:
    """A list of tables. When those in memory have more than `IN_MEMORY` bytes, they move to disk."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []
        self._num_done = self._size = 0

    def add(self, table: pa.Table, *, is_spilled: bool = False) -> None:
        """Append a table; one that is on disk already stays there."""
        if is_spilled:
            self._flush()
        self._tables.append(table)
        if is_spilled:
            self._num_done = len(self._tables)
            return
        self._size += table.nbytes
        if self._size > IN_MEMORY:
            self._flush()

    @property
    def is_used(self) -> bool:
        """Whether some of the tables are on disk."""
        return self._num_done > 0

    def tables(self) -> list[pa.Table]:
        """All tables with their rows in order. Tables with equal columns may have been joined."""
        return self._tables

    def _flush(self) -> None:
        waiting = self._tables[self._num_done :]
        self._tables[self._num_done :] = [_on_disk(list(same)) for _, same in groupby(waiting, lambda one: one.schema)]
        self._num_done, self._size = len(self._tables), 0
        let_go()


class Growing:
    """Bytes that are written piece by piece and then read as one buffer."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._file: IO[bytes] | None = None

    def write(self, piece: bytes) -> None:
        """Append bytes. Raises `DataError` if the disk is full."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > IN_MEMORY:
            with _folder_in_errors():
                self._file = self._file or _nameless()
                self._file.writelines(self._pieces)
            self._pieces, self._size = [], 0
            let_go()

    def buffer(self) -> pa.Buffer:
        """All bytes."""
        import pyarrow as pa

        if self._file is None:
            return pa.py_buffer(b"".join(self._pieces))
        with _folder_in_errors():
            self._file.writelines(self._pieces)
        self._pieces, self._size = [], 0
        return _mapped(self._file)


def passing(chunks: Iterable[pa.Array]) -> Iterator[pa.Array]:
    """The chunks of a column one by one. Mapped pages that were read are released now and then."""
    size = 0
    for chunk in chunks:
        yield chunk
        size += chunk.nbytes
        if size > IN_MEMORY:
            let_go()
            size = 0


def let_go() -> None:
    """Give mapped pages back: they count as this process's memory, although the kernel could drop them at any time."""
    for one in list(_maps) if hasattr(mmap, "MADV_DONTNEED") else ():
        one.madvise(mmap.MADV_DONTNEED)


def kept_rows(rows: pa.Table, is_kept: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The rows with True; null is False. The result of a large table is on disk."""
    import pyarrow as pa

    if rows.nbytes <= IN_MEMORY:
        return rows.filter(is_kept)
    spill = Spill()
    for start in range(0, len(rows), ROWS):
        spill.add(rows.slice(start, ROWS).filter(is_kept.slice(start, ROWS)))
    return pa.concat_tables(spill.tables())


def _on_disk(tables: list[pa.Table]) -> pa.Table:
    import pyarrow as pa

    with _folder_in_errors(), _nameless() as file:
        with pa.ipc.new_stream(file, tables[0].schema) as writer:
            writer.write_table(pa.concat_tables(tables).combine_chunks(), max_chunksize=ROWS)
        return pa.ipc.open_stream(pa.BufferReader(_mapped(file))).read_all()


def _nameless() -> IO[bytes]:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=folder)


def _mapped(file: IO[bytes]) -> pa.Buffer:
    import pyarrow as pa

    file.flush()
    found = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    _maps.add(found)
    return pa.py_buffer(found)


@contextmanager
def _folder_in_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"rows that do not fit into memory cannot be written to {cache_folder()}: {error.strerror or error} (set "
            "MTCL_CACHE to a folder on a disk with more space)"
        ) from error
