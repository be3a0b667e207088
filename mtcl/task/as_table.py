"""An Arrow table from rows in memory, whatever they are made with."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mtcl.errors import DataError, root_cause
from mtcl.task.reading import array_of
from mtcl.task.roles import Role

if TYPE_CHECKING:
    import pyarrow as pa


def as_table(rows: Any, roles: Mapping[str, Role] | None = None, *, rest: bool = False) -> pa.Table:
    """An Arrow table from any rows that a task's `data` method may return: a table, a `datasets.Dataset`, a DataFrame
    of pandas or Polars, dicts. Of dicts, only the columns in `roles` are taken, each as the type its role needs; with
    `rest`, the others too, each with the type that its values have in common, or as text.
    """
    import pyarrow as pa

    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, Mapping) and hasattr(rows, "with_format"):
        raise DataError(f"data must return one split, not a {type(rows).__name__} of {', '.join(map(str, rows))}")
    if hasattr(rows, "with_format") and hasattr(rows, "__len__"):
        return rows.with_format("arrow")[:]
    if hasattr(rows, "__arrow_c_stream__") or isinstance(rows, pa.RecordBatch):
        try:
            return pa.table(rows)
        except pa.ArrowException as error:
            raise DataError(f"rows of type {type(rows).__name__} make no table: {root_cause(error)}") from error
    if not isinstance(rows, Iterable) or isinstance(rows, str | bytes | Mapping):
        raise DataError(f"data must return a pyarrow.Table, a datasets.Dataset or dicts, not {type(rows).__name__}")
    rows = list(rows)
    if not rows:
        raise DataError("data returned no rows")
    if odd := next((n for n, row in enumerate(rows, 1) if not isinstance(row, Mapping)), None):
        told = f"row {odd} is of type {type(rows[odd - 1]).__name__}"
        raise DataError(f"rows cannot be read as a table: {told}; give dicts with the same keys")
    names = dict.fromkeys(name for row in rows for name in row)
    if roles or rest:
        given = (dict.fromkeys(names, Role.ANY) if rest else {}) | dict(roles or {})
        return _by_role(rows, {name: role for name, role in given.items() if name in names}, names)
    try:
        return pa.table({name: [row.get(name) for row in rows] for name in names})
    except (pa.ArrowException, TypeError, OverflowError, UnicodeEncodeError) as error:
        raise DataError(
            f"rows cannot be read as a table: {root_cause(error)}; give dicts with the same keys"
        ) from error


def _by_role(rows: list[Mapping[Any, Any]], roles: Mapping[str, Role], names: Collection[Any]) -> pa.Table:
    """The columns with a role. Columns of other names are there, but empty, so that messages can name them."""
    import pyarrow as pa

    columns = {}
    for name, role in roles.items():
        values = [plain(row.get(name)) for row in rows]
        columns[name] = array_of(values, name, role, lambda number: f"row {number + 1}")
    return pa.table(columns | {name: pa.nulls(len(rows)) for name in map(str, names) if name not in columns})


def plain(value: Any) -> Any:
    """NumPy's scalars and arrays, tuples and sets as plain values and lists; of a set in the same order each time."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    return list(value) if isinstance(value, tuple) else value
