"""Takes the first rows of a split, so that a comparison of many tasks is fast. A corpus is read whole."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtcl.task.as_table import as_table
from mtcl.task.contract import Task
from mtcl.task.roles import Role
from mtcl.task.sources import Source

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class FirstRows(Source):
    """The first `count` rows of the split `of`, and all rows of the others."""

    source: Any
    of: str
    count: int

    def __call__(self, split: str, root: Path | None) -> pa.Table:
        return self._cut(as_table(self.source(split, root)), split)

    def select(self, split: str, root: Path | None, roles: Mapping[str, Role], *, rest: bool = False) -> pa.Table:
        if not isinstance(self.source, Source):
            return self(split, root)
        return self._cut(as_table(self.source.select(split, root, roles, rest=rest)), split)

    def fingerprint(self, split: str, root: Path | None) -> str:
        if isinstance(self.source, Source):
            return f"{self.source.fingerprint(split, root)} first {self.count}"
        return repr(self(split, root).to_pydict())

    def _cut(self, rows: pa.Table, split: str) -> pa.Table:
        return rows.slice(0, self.count) if split == self.of else rows


def first_rows(task: Task, split: str, count: int) -> Task:
    """The task with the first `count` rows of a split."""
    cut = copy(task)
    cut.data = FirstRows(task.data, split, count)
    return cut
