"""CSV: every column is text unless its role, or all of its values, say that it has numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mtcl.errors import DataError, root_cause
from mtcl.task.reading.part import Part, Wanted
from mtcl.task.roles import Role

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import csv

BLOCK = 1 << 26
"""Bytes that are parsed at once; also the limit for a single row."""
FORMS = {
    "int64": r"^-?(0|[1-9][0-9]{0,17})$",
    "float64": r"^-?((0|[1-9][0-9]{0,14})\.?|(0|[1-9][0-9]*)?\.[0-9]+)([eE][+-]?[0-9]+)?$",
    "bool": r"^([Tt]rue|TRUE|[Ff]alse|FALSE)$",
}
"""The form of a column's values for each type."""


def read_csv(path: Path, wanted: Wanted) -> Part:
    """Values of text and id columns stay as they are written (1984, true, 007), quoted or not; an empty cell is null.

    A column without a role becomes numbers if all its values are. Each row must have as many cells as the header.
    """
    import pyarrow as pa

    with path.open("rb") as file:
        if not any(line.strip() for line in file):
            return Part(pa.table({}), [])
    names = _header(path)
    if len(set(names)) < len(names):
        raise DataError(f"{path} has two columns with the same name: {', '.join(names)}")
    chosen = names if wanted.rest else [name for name in names if name in wanted.roles]
    rows = _as_written(path, chosen or names[:1])
    return Part(pa.table({name: _typed(rows[name], name, wanted, path) for name in chosen}), names)


def _header(path: Path) -> list[str]:
    import pyarrow as pa
    from pyarrow import csv

    try:
        with csv.open_csv(path, read_options=csv.ReadOptions(block_size=BLOCK), parse_options=_parsing()) as file:
            names: list[str] = file.schema.names
            return names
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _as_written(path: Path, names: list[str]) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv

    texts = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.large_string()),
        include_columns=names,
        null_values=[""],
        strings_can_be_null=True,
    )
    for with_threads in (True, False):  # only a single-threaded read reports the row of an error
        try:
            reading = csv.ReadOptions(block_size=BLOCK, use_threads=with_threads)
            return csv.read_csv(path, read_options=reading, parse_options=_parsing(), convert_options=texts)
        except (pa.ArrowException, OSError) as error:
            failure = error
    raise _unreadable(path, failure) from failure


def _parsing() -> csv.ParseOptions:
    from pyarrow import csv

    return csv.ParseOptions(newlines_in_values=True)


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"cannot read {path} ({root_cause(error)}): save it as UTF-8, and quote texts with commas")


def _typed(texts: pa.ChunkedArray, name: str, wanted: Wanted, path: Path) -> pa.ChunkedArray:
    match wanted.roles.get(name, Role.ANY):
        case Role.ANY:
            return _natural(texts)
        case Role.NUMBER:
            return _numbers(texts, name, path)
        case Role.TEXTS:
            raise DataError(
                f"{path}: column {name!r} holds text, and a CSV file has no lists: save it as JSONL or Parquet"
            )
    return texts


def _natural(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of texts as integers, numbers or booleans, if all its values are."""
    given = texts.drop_null()
    for kind, form in FORMS.items():
        if len(given) and _all_match(given, form):
            return texts.cast(kind)
    return texts


def _numbers(texts: pa.ChunkedArray, name: str, path: Path) -> pa.ChunkedArray:
    """Numbers or booleans as float64. Raises `DataError` with the first row that has something else."""
    import pyarrow as pa

    try:
        if _all_match(texts.drop_null(), FORMS["bool"]):
            return texts.cast(pa.bool_()).cast(pa.float64())
        return texts.cast(pa.float64())
    except pa.ArrowInvalid:
        for row, text in enumerate(texts.to_pylist(), 2):  # the header is row 1
            if text is not None and not _is_number(text):
                message = f"{path}, row {row}: column {name!r} holds {text!r:.80}, not a number"
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
