"""Pairs of a query and a document."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mtcl.arrays import FloatArray
from mtcl.errors import DataError
from mtcl.task.pairs.base import Pairs, training_only
from mtcl.task.pairs.columns import clean, count, id_column, names_of, negatives_column, number_column, text_column
from mtcl.task.pairs.keys import Links
from mtcl.task.pairs.relevance import Judgements
from mtcl.task.pairs.table import PairTable, pair_table
from mtcl.task.roles import Role
from mtcl.task.spill import kept_rows

if TYPE_CHECKING:
    import pyarrow as pa

NOT_RELEVANT = "grade 0"
"""Why a row that was judged not relevant makes no pair."""


@dataclass(frozen=True)
class QueryDocument(Pairs):
    """A query and a document that answers it; evaluation searches the split `corpus` if given, or the rows' documents.

    `document_id` names a column of ids in both rows and corpus: documents with the same id are the same document.
    `negatives` names columns of hard negatives: each row has a text, or a list of texts of any length.

    In evaluation each row is a judgement: its document is relevant to its query. A document is its id, or its exact
    text if there are no ids. A relevant document that is not in the corpus counts as not found. `grade` names a column
    of numbers that say how relevant, with 0 for judged and not relevant: NDCG uses the grades, other metrics count
    every grade above 0, and training leaves out rows with grade 0. `query_id` names a column of ids that tell queries
    with equal texts apart; by default the judgements of equal texts are joined.
    """

    query: str = "query"
    document: str = "document"
    document_id: str | None = None
    corpus: str | None = None
    corpus_text: str = "text"
    negatives: str | tuple[str, ...] = training_only(())
    grade: str | None = None
    query_id: str | None = None

    def columns(self) -> dict[str, Role]:
        texts = {self.query: Role.TEXT, self.document: Role.TEXT} | self._ids()
        texts |= {self.grade: Role.NUMBER} if self.grade else {}
        texts |= {self.query_id: Role.ID} if self.query_id else {}
        return texts | dict.fromkeys(names_of(self.negatives), Role.TEXT_OR_TEXTS)

    def corpus_columns(self) -> dict[str, Role]:
        return {self.corpus_text: Role.TEXT} | self._ids()

    def _ids(self) -> dict[str, Role]:
        return {self.document_id: Role.ID} if self.document_id else {}

    def __call__(self, rows: pa.Table, corpus: pa.Table | None = None) -> PairTable:
        import pyarrow as pa

        rows, skipped = clean(rows, self.query, self.document)
        asked, found = text_column(rows, self.query), text_column(rows, self.document)
        wanted = Links(asked, id_column(rows, self.document_id) if self.document_id else found)
        searched, carried = found, wanted.ids
        links = []
        if corpus is not None:
            corpus, lost = clean(corpus, self.corpus_text)
            for reason, number in lost.items():
                count(skipped, f"corpus: {reason}", number)
            searched = text_column(corpus, self.corpus_text)
            carried = id_column(corpus, self.document_id) if self.document_id else searched
            links = [Links(searched, carried)] if self.document_id else []
        grades = self._grades(rows)
        query_ids = id_column(rows, self.query_id) if self.query_id else None
        judgements = None
        if corpus is not None or self.document_id or grades is not None or query_ids is not None:
            judgements = Judgements(wanted, Links(searched, carried), grades, query_ids)
        if grades is not None:
            rows = kept_rows(rows, pa.array(grades > 0))
            count(skipped, NOT_RELEVANT, int((grades == 0).sum()))
            asked, found = text_column(rows, self.query), text_column(rows, self.document)
        if self.document_id:
            ids = id_column(rows, self.document_id)
            links = [Links(asked, ids), Links(found, ids), *links]
        table = pair_table(
            asked,
            found,
            links=links,
            candidates=searched,
            negatives=negatives_column(rows, self.negatives),
            judgements=judgements,
            skipped=skipped,
        )
        return replace(table, tied=True)

    def _grades(self, rows: pa.Table) -> FloatArray | None:
        """The grade of each row. Raises `DataError` for one below 0."""
        if not self.grade:
            return None
        grades = number_column(rows, self.grade)
        wrong = grades[(grades < 0) | ~np.isfinite(grades)]
        if len(wrong):
            raise DataError(
                f"column {self.grade!r}: {len(wrong):,} of {len(grades):,} grades are below 0 or infinite (the first "
                f"is {wrong[0]:g}): give 0 to rows that were judged not relevant"
            )
        return grades
