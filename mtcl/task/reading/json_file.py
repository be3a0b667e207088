"""JSON files of a data-set folder: one object per line, or one list of objects."""

from __future__ import annotations

from pathlib import Path

from mtcl.errors import DataError
from mtcl.task.reading.encoding import check_encoding
from mtcl.task.reading.json_text import json_value
from mtcl.task.reading.jsonl import read_jsonl
from mtcl.task.reading.part import Part, Wanted
from mtcl.task.reading.values import array_of, named
from mtcl.task.roles import Role


def read_json(path: Path, wanted: Wanted) -> Part:
    """The rows of either form. Raises `DataError` with file and line, or with file and number of the object."""
    import pyarrow as pa

    check_encoding(path)
    if _first_character(path) != "[":
        return read_jsonl(path, wanted)
    try:
        rows = json_value(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"cannot read {path} as JSON: {error}") from error
    if odd := next((n for n, row in enumerate(rows, 1) if not isinstance(row, dict)), None):
        raise DataError(f"cannot read {path}: item {odd} of its list is {named(rows[odd - 1])}, not an object")
    names = list(dict.fromkeys(name for row in rows for name in row))
    roles = dict.fromkeys(names, Role.ANY) if wanted.rest else wanted.roles
    columns = {
        name: array_of([row.get(name) for row in rows], name, role, lambda number: f"{path}, object {number + 1}")
        for name, role in roles.items()
        if name in names
    }
    return Part(pa.table(columns) if columns else pa.table({"": pa.nulls(len(rows))}).select([]), names)


def is_nested_json(path: Path) -> bool:
    """Whether a file is one object over several lines, whose rows are somewhere inside."""
    if path.suffix not in (".json", ".jsonl", ".ndjson") or _first_character(path) != "{":
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = next(line for line in file if line.strip())
        try:
            json_value(first)
        except ValueError:
            file.seek(0)
            try:
                json_value(file.read())
            except ValueError:
                return False  # damaged lines, which a reader of lines names
            return True
    return False


def _first_character(path: Path) -> str:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return next((line.lstrip()[0] for line in file if line.strip()), "")
