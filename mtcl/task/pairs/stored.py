"""A table of pairs as named arrays and plain values, as a token store keeps them, and the table made of these again.

The names are those of the fields of `PairTable` and `Relevance`, so a new column is stored, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mtcl.arrays import Ragged
from mtcl.task.kind import Kind
from mtcl.task.pairs.relevance import Relevance
from mtcl.task.pairs.table import PairTable

if TYPE_CHECKING:
    import pyarrow as pa

INDICES = ("anchors", "positives", "queries", "candidates", "languages", "groups", "negatives")
"""Columns of text, language and group indices, which have 32 bits if they fit."""
FACTS = ("kind", "language_names", "exclude_self", "tied", "skipped")
"""What is not an array. `symmetric` is not among them, as a store has the side of each text."""
OFFSETS, VALUES = "_offsets", "_values"
"""Ends of the names of the two arrays of a ragged column."""


def arrays_of(table: PairTable) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """The table's arrays with their names, one at a time, because many are copies. Queries and candidates are those of
    its judgements if it has any.
    """
    index = np.int32 if max(len(table.texts), len(table.anchors)) < 1 << 31 else np.int64
    columns = vars(table) | (vars(table.relevance) if table.relevance else {})
    for name, column in columns.items():
        is_ragged = isinstance(column, Ragged)
        if is_ragged:
            yield name + OFFSETS, column.offsets
        array = column.values if is_ragged else column
        if isinstance(array, np.ndarray):
            yield name + VALUES * is_ragged, array.astype(index) if name in INDICES else array


def facts_of(table: PairTable) -> dict[str, Any]:
    """The table's other values, for JSON."""
    problems = table.relevance.problems if table.relevance else ()
    return {name: getattr(table, name) for name in FACTS} | {"problems": problems}


def table_of(
    texts: pa.LargeStringArray, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any], *, symmetric: bool
) -> PairTable:
    """The table of `arrays_of` and `facts_of`; there may be other arrays and facts."""
    columns: dict[str, Any] = dict(arrays)
    for name in [name.removesuffix(OFFSETS) for name in arrays if name.endswith(OFFSETS)]:
        columns[name] = Ragged(arrays[name + OFFSETS], arrays[name + VALUES])
    columns |= {name: facts[name] for name in FACTS}
    columns |= {"kind": Kind(facts["kind"]), "language_names": tuple(facts["language_names"])}
    if "wanted" in columns:
        columns["relevance"] = Relevance(**_of(Relevance, columns), problems=tuple(facts["problems"]))
    return PairTable(**_of(PairTable, columns), texts=texts, symmetric=symmetric)


def _of(made: type[PairTable | Relevance], columns: dict[str, Any]) -> dict[str, Any]:
    """The columns that are fields of `made`."""
    return {one.name: columns[one.name] for one in fields(made) if one.name in columns}
