"""JSONL: one object per line; the types of values may differ from line to line. Lines end as on any system.

pyarrow reads columns with a role block by block, with given types. If a block does not fit them (7 and "a17" in one
column, a text among lists, a damaged line), Python's own parser reads it instead; it accepts all that the roles allow
and reports the line of an error. The rows of pyarrow are used only if there is one per line, so both parsers give the
same rows. Columns without a role are always read by Python, because pyarrow reads "2020-01-01" as a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtcl.errors import DataError
from mtcl.task.pairs.columns import column
from mtcl.task.reading.encoding import check_encoding
from mtcl.task.reading.joined import joined
from mtcl.task.reading.json_text import json_value
from mtcl.task.reading.part import Part, Wanted
from mtcl.task.reading.values import array_of, named
from mtcl.task.roles import Role
from mtcl.task.spill import Spill

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 1 << 24
"""Bytes that are parsed at once; the last line is completed."""
PEEKED = 16
"""Number of lines that decide whether a block's ids are integers and its hard negatives lists."""
NO_OBJECT = re.compile(rb"\n[ \t\r]*(?:null|\n)")
"""A line that is blank or `null`. pyarrow reads `null` as a row, or crashes if it is the first line (26.0)."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
LONE_RETURN = re.compile(rb"\r(?!\n)")
"""The line end of old Macs; in JSON, a carriage return is never part of a text."""
Row = dict[str, Any]
Keys = dict[str, None]
"""Keys of objects, in order of appearance."""


@dataclass(frozen=True)
class _Block:
    """Whole lines of a file, including their line ends; `first` is the number of the first line."""

    path: Path
    first: int
    content: bytes

    def place(self, line: int) -> str:
        """`file:line` of a line of the block, counted from 0."""
        return f"{self.path}:{self.first + line}"


def read_jsonl(path: Path, wanted: Wanted) -> Part:
    """Blank lines are skipped; a missing key is null. Raises `DataError` with file and line."""
    import pyarrow as pa

    check_encoding(path)
    keys: Keys = {}
    spill = Spill()
    for block in _blocks(path):
        rows = None if wanted.rest else _parsed_at_once(block, wanted.roles, keys)
        rows = _parsed_by_line(block, wanted, keys) if rows is None else rows
        if len(rows):
            spill.add(rows)
    rows = joined(spill.tables() or [pa.table({})])
    for name in rows.column_names:
        if name not in keys and (rows[name].null_count < len(rows) or _occurs(name, path)):
            keys[name] = None
    return Part(rows.select([name for name in rows.column_names if name in keys]), list(keys), spill.is_used)


def _blocks(path: Path) -> Iterator[_Block]:
    with path.open("rb") as file:
        if file.read(len(BYTE_ORDER_MARK)) != BYTE_ORDER_MARK:
            file.seek(0)
        first = 1
        while content := file.read(BLOCK):
            content += file.readline()
            if b"\r" in content:
                content = LONE_RETURN.sub(b"\n", content)
            if not content.endswith(b"\n"):
                content += b"\n"
            yield _Block(path, first, content)
            first += content.count(b"\n")


def _occurs(name: str, path: Path) -> bool:
    """Whether any object of the file has the key."""
    rows = (row for block in _blocks(path) for _, row in _objects(block))
    return any(name in row for row in rows)


def _parsed_at_once(block: _Block, roles: Mapping[str, Role], keys: Keys) -> pa.Table | None:
    """The rows as pyarrow reads them, None if Python's parser has to."""
    import pyarrow as pa
    from pyarrow import json as arrow_json

    schema = _schema(block, roles, keys)
    begins_with_object = block.content.lstrip(b" \t\r").startswith(b"{")
    if schema is None or not begins_with_object or NO_OBJECT.search(block.content):
        return None
    parsing = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        rows = arrow_json.read_json(pa.BufferReader(block.content), parse_options=parsing)
        if len(rows) == block.content.count(b"\n"):
            return pa.table({name: column(rows, name, role) for name, role in roles.items()})
    except (pa.ArrowException, DataError):
        pass  # Python's parser accepts more, and can say what is wrong
    return None


def _schema(block: _Block, roles: Mapping[str, Role], keys: Keys) -> pa.Schema | None:
    """The types of a block's columns according to its first lines; None if they do not show them."""
    import pyarrow as pa

    whole = block.content[: 1 << 16].split(b"\n")[:-1]
    try:
        rows = [row for _, row in _objects(_Block(block.path, block.first, b"\n".join(whole[:PEEKED])))]
    except DataError:
        return None
    keys.update((name, None) for row in rows for name in row)
    fields = {}
    for name, role in roles.items():
        value = next((row[name] for row in rows if row.get(name) is not None), None)
        match role:
            case Role.ID:
                fields[name] = pa.int64() if isinstance(value, int) else pa.string()
            case Role.TEXT_OR_TEXTS:
                fields[name] = pa.list_(pa.string()) if isinstance(value, list) else pa.string()
            case Role.ANY:
                known = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
                fields[name] = known.get(type(value))
            case _:
                types = {Role.TEXT: pa.string(), Role.NUMBER: pa.float64(), Role.TEXTS: pa.list_(pa.string())}
                fields[name] = types[role]
    return pa.schema(fields) if fields and None not in fields.values() else None


def _parsed_by_line(block: _Block, wanted: Wanted, keys: Keys) -> pa.Table:
    import pyarrow as pa

    lines, rows = [], []
    for line, row in _objects(block):
        lines.append(line)
        rows.append(row)
    here: Keys = {name: None for row in rows for name in row}
    keys.update(here)
    columns = {}
    for name in here if wanted.rest else wanted.roles:
        values = [row.get(name) for row in rows]
        role = Role.ANY if wanted.rest else wanted.roles[name]
        columns[name] = array_of(values, name, role, lambda number: block.place(lines[number]))
    return pa.table(columns)


def _objects(block: _Block) -> Iterator[tuple[int, Row]]:
    """Each object with its line, counted from 0."""
    for line, content in enumerate(block.content.split(b"\n")):
        if content.strip():
            try:
                row = json_value(content.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise DataError(f"cannot read {block.place(line)} ({error}): save the file as UTF-8") from error
            except json.JSONDecodeError as error:
                told = f"{error.msg.removesuffix(' at')} at character {error.pos + 1}"
                raise DataError(f"cannot read {block.place(line)} as JSON: {told}") from error
            except RecursionError as error:
                raise DataError(f"cannot read {block.place(line)} as JSON: it is nested too deeply") from error
            if not isinstance(row, dict):
                told = f"it is {named(row)}, not an object: write one object per line"
                raise DataError(f"cannot read {block.place(line)}: {told}")
            yield line, row
