"""Rows of files of lines: JSONL, CSV and plain text, also compressed. Blank lines are skipped."""

from __future__ import annotations

import codecs
import csv
import gzip
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

from mtcl.data.tokenizer import MAX_CHARACTERS
from mtcl.deploy.embed import rows
from mtcl.deploy.embed.rows import Bad, Window, both_ends, check_columns, printable, reason_against, reason_against_id
from mtcl.deploy.embed.settings import ID
from mtcl.deploy.embed.shards import Columns, Shard
from mtcl.errors import DataError, nearest, root_cause
from mtcl.task.reading.encoding import MARKS
from mtcl.task.reading.joined import as_text
from mtcl.task.reading.json_text import json_value

if TYPE_CHECKING:
    import pyarrow as pa

MAX_CELL = 1 << 28
"""The most characters of a cell in a CSV file."""
MANY_LINES = 1000
"""A row of a CSV file with more lines gets a warning."""


@contextmanager
def opened_lines(shard: Shard, columns: Columns) -> Iterator[LineRows]:
    """Open a file of lines, or standard input."""
    with _lines_of(shard) as (lines, position):
        kind = shard.suffix.removesuffix(".gz")
        if kind == ".csv":
            records = _csv_records(shard, _at_any_end(lines), columns)
        elif kind == ".jsonl":
            records = map(_jsonl_record, _numbered(_at_any_end(lines)))
        else:
            records = map(partial(_text_record, columns.text), _numbered(lines))
        yield LineRows(shard, columns, records, position)


class Position:
    """The number of bytes read of a file (compressed bytes of a compressed file)."""

    def __init__(self, file: IO[bytes] | None) -> None:
        self.file = file

    def __call__(self) -> int:
        return 0 if self.file is None else self.file.tell()


@contextmanager
def _lines_of(shard: Shard) -> Iterator[tuple[Iterator[bytes], Position]]:
    """The lines as bytes, without a byte order mark."""
    if shard.path is None:
        if sys.stdin is None:  # `mtcl embed ... - <&-`
            raise DataError(f"{shard} is closed: give files, or send rows to it")
        yield _without_mark(sys.stdin.buffer, shard), Position(None)
        return
    with shard.path.open("rb") as file:
        if shard.suffix.endswith(".gz"):
            with gzip.open(file) as unpacked:
                yield _without_mark(unpacked, shard), Position(file)
        else:
            yield _without_mark(file, shard), Position(file)


def _without_mark(file: Iterable[bytes], shard: Shard) -> Iterator[bytes]:
    """Raises `DataError` for a file whose mark says that it has another encoding than UTF-8."""
    lines = iter(file)
    for first in islice(lines, 1):
        if other := MARKS.get(first[:2]):
            raise DataError(f"cannot read {shard}: it is {other}: save it as UTF-8")
        first = first.removeprefix(codecs.BOM_UTF8)
        if first.endswith(b"\n"):
            yield first
        else:  # the only line, unless the lines end with carriage returns, as on old Macs
            yield from (line + b"\n" for line in first.split(b"\r"))
    yield from lines


