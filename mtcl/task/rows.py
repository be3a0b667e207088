"""A task's rows: the pairs of a split, and a fingerprint of everything that those pairs depend on."""

from __future__ import annotations

import hashlib
import inspect
import json
from pathlib import Path
from typing import Any

from mtcl.errors import DataError
from mtcl.task.contract import Task, kind_of
from mtcl.task.pairs import Pairs, PairTable
from mtcl.task.sources import Source, as_table

HASHED_ROWS = 4096
"""Rows of a table that are hashed at once."""


def pairs_of(task: Task, split: str, root: Path | None) -> PairTable:
    """The pairs of a task's split, from its rows. Raises `DataError` where none is left."""
    rows = as_table(task.data(split, root))
    corpus_name = getattr(task.pairs, "corpus", None)
    corpus = as_table(task.data(corpus_name, root)) if corpus_name and split != "train" else None
    pairs = task.pairs.for_evaluation() if isinstance(task.pairs, Pairs) and split != "train" else task.pairs
    table = pairs(rows, corpus=corpus) if corpus is not None else pairs(rows)
    if not isinstance(table, PairTable):
        raise DataError(f"pairs must give a PairTable, not {type(table).__name__}: use mtcl.pair_table")
    if table.kind != kind_of(task):
        raise DataError(f"a method `pairs` must give {kind_of(task)} pairs, not {table.kind}: derive a mtcl.Pairs")
    if not len(table.anchors):
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in table.skipped.items()) or "no rows"
        raise DataError(f"no pair is left of {len(rows):,} rows ({reasons})")
    return table


def pairs_fingerprint(task: Task, split: str, root: Path | None) -> str:
    """Changes whenever the pairs of a task's split may have changed: its version, its declaration or its rows."""
    corpus = getattr(task.pairs, "corpus", None)
    splits = [split, corpus] if corpus and split != "train" else [split]
    depends_on = [task.version, _declaration(task.pairs), *(_data_fingerprint(task, name, root) for name in splits)]
    return hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:16]


def _declaration(pairs: Any) -> str:
    return repr(pairs) if isinstance(pairs, Pairs) else inspect.getsource(pairs)


def _data_fingerprint(task: Task, split: str, root: Path | None) -> str:
    if isinstance(task.data, Source):
        return task.data.fingerprint(split, root)
    rows, digest = as_table(task.data(split, root)), hashlib.sha256()
    for start in range(0, len(rows), HASHED_ROWS):  # of values: Arrow's bytes differ between equal tables
        digest.update(repr(rows.slice(start, HASHED_ROWS).to_pydict()).encode())
    return digest.hexdigest()
