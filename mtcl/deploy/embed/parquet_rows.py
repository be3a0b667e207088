"""Rows of Parquet files, read page by page: of a large row group, only what is decoded is in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtcl.deploy.embed import rows
from mtcl.deploy.embed.rows import Bad, Window, both_ends, check_columns, printable, reason_against
from mtcl.deploy.embed.settings import ID
from mtcl.deploy.embed.shards import Columns, Shard
from mtcl.errors import DataError, root_cause
from mtcl.task.roles import is_text

ROWS_AT_ONCE = 1024
"""Rows that are decoded at once."""


@dataclass
class ParquetRows:
    """Rows of a Parquet file, read page by page."""

    path: Path
    columns: Columns
    file: Any
    size: int
    row: int = 0
    _batches: Iterator[Any] | None = None
    _rest: Any = None

    @classmethod
    @contextmanager
    def opened(cls, shard: Shard, columns: Columns) -> Iterator[ParquetRows]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = shard.path
        assert path is not None
        try:
            file = pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"cannot read {path}: {root_cause(error)}") from error
        with file:
            schema = file.schema_arrow
            if twice := [name for name in columns.names if schema.names.count(name) > 1]:
                raise DataError(f"{shard} has two columns with the same name: {twice[0]}")
            check_columns(shard, columns, schema.names)
            _check_parquet_types(path, columns, schema)
            yield cls(path, columns, file, path.stat().st_size)

    @property
    def bytes_read(self) -> int:
        return int(self.size * self.row / max(1, self.file.metadata.num_rows))

    def skip(self, num_rows: int) -> None:
        """Whole row groups are not even read."""
        left, groups = self.row + num_rows, list(range(self.file.metadata.num_row_groups))
        while groups and left >= (here := self.file.metadata.row_group(groups[0]).num_rows):
            left -= here
            del groups[0]
        self.row += num_rows
        self._batches, self._rest = self._read(groups), None
        while left > 0 and (batch := self._next()) is not None:
            self._rest = batch.slice(min(left, len(batch)))
            left -= len(batch) - len(self._rest)

    def take(self, num_rows: int) -> Window | None:
        import pyarrow as pa

        parts, start, characters = [], self.row, 0
        while (
            self.row - start < num_rows and characters < rows.WINDOW_CHARACTERS and (batch := self._next()) is not None
        ):
            batch = batch.slice(0, num_rows - (self.row - start))
            sizes = _sizes(batch[self.columns.text])
            over = int((sizes.cumsum() + characters < rows.WINDOW_CHARACTERS).sum()) + 1
            part = batch.slice(0, over)
            characters += int(sizes[:over].sum())
            self._rest = self._rest.slice(len(part))
            self.row += len(part)
            parts.append(part)
        return self._window(start, pa.concat_tables(parts)) if parts else None

    def _next(self) -> Any:
        """The rows that are decoded and not used yet; they stay in `_rest`. None at the end."""
        import pyarrow as pa

        if self._batches is None:
            self._batches = self._read(list(range(self.file.metadata.num_row_groups)))
        while self._rest is None or not len(self._rest):
            try:
                batch = next(self._batches, None)
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"cannot read {self.path} after row {self.row}: {root_cause(error)}") from error
            if batch is None:
                return None
            self._rest = pa.Table.from_batches([batch])
        return self._rest

    def _read(self, groups: list[int]) -> Iterator[Any]:
        if not groups:
            return iter(())
        batches: Iterator[Any] = self.file.iter_batches(ROWS_AT_ONCE, row_groups=groups, columns=self.columns.names)
        return batches

    def _window(self, start: int, table: Any) -> Window:
        import numpy as np
        import pyarrow as pa

        columns = self.columns
        texts = _texts(table[columns.text])
        numbers = pa.chunked_array([pa.array(np.arange(start, start + len(table)))])
        ids = numbers if columns.id is None else _plain(table[columns.id])
        given = [None] * len(table) if columns.id is None else _texts(ids) if is_text(ids.type) else ids.to_pylist()
        bad, good = [], []
        for place, text in enumerate(texts):
            reason = reason_against(text, columns.text) or (columns.id and _reason_against_id(given[place], columns.id))
            if reason:
                bad.append(Bad(start + place, reason, id=printable(given[place])))
            else:
                good.append(place)
        others = pa.table({ID: ids, **{name: _plain(table[name]) for name in columns.copied}})
        if bad:
            others = others.take(pa.array(good, type=pa.int64()))
        usable = [both_ends(str(texts[place])) for place in good]
        return Window(start, start + len(table), usable, others, bad)


def _reason_against_id(given: Any, column: str) -> str:
    """Why a value cannot be an id; a whole number of any type of the file can."""
    return "" if isinstance(given, int) else reason_against(given, column)


def _check_parquet_types(path: Path, columns: Columns, schema: Any) -> None:
    import pyarrow as pa

    for name, wanted in ((columns.text, "text"), *([(columns.id, "text or whole numbers")] if columns.id else [])):
        kind = schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        fits = is_text(kind) or pa.types.is_null(kind) or (name == columns.id and pa.types.is_integer(kind))
        if not fits:
            advice = "save it as text" if name == columns.id else "name a column of texts with --text"
            raise DataError(f"{path}: column {name!r} holds {kind}, not {wanted}: {advice}")


def _plain(column: Any) -> Any:
    """Dictionaries decoded, and text as large strings: types that can be joined and taken from."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.large_string()) if is_text(column.type) else column


def _as_text(column: Any) -> Any:
    """`_plain`; a column of nulls without a type becomes text."""
    import pyarrow as pa

    return _plain(column.cast(pa.large_string()) if pa.types.is_null(column.type) else column)


def _sizes(column: Any) -> Any:
    """Bytes of each text, as numpy; 0 for null."""
    import pyarrow.compute as pc

    return pc.fill_null(pc.binary_length(_as_text(column)), 0).to_numpy().astype("int64")


def _texts(column: Any) -> list[Any]:
    """Python strings or None; a text that is not UTF-8 comes with surrogates, which `reason_against` finds."""
    import pyarrow as pa

    column = _as_text(column)
    try:
        found: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        raw = column.cast(pa.large_binary()).to_pylist()
        found = [value if value is None else value.decode("utf-8", "surrogateescape") for value in raw]
    return found
