"""A task's training rows: finds each row's anchor and positives, and writes the rows with their negatives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mtcl.arrays import IntArray, Ragged, group
from mtcl.data.store import TokenStore
from mtcl.errors import ConfigError, TaskError
from mtcl.files import written_whole
from mtcl.task.contract import Task, errors_of
from mtcl.task.pairs import Cluster, Duplicates, LabelText, Pairs, Parallel, QueryDocument, Tags
from mtcl.task.pairs.columns import column, id_column, text_column, texts_column
from mtcl.task.pairs.keys import index_in
from mtcl.task.pairs.sides import as_documents
from mtcl.task.roles import Role, is_list
from mtcl.task.rows import rows_of

if TYPE_CHECKING:
    import pyarrow as pa

MAX_MEMBERS = 32
"""In a larger cluster, the score of the positives is the mean score of only this many members."""


@dataclass(frozen=True)
class MinedRows:
    """The rows of a task's training split, without the column for the negatives."""

    table: pa.Table
    pairs: Pairs
    column: str

    def places(self, store: TokenStore, texts: pa.Array) -> tuple[IntArray, Ragged]:
        """Each row's anchor and positives as indices of the store's texts; -1 and none if the row makes no pair."""
        pairs, rows = self.pairs, self.table
        match pairs:
            case QueryDocument():
                return self._paired(pairs.query, [pairs.document], texts, grade=pairs.grade)
            case LabelText():
                return self._paired(pairs.text, [pairs.label], texts)
            case Duplicates():
                return self._paired(pairs.anchor, [pairs.positive], texts)
            case Parallel():
                targets = [pairs.target] if isinstance(pairs.target, str) else list(pairs.target)
                return self._paired(pairs.source, targets, texts)
            case Tags():
                return self._tagged(pairs, texts)
            case Cluster():
                anchors = index_in(text_column(rows, pairs.text), texts)
                return anchors, self._members(anchors, id_column(rows, pairs.cluster))
        raise AssertionError(pairs)

    def _paired(
        self, anchor: str, positives: list[str], texts: pa.Array, *, grade: str | None = None
    ) -> tuple[IntArray, Ragged]:
        anchors = index_in(text_column(self.table, anchor), texts)
        if grade:  # a row of grade 0 makes no pair: its document is no positive
            grades = column(self.table, grade, Role.NUMBER).to_numpy()
            anchors = np.where(grades > 0, anchors, -1)
        found = np.stack([index_in(text_column(self.table, name), texts) for name in positives], axis=1)
        rows, columns = np.nonzero((anchors >= 0)[:, None] & (found >= 0))
        return anchors, group(rows, as_documents(texts)[found[rows, columns]], num_rows=len(anchors))

    def _tagged(self, pairs: Tags, texts: pa.Array) -> tuple[IntArray, Ragged]:
        import pyarrow.compute as pc

        column = texts_column(self.table, pairs.tags)
        anchors = index_in(text_column(self.table, pairs.text), texts)
        owners, tags = np.asarray(pc.list_parent_indices(column)), index_in(pc.list_flatten(column), texts)
        return anchors, group(owners[tags >= 0], as_documents(texts)[tags[tags >= 0]], num_rows=len(anchors))

    def _members(self, anchors: IntArray, clusters: pa.Array) -> Ragged:
        """Up to `MAX_MEMBERS` other texts of each row's cluster."""
        names = clusters.unique()
        cluster = index_in(clusters, names)
        there = np.flatnonzero(anchors >= 0)
        members = group(cluster[there], anchors[there], num_rows=len(names))
        first = np.minimum(members.lengths(), MAX_MEMBERS + 1)
        kept = np.arange(len(members.values)) < np.repeat(members.offsets[:-1] + first, members.lengths())
        owners = members.owners()[kept]
        few = group(owners, members.values[kept], num_rows=len(names)).take(cluster)
        row = few.owners()
        other = few.values != anchors[row]
        return group(row[other], few.values[other], num_rows=len(anchors))

    def write(self, path: Path, blocks: Iterator[list[list[str]]]) -> None:
        """Write the rows with their negatives to a Parquet file, atomically."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        kind = pa.list_(pa.string())
        schema = self.table.schema.append(pa.field(self.column, kind))
        start = 0
        with written_whole(path) as aside, pq.ParquetWriter(aside, schema) as writer:
            for block in blocks:
                rows = self.table.slice(start, len(block))
                writer.write_table(pa.table([*rows.columns, pa.array(block, type=kind)], schema=schema))
                start += len(block)


def training_rows(task: Task, root: Path | None, *, column: str) -> MinedRows:
    """The rows to mine for. Raises `TaskError` if the task's pairs do not say which column is the anchor."""
    if not column.strip():
        raise ConfigError("column is empty: give the new column a name")
    kinds = (QueryDocument, LabelText, Tags, Duplicates, Parallel, Cluster)
    if not isinstance(task.pairs, kinds):
        names = ", ".join(kind.__name__ for kind in kinds)
        raise TaskError(f"task {task.name!r}: mining needs pairs of one of the classes {names}")
    with errors_of(task, "train"):
        table = rows_of(task, "train", root, task.pairs.columns(), rest=True)
    if column in table.column_names:
        if not is_list(table.schema.field(column).type):
            raise ConfigError(f"column {column} exists and has no mined negatives: give another name")
        table = table.drop_columns([column])
    return MinedRows(table, task.pairs, column)
