"""The rows of one input, window by window: only the named columns, in bounded memory.

A window is the rows that are encoded and written together. Its end depends only on the rows before it, not on how a
file is read, so an interrupted command makes the same windows when it continues. A row that cannot be used is left out,
with the reason: a missing or empty text, a wrong type, a damaged line.

A column's type is never guessed from its first rows. JSONL: ids are integers or text, and if a file has both, all
become text. CSV: ids and copied columns are text as it is written (007). Parquet: types of the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from unicodedata import category

from mtcl.data.tokenizer import MAX_CHARACTERS
from mtcl.deploy.embed.settings import ID
from mtcl.deploy.embed.shards import Columns, Shard
from mtcl.errors import DataError, nearest

if TYPE_CHECKING:
    import pyarrow as pa

WINDOW_CHARACTERS = 1 << 24
"""A window ends at its number of rows, or before if its texts have this many characters together (Parquet: bytes)."""
BLANK = {"Cc", "Cf", "Cn", "Co", "Mn"}
"""Unicode's categories of controls, formats, unassigned and private characters, and marks without a width. Training
keeps a text of unassigned characters, because Arrow's regular expressions cannot name them."""
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
    """Rows `start` to `stop` of an input: texts and other columns (`id` first) of the good ones, and the bad ones.

    `missing` says, for the first window of an input, that no row has the text's column. `notes` are warnings.
    """

    start: int
    stop: int
    texts: list[str]
    rows: pa.Table
    bad: list[Bad]
    missing: str = ""
    notes: list[str] = field(default_factory=list)


class OpenInput(Protocol):
    """An open input."""

    def take(self, num_rows: int) -> Window | None:
        """The next window of at most `num_rows`; None at the end."""

    def skip(self, num_rows: int) -> None:
        """Skip rows that are done."""

    @property
    def bytes_read(self) -> int:
        """How many bytes of the file are read, for the progress."""


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
    if is_blank(text):
        return f"{column} is empty"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return f"{column} is not UTF-8"
    return ""


def is_blank(text: str) -> bool:
    """Whether a text has nothing to see, as in training (`task.pairs.columns.BLANK`). Tokenizers leave such characters
    out, so all these texts would get the vector of the empty text.
    """
    return all(character.isspace() or category(character) in BLANK for character in text)


def reason_against_id(given: object, column: str) -> str:
    """Why a value cannot be an id; empty if it can."""
    if isinstance(given, int) and not isinstance(given, bool):
        return "" if given in INT64 else f"{column} is {given}, which does not fit into 64 bits"
    if given is None or isinstance(given, str):
        return reason_against(given, column)
    return f"{column} is {given!r:.40}, not text or a whole number"


def both_ends(text: str) -> str:
    """A text without the middle that no tokenizer gets, whichever end it cuts: a file may have texts of gigabytes."""
    return text if len(text) <= 2 * MAX_CHARACTERS else text[:MAX_CHARACTERS] + text[-MAX_CHARACTERS:]


def printable(given: int | str | None) -> int | str | None:
    """An id of a bad row, without halves of characters."""
    return given.encode("utf-8", "replace").decode("utf-8") if isinstance(given, str) else given


def check_columns(shard: Shard, columns: Columns, there: Iterable[str]) -> None:
    """Raise `DataError` if a column is missing."""
    names = list(there)
    if missing := [name for name in columns.names if name not in names]:
        raise DataError(f"{shard} has no column {missing[0]!r}{nearest(missing[0], names)}")
