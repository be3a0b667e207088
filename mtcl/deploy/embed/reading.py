"""The rows of one input, window by window: only the named columns, in bounded memory.

A window is what is encoded and written together. Where it ends depends on the rows before it only, not on how a file
is read, so an interrupted command cuts the same windows when it continues. A row that cannot be used is left out, with
the reason: a missing or empty text, a wrong type, a damaged line.

A column's type is never guessed from its first rows. JSONL: ids are integers or text, and if a file has both, all
become text. CSV: ids and copied columns are text as it is written (007). Parquet: types of the file.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from mtcl.data.tokenizer import MAX_CHARACTERS
from mtcl.deploy.embed.settings import ID
from mtcl.deploy.embed.shards import Columns, Shard
from mtcl.errors import DataError, nearest, root_cause
from mtcl.task.reading.joined import as_text
from mtcl.task.roles import is_text

if TYPE_CHECKING:
    import pyarrow as pa

WINDOW_CHARACTERS = 1 << 24
"""A window ends at its number of rows, or before if its texts have this many characters together."""
PARQUET_ROWS = 1024
"""Rows of a Parquet file that are decoded at once."""
MAX_CELL = 1 << 28
"""Characters of a CSV file's cell."""
INT64 = range(-(1 << 63), 1 << 63)


