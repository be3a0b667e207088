"""A table of pairs as named arrays and plain values, as a token store keeps them, and the table made of these again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mtcl.arrays import Ragged
from mtcl.task.kind import Kind
from mtcl.task.pairs.relevance import Relevance
from mtcl.task.pairs.table import PairTable

if TYPE_CHECKING:
    import pyarrow as pa

Arrays = Mapping[str, npt.NDArray[Any]]


def arrays_of(table: PairTable) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """The table's arrays with their names, one after the other, as most are copies; a ragged column is two arrays.

    Text and group indices have 32 bits if they fit.
    """
    index = np.int32 if max(len(table.texts), len(table.anchors)) < 1 << 31 else np.int64
    columns: list[tuple[str, Ragged | npt.NDArray[Any] | None, type[np.generic] | None]] = [
        ("keys", table.keys, None),
        ("anchors", table.anchors, index),
        ("positives", table.positives, index),
        ("queries", table.search.queries, index),
        ("candidates", table.search.candidates, index),
        ("languages", table.languages, index),
        ("groups", table.groups, index),
        ("negatives", table.negatives, index),
        ("scores", table.scores, None),
    ]
    if (judged := table.relevance) is not None:
        columns += [
            ("wanted", judged.wanted, np.int64),
            ("carried", judged.carried, np.int64),
            ("grades", judged.grades, None),
        ]
    for name, column, dtype in columns:
        if isinstance(column, Ragged):
            yield f"{name}_offsets", column.offsets
            name, column = f"{name}_values", column.values
        if column is not None:
            yield name, column if dtype is None else column.astype(dtype)


def facts_of(table: PairTable) -> dict[str, Any]:
    """The table's other values, which JSON can hold."""
    return {
        "kind": table.kind,
        "language_names": table.language_names,
        "problems": table.relevance.problems if table.relevance else (),
        "exclude_self": table.exclude_self,
        "tied": table.tied,
        "skipped": table.skipped,
    }


def table_of(texts: pa.LargeStringArray, arrays: Arrays, facts: Mapping[str, Any], *, symmetric: bool) -> PairTable:
    """The table of these `arrays` and `facts`. If it has judgements, its `queries` and `candidates` are theirs."""
    queries, candidates = arrays["queries"], arrays["candidates"]
    wanted, carried = ragged_in(arrays, "wanted"), ragged_in(arrays, "carried")
    relevance = None
    if wanted is not None and carried is not None:
        relevance = Relevance(queries, candidates, wanted, carried, arrays.get("grades"), tuple(facts["problems"]))
    return PairTable(
        texts=texts,
        anchors=arrays["anchors"],
        positives=arrays["positives"],
        keys=Ragged(arrays["keys_offsets"], arrays["keys_values"]),
        queries=queries,
        candidates=candidates,
        kind=Kind(facts["kind"]),
        groups=ragged_in(arrays, "groups"),
        negatives=ragged_in(arrays, "negatives"),
        scores=arrays.get("scores"),
        languages=arrays.get("languages"),
        language_names=tuple(facts["language_names"]),
        exclude_self=facts["exclude_self"],
        tied=facts["tied"],
        symmetric=symmetric,
        skipped=facts["skipped"],
        relevance=relevance,
    )


def ragged_in(arrays: Arrays, name: str) -> Ragged | None:
    """The ragged column of that name, if it is there."""
    offsets = arrays.get(f"{name}_offsets")
    return None if offsets is None else Ragged(offsets, arrays[f"{name}_values"])
