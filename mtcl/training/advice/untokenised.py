"""A table of pairs as a token store in memory, so that checks and the evaluation of random vectors need no encoder.

Each distinct text counts as if it had tokens of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mtcl.arrays import Ragged
from mtcl.data.store import TokenStore
from mtcl.task.pairs import PairTable
from mtcl.task.pairs.sides import sides_of

SAME = (
    *("keys", "anchors", "positives", "queries", "candidates", "groups", "negatives", "scores"),
    *("languages", "language_names", "kind", "exclude_self", "tied", "skipped"),
)
"""Columns with the same name in a table."""


def untokenised(table: PairTable) -> TokenStore:
    """A store that has no folder. `tokens` has a row for each distinct text, and nothing in it."""
    size = len(table.texts)
    judged: dict[str, Any] = {"wanted": None, "carried": None, "grades": None, "problems": ()}
    if table.relevance is not None:
        judged = {name: getattr(table.relevance, name) for name in (*judged, "queries", "candidates")}
    nothing = Ragged(np.zeros(size + 1, dtype=np.int64), np.zeros(0, dtype=np.int64))
    even = np.zeros(size)
    own = {"folder": Path(), "tokens": nothing, "identity": np.arange(size), "num_distinct": size, "num_cut": 0}
    own |= {"sides": sides_of(table), "log_q_anchor": even, "log_q_positive": even}
    return TokenStore(**({name: getattr(table, name) for name in SAME} | judged | own))
