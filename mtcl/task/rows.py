"""A task's rows: the pairs of a split, and a fingerprint of everything that those pairs depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from mtcl.errors import DataError
from mtcl.task.code import code_of
from mtcl.task.contract import Task, kind_of
from mtcl.task.pairs import Pairs, PairTable
from mtcl.task.roles import Role
from mtcl.task.sources import Source, as_table

if TYPE_CHECKING:
    import pyarrow as pa

HASHED_ROWS = 4096
"""Rows of a table that are hashed at once."""
_digests: WeakKeyDictionary[Task, dict[tuple[str, Path | None], str]] = WeakKeyDictionary()
"""Of the rows of a method `data`, which have to be made to be hashed."""


def pairs_of(task: Task, split: str, root: Path | None) -> PairTable:
    """The pairs of a task's split, from its rows. Raises `DataError` where none is left."""
    pairs = task.pairs.for_evaluation() if isinstance(task.pairs, Pairs) and split != "train" else task.pairs
    roles, corpus_roles = (pairs.columns(), pairs.corpus_columns()) if isinstance(pairs, Pairs) else (None, None)
    rows = rows_of(task, split, root, roles)
    corpus_name = getattr(pairs, "corpus", None)
    if corpus_name and split != "train":
        table = pairs(rows, corpus=rows_of(task, corpus_name, root, corpus_roles))
    else:
        table = pairs(rows)
    if not isinstance(table, PairTable):
        raise DataError(f"pairs must give a PairTable, not {type(table).__name__}: use mtcl.pair_table")
    if table.kind != kind_of(task):
        raise DataError(f"a method `pairs` must give {kind_of(task)} pairs, not {table.kind}: derive a mtcl.Pairs")
    if not len(table.anchors):
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in table.skipped.items()) or "no rows"
        raise DataError(f"no pair is left of {len(rows):,} rows ({reasons})")
    return table


def rows_of(
    task: Task, split: str, root: Path | None, roles: Mapping[str, Role] | None, *, rest: bool = False
) -> pa.Table:
    """The rows of a split, in the columns that have a role; all columns without roles, or with `rest`."""
    if isinstance(task.data, Source):
        return as_table(task.data.select(split, root, roles or {}, rest=rest or not roles))
    return as_table(task.data(split, root))


def pairs_fingerprint(task: Task, split: str, root: Path | None) -> str:
    """Changes whenever the pairs of a task's split may have changed: its version, its declaration or its rows.

    The declaration is what a team has written itself, too: the code of its own class of pairs, source or method.
    What a method `data` does is known by the values of its rows.
    """
    corpus = getattr(task.pairs, "corpus", None)
    splits = [split, corpus] if corpus and split != "train" else [split]
    declaration = repr(task.pairs) if isinstance(task.pairs, Pairs) else ""
    depends_on: list[Any] = [task.version, declaration, *(_data_fingerprint(task, name, root) for name in splits)]
    made_by = [task.pairs] if isinstance(task.pairs, Pairs) else [task, task.pairs]
    depends_on += code_of(*made_by, *([task.data] if isinstance(task.data, Source) else []))
    return hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:16]


def _data_fingerprint(task: Task, split: str, root: Path | None) -> str:
    if isinstance(task.data, Source):
        return task.data.fingerprint(split, root)
    known = _digests.setdefault(task, {})
    if (split, root) not in known:
        rows, digest = as_table(task.data(split, root)), hashlib.sha256()
        for start in range(0, len(rows), HASHED_ROWS):  # of values: Arrow's bytes differ between equal tables
            digest.update(repr(rows.slice(start, HASHED_ROWS).to_pydict()).encode())
        known[split, root] = digest.hexdigest()
    return known[split, root]
