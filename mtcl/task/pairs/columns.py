"""Columns by role: checks that they exist and have the right type, drops null and blank texts, and counts the drops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mtcl.arrays import BoolArray, FloatArray, IntArray
from mtcl.errors import DataError, did_you_mean
from mtcl.task.roles import Role, as_role, hint, is_list
from mtcl.task.spill import Spill, kept_rows, passing

if TYPE_CHECKING:
    import pyarrow as pa

LIST_AS_TEXT = r"""^\s*\[\s*(['"].*['"])?\s*\]\s*$"""
"""A list of texts as JSON or Python writes it."""
BLANK = r"^[\p{Z}\p{C}\p{Mn}]*$"
"""A text with nothing to see: white space, control characters, characters without a width, marks on no letter."""


def column(rows: pa.Table, name: str, role: Role) -> pa.ChunkedArray:
    """A column in the type of its role. Raises `DataError` if it is missing or has the wrong type."""
    import pyarrow as pa

    if name not in rows.column_names:
        raise DataError(missing(name, rows.column_names))
    found = as_role(rows[name], role)
    if found is None:
        kind = rows[name].type
        advice = hint(role, found_lists=is_list(kind), found_numbers=pa.types.is_integer(kind))
        raise DataError(f"column {name!r} holds {kind}, not {role}{advice}")
    try:
        for chunk in passing(found.chunks):
            chunk.validate(full=True)
    except pa.ArrowInvalid as error:
        raise DataError(f"column {name!r} cannot be read ({error}): is the file saved as UTF-8?") from error
    return found


def missing(name: str, known: Sequence[str]) -> str:
    """The message for a column that is not among the `known` ones."""
    advice = did_you_mean(name, known) or ": give the name of yours in the task's pairs"
    return f"no column {name!r} (columns: {', '.join(known)}){advice}"


def clean(rows: pa.Table, *texts: str) -> tuple[pa.Table, dict[str, int]]:
    """The rows whose text columns are neither null nor blank, and the number of other rows by reason."""
    import pyarrow as pa
    import pyarrow.compute as pc

    skipped: dict[str, int] = {}
    for name in texts:
        found = column(rows, name, Role.TEXT)
        null = pc.is_null(found)
        blank = pa.chunked_array([_is_blank(chunk) for chunk in passing(found.chunks)], type=pa.bool_())
        num_null, num_blank = pc.sum(null).as_py() or 0, pc.sum(blank).as_py() or 0
        count(skipped, f"null {name}", num_null)
        count(skipped, f"empty {name}", num_blank)
        if num_null + num_blank:
            rows = kept_rows(rows, pc.invert(pc.or_(null, blank)))
    return rows, skipped


def text_column(rows: pa.Table, name: str) -> pa.ChunkedArray:
    """A column of large strings."""
    return column(rows, name, Role.TEXT)


def id_column(rows: pa.Table, name: str) -> pa.ChunkedArray:
    """A column of ids as large strings; a null id is an error, because it would link unrelated rows."""
    ids = column(rows, name, Role.ID)
    if ids.null_count:
        where = _first_row(rows, np.asarray(ids.is_null()), name)
        raise DataError(
            f"column {name!r} has {ids.null_count:,} null ids{where}: give each row an id or leave the row out"
        )
    return ids


def number_column(rows: pa.Table, name: str) -> FloatArray:
    """A column of numbers as float64; a null or a NaN is an error."""
    values = np.asarray(_whole(column(rows, name, Role.NUMBER)).to_numpy(zero_copy_only=False))
    if missing := int(np.isnan(values).sum()):
        where = _first_row(rows, np.isnan(values), name)
        raise DataError(
            f"column {name!r} has no number in {missing:,} rows{where}: give each row one or leave the row out"
        )
    return values


def texts_column(rows: pa.Table, name: str) -> pa.LargeListArray:
    """A column of lists of strings as one array."""
    return _whole(column(rows, name, Role.TEXTS))


def negatives_column(rows: pa.Table, names: str | tuple[str, ...]) -> tuple[pa.ChunkedArray, IntArray] | None:
    """Hard negatives of all named columns: the texts, and the row of each; None if no column is named.

    Each row of a column has a text or a list of texts; nulls and blanks are skipped. Raises `DataError` for lists that
    are written as text, which would be taught as one text.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    texts, owners = Spill(), [np.empty(0, dtype=np.int64)]
    for name in names_of(names):
        start = 0
        for lists in column(rows, name, Role.TEXT_OR_TEXTS).chunks:
            owner, flat = pc.list_parent_indices(lists), pc.list_flatten(lists)
            given = pc.fill_null(pc.invert(pc.match_substring_regex(flat, BLANK)), False)
            found = flat.filter(given)
            _check_no_lists(found, name)
            texts.add(pa.table({"text": found}))
            owners.append(np.asarray(owner.filter(given)) + start)
            start += len(lists)
    if not names:
        return None
    all_texts = pa.chunked_array([one for table in texts.tables() for one in table["text"].chunks], pa.large_string())
    return all_texts, np.concatenate(owners)


def _check_no_lists(texts: pa.Array, name: str) -> None:
    import pyarrow.compute as pc

    if len(texts) and pc.all(pc.match_substring_regex(texts, LIST_AS_TEXT)).as_py():
        shown = f"column {name!r} holds lists that are written as text ({texts[0].as_py()!r:.60})"
        raise DataError(f"{shown}: save them as lists, in JSONL or Parquet")


def names_of(names: str | tuple[str, ...]) -> tuple[str, ...]:
    """One or several column names, as a tuple."""
    return (names,) if isinstance(names, str) else names


def count(skipped: dict[str, int], reason: str, rows: int) -> None:
    """Add to the number of rows left out for a reason."""
    if rows:
        skipped[reason] = skipped.get(reason, 0) + rows


def reasons(skipped: Mapping[str, int]) -> str:
    """The reasons with the number of rows of each: `empty text (40), duplicate pair (3)`."""
    return ", ".join(f"{reason} ({count:,})" for reason, count in skipped.items())


def _first_row(rows: pa.Table, is_wrong: BoolArray, name: str) -> str:
    """The first wrong row by what another of its columns holds. Its number would not help where rows are left out."""
    row = int(np.flatnonzero(is_wrong)[0])
    other = next((other for other in rows.column_names if other != name), None)
    return "" if other is None else f" (the first where {other!r} is {str(rows[other][row].as_py())!r:.60})"


def _whole(chunked: pa.ChunkedArray) -> pa.Array:
    return chunked.combine_chunks() if chunked.num_chunks != 1 else chunked.chunk(0)


def _is_blank(texts: pa.LargeStringArray) -> pa.BooleanArray:
    import pyarrow.compute as pc

    return pc.fill_null(pc.match_substring_regex(texts, BLANK), False)
