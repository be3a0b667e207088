"""What was judged relevant: which items are queries, which are candidates, and which candidates each query should find.

Evaluation uses this and never keys. Keys only prevent wrong negatives, so they are generous: texts that differ only in
case share one, and so do a label and a post with equal text. Judgements name exactly what is relevant, as TREC's qrels
do: a document id, a label, a cluster, or, without ids, a text.

Equal texts: a candidate is a document. With ids, one text under two ids is two candidates, with equal cosines, and only
those with a judged id are relevant; without ids, a text is one candidate however often it occurs. A query is its text
unless it has an id: the judgements of equal queries are joined.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mtcl.arrays import FloatArray, IntArray, Ragged, group, offsets_of
from mtcl.errors import DataError
from mtcl.task.pairs.keys import Links
from mtcl.task.pairs.numbering import Numbering
from mtcl.task.pairs.parts import Entries, first_of_equals, grouped

if TYPE_CHECKING:
    import pyarrow as pa

    from mtcl.task.pairs.numbering import Column


@dataclass(frozen=True)
class Relevance:
    """The judgements of a split as integers; Q queries, C candidates.

    `queries` (Q,) and `candidates` (C,) are text indices; a text may occur several times. The order of candidates
    decides between equal cosines: the first has the better rank. A subject is what judgements name, for example a
    document id. `wanted` has the subjects of each query, and `carried` those of each candidate. A candidate is relevant
    to a query if they have a subject in common. A wanted subject that no candidate has is a relevant document that
    cannot be found. `grades` has a number above 0 for each value of `wanted`; None means that all are 1. `problems` are
    sentences to warn with before the evaluation.
    """

    queries: IntArray
    candidates: IntArray
    wanted: Ragged
    carried: Ragged
    grades: FloatArray | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judgements:
    """Judgements as columns of strings, for `pair_table`.

    In each row of `wanted`, a document with that id is relevant to that query. `carried` has the text and the id of
    each candidate. `grades` (rows of `wanted`,) say how relevant: 0 is judged and not relevant, None is 1 everywhere.
    `query_ids` tell queries of equal text apart; by default a query is its text. With `grouped`, ids are those of
    groups, so that it is no surprise if one has several texts.
    """

    wanted: Links
    carried: Links
    grades: FloatArray | None = None
    query_ids: Column | None = None
    grouped: bool = False

    def resolve(self, texts: Numbering) -> Relevance:
        """As integers; texts get their numbers from `texts`. Raises `DataError` if a query id has several texts."""
        names = Numbering()
        queries, row_query = self._queries(texts.of(self.wanted.texts))
        candidates, subject_of = _distinct_pairs(texts.of(self.carried.texts), names.of(self.carried.ids))
        wanted, grades, num_conflicts = _highest(row_query, names.of(self.wanted.ids), self.grades, len(queries))
        all_names = names.texts()
        problems = [] if self.grouped else _ambiguous(subject_of, all_names)
        problems += _missing(wanted, subject_of, all_names)
        if num_conflicts:
            problems.append(f"{num_conflicts:,} documents have several grades for one query: the highest counts")
        if unjudged := int((wanted.lengths() == 0).sum()):
            problems.append(f"{unjudged:,} of {len(queries):,} queries have no relevant document: they score 0")
        carried = Ragged(np.arange(len(candidates) + 1), subject_of)
        return Relevance(queries, candidates, wanted, carried, grades, tuple(problems))

    def _queries(self, asked: IntArray) -> tuple[IntArray, IntArray]:
        """The text of each query, and the query of each row, whose text is `asked`."""
        if self.query_ids is None:
            return np.unique(asked, return_inverse=True)
        ids = Numbering()
        row_query = ids.of(self.query_ids)
        queries: IntArray = np.empty(len(ids), dtype=np.int64)
        queries[row_query[::-1]] = asked[::-1]
        if len(other := np.flatnonzero(queries[row_query] != asked)):
            first = ids.texts()[int(row_query[other[0]])].as_py()
            raise DataError(f"query id {first!r} has several texts: give each text an id of its own")
        return queries, row_query


def relevance_of_texts(queries: IntArray, found: IntArray, candidates: IntArray) -> Relevance:
    """Judgements that name texts: in each row, the text `found` is relevant to the query. All are text indices."""
    asked, row_query = np.unique(queries, return_inverse=True)
    wanted = group(row_query, found, num_rows=len(asked))
    return Relevance(asked, candidates, wanted, Ragged(np.arange(len(candidates) + 1), candidates))


def relevance_of_groups(queries: IntArray, candidates: IntArray, groups: Ragged, *, num_texts: int) -> Relevance:
    """Judgements that name groups: members of one group are relevant to each other."""
    owners = groups.owners()
    of_text = group(groups.values, owners, num_rows=num_texts)
    return Relevance(queries, candidates, of_text.take(queries), of_text.take(candidates))


def _distinct_pairs(ones: IntArray, others: IntArray) -> tuple[IntArray, IntArray]:
    """The distinct pairs, in the order of their first occurrence."""
    first = np.flatnonzero(first_of_equals(others, ones) == np.arange(len(ones)))
    return ones[first], others[first]


def _highest(
    rows: IntArray, values: IntArray, grades: FloatArray | None, num_rows: int
) -> tuple[Ragged, FloatArray | None, int]:
    """Each row's distinct values with a grade above 0, their highest grades, and how many values had several grades."""
    if grades is None:
        return grouped([Entries(rows, values)], num_rows=num_rows), None, 0
    order = np.lexsort((-grades, values, rows))
    rows, values, grades = rows[order], values[order], grades[order]
    is_first = np.ones(len(rows), dtype=bool)
    is_first[1:] = (rows[1:] != rows[:-1]) | (values[1:] != values[:-1])
    of_first = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
    num_conflicts = len(np.unique(of_first[grades != grades[of_first]]))
    kept = is_first & (grades > 0)
    offsets = offsets_of(np.bincount(rows[kept], minlength=num_rows))
    return Ragged(offsets, values[kept]), grades[kept], num_conflicts


def _ambiguous(subject_of: IntArray, names: pa.Array) -> list[str]:
    several = np.flatnonzero(np.bincount(subject_of, minlength=len(names)) > 1)
    if not len(several):
        return []
    first = names[int(several[0])].as_py()
    return [f"{len(several):,} document ids have several texts ({first!r} is the first): each is a document of its own"]


def _missing(wanted: Ragged, subject_of: IntArray, names: pa.Array) -> list[str]:
    lost = np.flatnonzero(~np.isin(wanted.values, subject_of))
    if not len(lost):
        return []
    queries = wanted.owners()
    num_queries = len(np.unique(queries)) - len(np.unique(np.delete(queries, lost)))
    subjects = np.unique(wanted.values[lost])
    words = f"{len(subjects):,} relevant documents are missing ({names[int(subjects[0])].as_py()!r:.80} is the first)"
    return [f"{words}: they count as not found, and {num_queries:,} of {len(wanted):,} queries have no other"]