def _at_any_end(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines divided at each line end of any system, a carriage return alone too; they may differ within a file.

    The lines of plain text are not divided so: a text may have a carriage return in it.
    """
    return (line for several in lines for line in several.splitlines(keepends=True))


@dataclass(frozen=True)
class _Record:
    """A row as a file of lines has it: its values by column, or why there are none. `note` is a warning."""

    line: int
    values: dict[str, Any] | None
    reason: str = ""
    note: str = ""


def _numbered(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank."""
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _jsonl_record(numbered: tuple[int, bytes]) -> _Record:
    number, line = numbered
    try:
        row = json_value(line)
    except UnicodeDecodeError:
        return _Record(number, None, "not UTF-8")
    except (ValueError, RecursionError) as error:
        return _Record(number, None, f"not JSON: {error}")
    if not isinstance(row, dict):
        return _Record(number, None, f"not a JSON object: {row!r:.60}")
    return _Record(number, row)


def _text_record(column: str, numbered: tuple[int, bytes]) -> _Record:
    number, line = numbered
    try:
        return _Record(number, {column: line.decode("utf-8").rstrip("\r\n")})
    except UnicodeDecodeError:
        return _Record(number, None, "not UTF-8")


def _csv_records(shard: Shard, lines: Iterable[bytes], columns: Columns) -> Iterator[_Record]:
    """Rows of a CSV file without blank lines; an empty cell of a copied column is null."""
    csv.field_size_limit(MAX_CELL)
    decoded = (line.decode("utf-8", errors="surrogateescape") for line in lines)
    table = csv.reader(decoded, strict=True)
    header = next(table, None)
    if header is None:
        return
    if twice := [name for name in columns.names if header.count(name) > 1]:
        raise DataError(f"{shard} has two columns with the same name: {twice[0]}")
    check_columns(shard, columns, header)
    places = {name: header.index(name) for name in columns.names}
    while True:
        line = table.line_num + 1
        try:
            cells = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            yield _unreadable(line, table.line_num, str(error))
            continue
        if not cells:
            continue
        if len(cells) != len(header):
            reason = f"{len(cells)} cells, and the header has {len(header)}"
            yield _Record(line, None, reason, _note(line, table.line_num))
            continue
        values = {name: cells[place] or None for name, place in places.items()}
        yield _Record(line, values, note=_note(line, table.line_num))


def _note(first: int, last: int) -> str:
    if last - first < MANY_LINES:
        return ""
    return f"lines {first:,} to {last:,} are one row: if they should not be, a quote in line {first:,} is not closed"


def _unreadable(first: int, last: int, error: str) -> _Record:
    """A row that is not CSV; one that goes on to the end of the file has a quote that is never closed."""
    if not error.startswith("unexpected end"):
        return _Record(first, None, f"not CSV: {error}", _note(first, last))
    reason = f"not CSV: the quote that opens in line {first:,} is never closed"
    lost = (
        f"lines {first:,} to {last:,} are left out as one row, because the quote that opens in the first is not closed"
    )
    return _Record(first, None, reason, lost if last > first else "")


class LineRows:
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
                characters += found.add(self.row, record)
                self.row += 1
                if characters >= rows.WINDOW_CHARACTERS:
                    break
        if self.row == start:
            return None
        window = found.window(start, self.row)
        if start == 0 and found.seen and self.columns.text not in found.seen and self.shard.suffix.startswith(".jsonl"):
            return replace(window, missing=f"no column {self.columns.text!r}{nearest(self.columns.text, found.seen)}")
        return window


class _Collected:
    """The rows of a window so far."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.texts: list[str] = []
        self.ids: list[int | str] = []
        self.kept: dict[str, list[Any]] = {name: [] for name in columns.copied}
        self.bad: list[Bad] = []
        self.seen: dict[str, None] = {}
        self.notes: list[str] = []

    def add(self, row: int, record: _Record) -> int:
        """Returns the characters of the row's text, 0 if it is a bad row."""
        if record.note:
            self.notes.append(record.note)
        if record.values is None:
            self.bad.append(Bad(row, record.reason, record.line))
            return 0
        values, columns = record.values, self.columns
        self.seen.update(dict.fromkeys(values))
        text = values.get(columns.text)
        given = row if columns.id is None else values.get(columns.id)
        reason = reason_against(text, columns.text) or (columns.id and reason_against_id(given, columns.id))
        if reason:
            known = given if isinstance(given, int | str) and columns.id else None
            self.bad.append(Bad(row, reason, record.line, printable(known)))
            return 0
        assert isinstance(text, str)
        assert isinstance(given, int | str)
        self.texts.append(both_ends(text))
        self.ids.append(given)
        for name, column in self.kept.items():
            column.append(values.get(name))
        return min(len(text), MAX_CHARACTERS)

    def window(self, start: int, stop: int) -> Window:
        import pyarrow as pa

        columns = {ID: _array(self.ids), **{name: _array(values) for name, values in self.kept.items()}}
        return Window(start, stop, self.texts, pa.table(columns), self.bad, notes=self.notes)


def _array(values: list[Any]) -> pa.Array:
    """In the type that all values have; as text if they have none in common."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if kinds == {str}:
        return pa.array([value and printable(value) for value in values], type=pa.large_string())
    if kinds <= {int} or kinds <= {int, float} or kinds == {bool}:
        try:
            return pa.array(values)
        except (pa.ArrowException, OverflowError):
            pass
    return pa.array([value if value is None else printable(as_text(value)) for value in values], type=pa.large_string())


@contextmanager
def _readable(shard: Shard) -> Iterator[None]:
    """Errors of a damaged file (a cut .gz, say) as `DataError`."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {shard}: {root_cause(error)}") from error
