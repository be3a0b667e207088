"""The relevant candidates of queries, from the judgements of a table of pairs. Letters: N queries, R relevant
candidates of all of them, B best grades.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtcl.arrays import FloatArray, IntArray, Ragged, group, offsets_of
from mtcl.task.pairs import PairTable


@dataclass(frozen=True)
class Relevant:
    """The candidates that N queries should find: a row of numbers for each query, and the grade of each value (R,).

    The relevant documents that are not among the candidates are lost: `lost_rows` has the row of each one's query, and
    `lost_grades` its grade.
    """

    candidates: Ragged
    grades_R: FloatArray
    lost_rows: IntArray
    lost_grades: FloatArray

    @property
    def rows(self) -> IntArray:
        """(R,) the row of each relevant candidate."""
        return self.candidates.owners()

    @property
    def num_relevant(self) -> IntArray:
        """(N,) the number of relevant documents of each query, lost ones included."""
        return self.candidates.lengths() + np.bincount(self.lost_rows, minlength=len(self.candidates))

    def best_grades(self, num: int | None) -> FloatArray:
        """(N, B) the `num` highest grades of each query's relevant documents, all if None.

        They are sorted, the highest first, and padded with 0.
        """
        rows = np.concatenate([self.rows, self.lost_rows])
        grades = np.concatenate([self.grades_R, self.lost_grades])
        order = np.lexsort((-grades, rows))
        num_N = self.num_relevant
        place = np.arange(len(order)) - np.repeat(offsets_of(num_N)[:-1], num_N)
        best_NB = np.zeros((len(num_N), int(num_N.max(initial=0)) if num is None else num))
        kept = place < best_NB.shape[1]
        best_NB[rows[order][kept], place[kept]] = grades[order][kept]
        return best_NB


class Judged:
    """The judgements of a table, with its candidates by subject."""

    def __init__(self, table: PairTable) -> None:
        assert table.relevance is not None
        self.relevance, self.exclude_self = table.relevance, table.exclude_self
        wanted, carried_by = self.relevance.wanted, self.relevance.carried
        offsets, self.subjects = np.asarray(wanted.offsets), np.asarray(wanted.values)
        self.wanted = Ragged(offsets, np.arange(len(self.subjects)))
        carried = np.asarray(carried_by.values)
        size = 1 + max(int(self.subjects.max(initial=-1)), int(carried.max(initial=-1)))
        self.of_subject = group(carried, carried_by.owners(), num_rows=size)

    @property
    def can_be_found(self) -> bool:
        """Whether any query has a relevant candidate."""
        least = 2 if self.exclude_self else 1
        return bool((self.of_subject.lengths()[self.subjects] >= least).any())

    def of(self, queries: IntArray) -> Relevant:
        """The candidates that the given queries should find. A candidate with several of a query's subjects has the
        highest of their grades. A query is never relevant to itself if the table excludes that.
        """
        relevance, places = self.relevance, self.wanted.take(queries)
        rows, subjects = places.owners(), self.subjects[places.values]
        grades = np.ones(len(rows)) if relevance.grades is None else np.asarray(relevance.grades)[places.values]
        found = self.of_subject.take(subjects)
        is_lost = found.lengths() == 0
        row_of, grade_of = np.repeat(rows, found.lengths()), np.repeat(grades, found.lengths())
        order = np.lexsort((-grade_of, found.values, row_of))
        row_of, grade_of, candidate_of = row_of[order], grade_of[order], found.values[order]
        kept = np.ones(len(order), dtype=bool)
        kept[1:] = (row_of[1:] != row_of[:-1]) | (candidate_of[1:] != candidate_of[:-1])
        if self.exclude_self:
            kept &= np.asarray(relevance.candidates)[candidate_of] != np.asarray(relevance.queries)[queries][row_of]
        offsets = offsets_of(np.bincount(row_of[kept], minlength=len(queries)))
        return Relevant(Ragged(offsets, candidate_of[kept]), grade_of[kept], rows[is_lost], grades[is_lost])
