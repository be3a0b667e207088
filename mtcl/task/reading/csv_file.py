"""CSV: every column is text unless its role, or all of its values, say that it has numbers."""

from __future__ import annotations

import csv as standard_csv
import logging
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mtcl.errors import DataError, root_cause
from mtcl.task.reading.encoding import check_encoding, first_other_line
from mtcl.task.reading.part import Part, Wanted
from mtcl.task.roles import Role

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import csv

log = logging.getLogger("mtcl")
BLOCK = 1 << 26
"""Bytes that are parsed at once; also the limit for a single row."""
FORMS = {
    "int64": r"^-?(0|[1-9][0-9]{0,17})$",
    "float64": r"^-?((0|[1-9][0-9]{0,14})\.?|(0|[1-9][0-9]*)?\.[0-9]+)([eE][+-]?[0-9]+)?$",
    "bool": r"^([Tt]rue|TRUE|[Ff]alse|FALSE)$",
}
"""The form of a column's values for each type."""
CLEAR = 3
"""Delimiters in a cell from which on it is hardly chance that its lines are divided like rows."""


def read_csv(path: Path, wanted: Wanted, *, delimiter: str = ",") -> Part:
    """Values of text and id columns stay as they are written (1984, true, 007), quoted or not; an empty cell is null.

    A column without a role becomes numbers if all its values are. Each row must have as many cells as the header.
    Raises `DataError` with file and line.
    """
    import pyarrow as pa

    check_encoding(path)
    with path.open("rb") as file:
        if not any(line.strip() for line in file):
            return Part(pa.table({}), [])
    text = _TextFile(path, delimiter)
    names = text.header()
    chosen = names if wanted.rest else [name for name in names if name in wanted.roles]
    if twice := [name for name in chosen if names.count(name) > 1]:
        raise DataError(f"{path} has two columns with the same name: {twice[0]}")
    if not chosen:
        text.check_delimiter(names)
    once = [name for name in names if names.count(name) == 1]
    rows = text.as_written(chosen or once[:1])
    _warn_of_open_quotes(rows, names, text)
    if not chosen:
        return Part(rows.select([]), names)
    return Part(pa.table({name: _typed(rows[name], name, wanted, text) for name in chosen}), names)


