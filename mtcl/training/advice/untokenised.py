"""A table of pairs in the place of a token store, as if each distinct text had tokens of its own.

So the checks of training and the evaluation of random vectors need no encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from mtcl.data.store import TokenStore
from mtcl.task.pairs import PairTable
from mtcl.types import FloatArray, IntArray, Kind, Ragged


@dataclass(frozen=True)
class Untokenised:
    """The columns that a `TokenStore` has. `tokens` has a row for each distinct text, and nothing in it."""

    folder: Path
    tokens: Ragged
    identity: IntArray
    num_distinct: int
    keys: Ragged
    anchors: IntArray
    positives: IntArray
    queries: IntArray
    candidates: IntArray
    wanted: Ragged | None
    carried: Ragged | None
    grades: FloatArray | None
    problems: tuple[str, ...]
    groups: Ragged | None
    negatives: Ragged | None
    scores: FloatArray | None
    languages: IntArray | None
    language_names: tuple[str, ...]
    kind: Kind
    exclude_self: bool
    tied: bool

    def __len__(self) -> int:
        return len(self.anchors)

    @classmethod
    def of(cls, table: PairTable) -> TokenStore:
        """A table as a store, typed as one for the functions that read only these columns."""
        relevance = table.relevance
        same = {name: getattr(table, name) for name in SAME}
        judged: dict[str, Any] = {"wanted": None, "carried": None, "grades": None, "problems": ()}
        if relevance is not None:
            judged = {name: getattr(relevance, name) for name in (*judged, "queries", "candidates")}
        size = len(table.texts)
        nothing = Ragged(np.zeros(size + 1, dtype=np.int64), np.zeros(0, dtype=np.int64))
        own = {"folder": Path(), "tokens": nothing, "identity": np.arange(size, dtype=np.int64), "num_distinct": size}
        return cast("TokenStore", cls(**(same | judged | own)))


SAME = (
    *("keys", "anchors", "positives", "queries", "candidates", "groups", "negatives", "scores"),
    *("languages", "language_names", "kind", "exclude_self", "tied"),
)
"""Columns that a table has under the same name."""
