"""A table of pairs as a token store in memory, so that checks and the evaluation of random vectors need no encoder.

Each distinct text counts as if it had tokens of its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mtcl.arrays import Ragged
from mtcl.data.store import TokenStore
from mtcl.task.pairs import PairTable
from mtcl.task.pairs.log_q import LogShares
from mtcl.task.pairs.sides import sides_of


def untokenised(table: PairTable) -> TokenStore:
    """A store that has no folder. `tokens` has an empty row for each distinct text, and `log_q` is 0."""
    size = len(table.texts)
    return TokenStore(
        folder=Path(),
        pairs=table,
        tokens=Ragged(np.zeros(size + 1, dtype=np.int64), np.zeros(0, dtype=np.int64)),
        identity=np.arange(size),
        sides=sides_of(table),
        log_q=LogShares(np.zeros(size), np.zeros(size)),
        num_cut=0,
        num_distinct=size,
    )
