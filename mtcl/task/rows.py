"""The rows and pairs of a task's split, and a fingerprint of everything that the pairs depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from mtcl.distributed import of_all_ranks
from mtcl.errors import DataError
from mtcl.task.as_table import as_table
from mtcl.task.code import code_of
from mtcl.task.contract import Task, kind_of
from mtcl.task.pairs import Pairs, PairTable
from mtcl.task.pairs.columns import reasons
from mtcl.task.roles import Role
from mtcl.task.sources import Source

if TYPE_CHECKING:
    import pyarrow as pa

HASHED_ROWS = 4096
"""Number of rows hashed at a time."""
Digests = dict[tuple[str, Path | None, str], str]
"""Digests of rows by split, data root and columns."""
_digests: WeakKeyDictionary[Task, Digests] = WeakKeyDictionary()


def pairs_of(task: Task, split: str, root: Path | None, *, rows: pa.Table | None = None) -> PairTable:
    """The pairs of a task's split, made from its rows, which are read if not given. Splits other than train have
    judgements of relevance.

    Raises `DataError` if there are none.
    """
    pairs = pairs_in(task, split)
    corpus_name = getattr(pairs, "corpus", None)
    roles, corpus_roles = roles_in(task, split), roles_in(task, split, of_corpus=True)
    rows, corpus = rows_of(task, split, root, roles) if rows is None else rows, None
    if corpus_name and split != "train":
        corpus = rows_of(task, corpus_name, root, corpus_roles)
    with _told_with(task, split, root):
        table = pairs(rows) if corpus is None else pairs(rows, corpus=corpus)
    if not isinstance(table, PairTable):
        raise DataError(f"pairs must give a PairTable, not {type(table).__name__}: use mtcl.pair_table")
    if table.kind != kind_of(task):
        raise DataError(
            f"a method `pairs` must return {kind_of(task)} pairs, not {table.kind}: write a subclass of mtcl.Pairs"
        )
    if not len(table.anchors):
        raise DataError(f"{len(rows):,} rows make no pairs: {reasons(table.skipped) or 'no rows'}")
    if split == "train":
        return replace(table, relevance=None)
    table = table.judged()
    if table.relevance is not None and not len(table.relevance.wanted.values):
        raise DataError("no query has a relevant candidate")
    return table


def pairs_in(task: Task, split: str) -> Any:
    """The task's pair construction, or method, for a split."""
    return task.pairs.for_evaluation() if isinstance(task.pairs, Pairs) and split != "train" else task.pairs


def roles_in(task: Task, split: str, *, of_corpus: bool = False) -> dict[str, Role] | None:
    """The columns that the pairs of a split read; None for all."""
    pairs = pairs_in(task, split)
    if not isinstance(pairs, Pairs):
        return None
    return pairs.corpus_columns() if of_corpus else pairs.columns()


@contextmanager
def _told_with(task: Task, split: str, root: Path | None) -> Iterator[None]:
    """Add the place of the rows to errors raised inside, unless they name a file already."""
    try:
        yield
    except DataError as error:
        place = task.data.place(split, root) if isinstance(task.data, Source) else ""
        if not place or place in str(error):
            raise
        raise DataError(f"{place}: {error}") from error


def rows_of(
    task: Task, split: str, root: Path | None, roles: Mapping[str, Role] | None, *, rest: bool = False
) -> pa.Table:
    """The rows of a split with the columns that have a role; with all columns if `roles` is empty or `rest` is set."""
    if isinstance(task.data, Source):
        return as_table(task.data.select(split, root, roles or {}, rest=rest or not roles))
    return as_table(task.data(split, root), roles, rest=rest)


def pairs_fingerprint(task: Task, split: str, root: Path | None) -> str:
    """A fingerprint of all that a split's pairs depend on: the task's version, its declaration and its rows.

    The declaration includes the code of a team's own classes and methods for pairs and sources. For a method `data`,
    its rows are hashed instead.
    """
    corpus = getattr(task.pairs, "corpus", None)
    declaration = repr(task.pairs) if isinstance(task.pairs, Pairs) else ""
    depends_on: list[Any] = [task.version, declaration, _data_fingerprint(task, split, root, roles_in(task, split))]
    if corpus and split != "train":
        depends_on.append(_data_fingerprint(task, corpus, root, roles_in(task, split, of_corpus=True)))
    made_by = [task.pairs] if isinstance(task.pairs, Pairs) else [task, task.pairs]
    depends_on += code_of(*made_by, *([task.data] if isinstance(task.data, Source) else []))
    return hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:16]


def row_digests(task: Task) -> Digests:
    """The digests that are known of rows from the task's method `data`, which has to run before its rows can be hashed.
    The ranks of a node share them.
    """
    return _digests.setdefault(task, {})


def share_row_digests(tasks: Iterable[Task], *, node: int) -> None:
    """Take the digests of rows that another process of this node has computed; called by all ranks together."""
    own = {task.name: row_digests(task) for task in tasks if not isinstance(task.data, Source)}
    for other, found in of_all_ranks((node, own)) if own else ():
        if other == node:
            for name, digests in found.items():
                own[name].update(digests)


def _data_fingerprint(task: Task, split: str, root: Path | None, roles: Mapping[str, Role] | None) -> str:
    if isinstance(task.data, Source):
        return task.data.fingerprint(split, root)
    known, key = row_digests(task), (split, root, repr(roles))
    if key not in known:
        rows, digest = as_table(task.data(split, root), roles), hashlib.sha256()
        for start in range(0, len(rows), HASHED_ROWS):  # hash values: Arrow's bytes differ between equal tables
            digest.update(repr(rows.slice(start, HASHED_ROWS).to_pydict()).encode())
        known[key] = digest.hexdigest()
    return known[key]