@dataclass(frozen=True)
class Bad:
    """A row without a vector. `row` counts from 0; `line` is that of the file, from 1, where it has lines."""

    row: int
    reason: str
    line: int | None = None
    id: int | str | None = None

    def plain(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Window:
    """Rows `start` to `stop` of an input: texts and other columns (`id` first) of the good ones, and the bad ones."""

    start: int
    stop: int
    texts: list[str]
    rows: pa.Table
    bad: list[Bad]


class Rows(Protocol):
    """An open input."""

    def take(self, num_rows: int) -> Window | None:
        """The next window of at most `num_rows`; None at the end."""

    def skip(self, num_rows: int) -> None:
        """Leave out rows that are done."""

    @property
    def bytes_read(self) -> int:
        """Of the file's size, for the progress."""


@contextmanager
def opened(shard: Shard, columns: Columns) -> Iterator[Rows]:
    """Open an input. Raises `DataError` if a column is missing or has an unsuitable type, or the file is damaged."""
    if shard.suffix == ".parquet":
        assert shard.path is not None
        with _ParquetRows.opened(shard.path, columns) as rows:
            yield rows
        return
    with _lines_of(shard) as (lines, position):
        kind = shard.suffix.removesuffix(".gz")
        if kind == ".csv":
            records = _csv_records(shard, lines, columns)
        else:
            records = map(_jsonl_record if kind == ".jsonl" else _text_record, _numbered(lines))
        yield _LineRows(shard, columns, records, position)


class Position:
    """Bytes read of a file, compressed ones if it is."""

    def __init__(self, file: IO[bytes] | None) -> None:
        self.file = file

    def __call__(self) -> int:
        return 0 if self.file is None else self.file.tell()


@contextmanager
def _lines_of(shard: Shard) -> Iterator[tuple[Iterator[bytes], Position]]:
    """The lines as bytes, without a byte order mark."""
    if shard.path is None:
        yield _without_mark(sys.stdin.buffer), Position(None)
        return
    with shard.path.open("rb") as file:
        if shard.suffix.endswith(".gz"):
            with gzip.open(file) as unpacked:
                yield _without_mark(unpacked), Position(file)
        else:
            yield _without_mark(file), Position(file)


def _without_mark(file: Iterable[bytes]) -> Iterator[bytes]:
    lines = iter(file)
    for first in islice(lines, 1):
        yield first.removeprefix(codecs.BOM_UTF8)
    yield from lines


@dataclass(frozen=True)
class _Record:
    """A row as a file of lines has it: its values by column, or why there are none."""

    line: int
    values: dict[str, Any] | None
    reason: str = ""


def _numbered(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank."""
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _jsonl_record(numbered: tuple[int, bytes]) -> _Record:
    number, line = numbered
    try:
        row = json.loads(line)
    except UnicodeDecodeError:
        return _Record(number, None, "not UTF-8")
    except (ValueError, RecursionError) as error:
        return _Record(number, None, f"not JSON: {error}")
    if not isinstance(row, dict):
        return _Record(number, None, f"not a JSON object: {row!r:.60}")
    return _Record(number, row)


def _text_record(numbered: tuple[int, bytes]) -> _Record:
    number, line = numbered
    try:
        return _Record(number, {"text": line.decode("utf-8").rstrip("\r\n")})
    except UnicodeDecodeError:
        return _Record(number, None, "not UTF-8")


def _csv_records(shard: Shard, lines: Iterable[bytes], columns: Columns) -> Iterator[_Record]:
    """Rows of a CSV file; an empty cell of a column that is copied is null. A blank line is no row."""
    csv.field_size_limit(MAX_CELL)
    decoded = (line.decode("utf-8", errors="surrogateescape") for line in lines)
    table = csv.reader(decoded, strict=True)
    header = next(table, None)
    if header is None:
        return
    if twice := [name for name in columns.names if header.count(name) > 1]:
        raise DataError(f"{shard} has two columns with the same name: {twice[0]}")
    _check_there(shard, columns, header)
    places = {name: header.index(name) for name in columns.names}
    while True:
        line = table.line_num + 1
        try:
            cells = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            yield _Record(line, None, f"not CSV: {error}")
            continue
        if not cells:
            continue
        if len(cells) != len(header):
            yield _Record(line, None, f"{len(cells)} cells, and the header has {len(header)}")
            continue
        values = {name: cells[place] or None for name, place in places.items()}
        yield _Record(line, values)


class _LineRows:
    """Rows of a file of lines: JSONL, CSV or plain text."""

    def __init__(self, shard: Shard, columns: Columns, records: Iterator[_Record], position: Position) -> None:
        self.shard, self.columns, self.records, self.position = shard, columns, records, position
        self.row = 0

    @property
    def bytes_read(self) -> int:
        return self.position()

    def skip(self, num_rows: int) -> None:
        with _readable(self.shard):
            self.row += sum(1 for _ in islice(self.records, num_rows))

    def take(self, num_rows: int) -> Window | None:
        found, start, characters = _Collected(self.columns), self.row, 0
        with _readable(self.shard):
            for record in islice(self.records, num_rows):
                found.add(self.row, record)
                self.row += 1
                characters += len(found.texts[-1]) if found.texts else 0
                if characters >= WINDOW_CHARACTERS:
                    break
        if self.row == start:
            return None
        if start == 0 and found.seen and self.columns.text not in found.seen and self.shard.suffix.startswith(".jsonl"):
            known = nearest(self.columns.text, found.seen)
            raise DataError(f"{self.shard} has no column {self.columns.text!r}{known}")
        return found.window(start, self.row)


class _Collected:
    """The rows of a window so far."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.texts: list[str] = []
        self.ids: list[int | str] = []
        self.kept: dict[str, list[Any]] = {name: [] for name in columns.copied}
        self.bad: list[Bad] = []
        self.seen: dict[str, None] = {}

    def add(self, row: int, record: _Record) -> None:
        if record.values is None:
            self.bad.append(Bad(row, record.reason, record.line))
            return
        values, columns = record.values, self.columns
        self.seen.update(dict.fromkeys(values))
        text = values.get(columns.text)
        given = row if columns.id is None else values.get(columns.id)
        reason = reason_against(text, columns.text) or (columns.id and _reason_against_id(given, columns.id))
        if reason:
            known = given if isinstance(given, int | str) and columns.id else None
            self.bad.append(Bad(row, reason, record.line, _printable(known)))
            return
        assert isinstance(text, str)
        assert isinstance(given, int | str)
        self.texts.append(text[:MAX_CHARACTERS])
        self.ids.append(given)
        for name, column in self.kept.items():
            column.append(values.get(name))

    def window(self, start: int, stop: int) -> Window:
        import pyarrow as pa

        columns = {ID: _array(self.ids), **{name: _array(values) for name, values in self.kept.items()}}
        return Window(start, stop, self.texts, pa.table(columns), self.bad)


def no_rows(copied: Iterable[str]) -> pa.Table:
    """The columns of a window without rows."""
    import pyarrow as pa

    text = pa.array([], type=pa.large_string())
    return pa.table({ID: pa.array([], type=pa.int64()), **dict.fromkeys(copied, text)})


def reason_against(text: object, column: str) -> str:
    """Why a value cannot be embedded; empty if it can."""
    if text is None:
        return f"no {column}"
    if not isinstance(text, str):
        return f"{column} is {text!r:.40}, not text"
    if not text or text.isspace():
        return f"{column} is empty"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return f"{column} is not UTF-8"
    return ""


def _reason_against_id(given: object, column: str) -> str:
    if given is None:
        return f"no {column}"
    if isinstance(given, bool) or not isinstance(given, int | str) or (isinstance(given, int) and given not in INT64):
        return f"{column} is {given!r:.40}, not text or a whole number"
    return reason_against(given, column) if isinstance(given, str) and not given.isspace() else ""


def _printable(given: int | str | None) -> int | str | None:
    return given.encode("utf-8", "replace").decode("utf-8") if isinstance(given, str) else given


def _array(values: list[Any]) -> pa.Array:
    """In the type that all values have; as text if they have none in common."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if kinds == {str}:
        return pa.array([value and _printable(value) for value in values], type=pa.large_string())
    if kinds <= {int} or kinds <= {int, float} or kinds == {bool}:
        try:
            return pa.array(values)
        except (pa.ArrowException, OverflowError):
            pass
    return pa.array(
        [value if value is None else _printable(as_text(value)) for value in values], type=pa.large_string()
    )


@contextmanager
def _readable(shard: Shard) -> Iterator[None]:
    """Errors of a damaged file (a cut .gz, say) as `DataError`."""
    import zlib

    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {shard}: {root_cause(error)}") from error


def _check_there(shard: Shard | Path, columns: Columns, there: Iterable[str]) -> None:
    names = list(there)
    if missing := [name for name in columns.names if name not in names]:
        raise DataError(f"{shard} has no column {missing[0]!r}{nearest(missing[0], names)}")


@dataclass
class _ParquetRows:
    """Rows of a Parquet file, read page by page."""

    path: Path
    columns: Columns
    file: Any
    size: int
    row: int = 0
    _batches: Iterator[Any] | None = None
    _rest: Any = None
    _skipped: int = field(default=0)

    @classmethod
    @contextmanager
    def opened(cls, path: Path, columns: Columns) -> Iterator[_ParquetRows]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"cannot read {path}: {root_cause(error)}") from error
        with file:
            schema = file.schema_arrow
            _check_there(path, columns, schema.names)
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
        while self.row - start < num_rows and characters < WINDOW_CHARACTERS and (batch := self._next()) is not None:
            batch = batch.slice(0, num_rows - (self.row - start))
            sizes = _sizes(batch[self.columns.text])
            over = int((sizes.cumsum() + characters < WINDOW_CHARACTERS).sum()) + 1
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
        batches: Iterator[Any] = self.file.iter_batches(PARQUET_ROWS, row_groups=groups, columns=self.columns.names)
        return batches

    def _window(self, start: int, table: Any) -> Window:
        import numpy as np
        import pyarrow as pa

        columns = self.columns
        texts = _texts(table[columns.text])
        numbers = pa.chunked_array([pa.array(np.arange(start, start + len(table)))])
        ids = numbers if columns.id is None else _plain(table[columns.id])
        lacks_id = ids.is_null().to_pylist()
        bad, good = [], []
        for place, text in enumerate(texts):
            reason = reason_against(text, columns.text) or (f"no {columns.id}" if lacks_id[place] else "")
            if reason:
                known = None if columns.id is None else ids[place].as_py()
                bad.append(Bad(start + place, reason, id=known))
            else:
                good.append(place)
        rows = pa.table({ID: ids, **{name: _plain(table[name]) for name in columns.copied}})
        if bad:
            rows = rows.take(pa.array(good, type=pa.int64()))
        usable = [str(texts[place])[:MAX_CHARACTERS] for place in good]
        return Window(start, start + len(table), usable, rows, bad)


def _check_parquet_types(path: Path, columns: Columns, schema: Any) -> None:
    import pyarrow as pa

    for name, wanted in ((columns.text, "text"), *([(columns.id, "text or whole numbers")] if columns.id else [])):
        kind = schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        fits = is_text(kind) or (name == columns.id and pa.types.is_integer(kind))
        if not fits:
            raise DataError(f"{path}: column {name!r} holds {kind}, not {wanted}")


def _plain(column: Any) -> Any:
    """Dictionary and string-view columns in types that can be joined and taken from."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.large_string()) if is_text(column.type) else column


def _sizes(column: Any) -> Any:
    """Bytes of each text, as numpy; 0 for null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    column = column.cast(pa.large_string()) if column.type == pa.string_view() else column
    return pc.fill_null(pc.binary_length(column), 0).to_numpy().astype("int64")


def _texts(column: Any) -> list[object]:
    """Python strings; a text that is not UTF-8 comes with surrogates, which `reason_against` finds."""
    import pyarrow as pa

    column = _plain(column)
    try:
        found: list[object] = column.to_pylist()
    except UnicodeDecodeError:
        raw = column.cast(pa.large_binary()).to_pylist()
        found = [value if value is None else value.decode("utf-8", "surrogateescape") for value in raw]
    return found