@dataclass(frozen=True)
class _TextFile:
    """A CSV file as text. pyarrow reads it; if that fails, the standard library finds the line."""

    path: Path
    delimiter: str

    def header(self) -> list[str]:
        import pyarrow as pa
        from pyarrow import csv

        reading = csv.ReadOptions(block_size=BLOCK)
        try:
            with csv.open_csv(self.path, read_options=reading, parse_options=self._parsing()) as file:
                names: list[str] = file.schema.names
                return names
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise self._fault(error) from error

    def check_delimiter(self, names: list[str]) -> None:
        """Raise `DataError` if the header looks like several columns that another delimiter separates."""
        if len(names) == 1 and (other := next((mark for mark in ";\t|" if mark in names[0]), None)):
            raise DataError(
                f"{self.path} has the single column {names[0]!r}: separate columns with {self.delimiter!r}, "
                f"not {other!r}"
            )

    def as_written(self, names: list[str]) -> pa.Table:
        """The named columns as text."""
        import pyarrow as pa
        from pyarrow import csv

        texts = csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.large_string()),
            include_columns=names,
            null_values=[""],
            strings_can_be_null=True,
        )
        reading = csv.ReadOptions(block_size=BLOCK)
        try:
            return csv.read_csv(self.path, read_options=reading, parse_options=self._parsing(), convert_options=texts)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise self._fault(error) from error

    def place(self, row: int) -> str:
        """`file:line` where a row begins; rows are counted from 0, after the header and without blank lines."""
        for number, (line, cells) in enumerate(self._records()):
            if number == row + 1 and cells:
                return f"{self.path}:{line}"
        return str(self.path)

    def _parsing(self) -> csv.ParseOptions:
        from pyarrow import csv

        return csv.ParseOptions(newlines_in_values=True, delimiter=self.delimiter)

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Each row that is not blank, the header first, and the line it begins on."""
        limit = standard_csv.field_size_limit(sys.maxsize)
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                reader, line = standard_csv.reader(file, delimiter=self.delimiter), 1
                for cells in reader:
                    if cells:
                        yield line, cells
                    line = reader.line_num + 1
        finally:
            standard_csv.field_size_limit(limit)

    def _fault(self, error: Exception) -> DataError:
        """What is wrong with the file, and on which line."""
        if line := first_other_line(self.path):
            return DataError(f"cannot read {self.path}:{line}: it is not UTF-8: save the file as UTF-8")
        advice = "quote texts that have commas, quotes or line ends"
        width, place = 0, str(self.path)
        try:
            for line, cells in self._records():
                if not width:
                    self.check_delimiter(cells)
                place, width = f"{self.path}:{line}", width or len(cells)
                if len(cells) != width:
                    told = f"it has {len(cells)} cells, the header {width}: {advice}"
                    return DataError(f"cannot read {place}: {told}")
        except standard_csv.Error as other:
            return DataError(f"cannot read {place} ({other}): {advice}")
        return DataError(f"cannot read {self.path} ({root_cause(error)}): {advice}")


def _warn_of_open_quotes(rows: pa.Table, names: list[str], text: _TextFile) -> None:
    """Warn of cells whose lines are divided like rows: a quote that is left open takes in the rows after it."""
    import pyarrow.compute as pc

    more, mark = len(names) - 1, re.escape(text.delimiter)
    if not more:
        return
    piece = rf"[^{mark}\n]*(?:{mark}[^{mark}\n]*){{%d}}"
    for name in rows.column_names:
        before = names.index(name)
        whole = rf"(?:{piece % more}\n){{{-(-CLEAR // more) - 1},}}"
        form = rf"^{piece % (more - before)}\n{whole}{piece % before}$"
        like_rows = pc.match_substring_regex(rows[name], form)
        if found := pc.sum(like_rows).as_py():
            log.warning(
                "%s: a cell of column %r reads like several rows%s; if a quote is left open there, rows are missing: "
                "quote the whole cell and double the quotes in it",
                text.place(pc.index(like_rows, True).as_py()),
                name,
                f" ({found} such cells)" if found > 1 else "",
            )


def _typed(texts: pa.ChunkedArray, name: str, wanted: Wanted, text: _TextFile) -> pa.ChunkedArray:
    match wanted.roles.get(name, Role.ANY):
        case Role.ANY:
            return _natural(texts)
        case Role.NUMBER:
            return _numbers(texts, name, text)
        case Role.TEXTS:
            raise DataError(
                f"{text.path}: column {name!r} holds text, and a CSV file has no lists: save it as JSONL or Parquet"
            )
    return texts


def _natural(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of texts as integers, numbers or booleans, if all its values are."""
    given = texts.drop_null()
    for kind, form in FORMS.items():
        if len(given) and _all_match(given, form):
            return texts.cast(kind)
    return texts


def _numbers(texts: pa.ChunkedArray, name: str, text: _TextFile) -> pa.ChunkedArray:
    """Numbers or booleans as float64. Raises `DataError` with the line of the first other value."""
    import pyarrow as pa

    try:
        if _all_match(texts.drop_null(), FORMS["bool"]):
            return texts.cast(pa.bool_()).cast(pa.float64())
        return texts.cast(pa.float64())
    except pa.ArrowInvalid:
        for row, value in enumerate(texts.to_pylist()):
            if value is not None and not _is_number(value):
                message = (
                    f"{text.place(row)}: column {name!r} holds {value!r:.80}, not a number: write one, such as 0 or 0.5"
                )
                raise DataError(message) from None
        raise


def _all_match(texts: pa.ChunkedArray, form: str) -> bool:
    import pyarrow.compute as pc

    return bool(pc.all(pc.match_substring_regex(texts, form)).as_py())


def _is_number(text: str) -> bool:
    import pyarrow as pa

    try:
        pa.scalar(text).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True
