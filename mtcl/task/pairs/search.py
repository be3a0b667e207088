"""Pairs of a query and a document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtcl.task.pairs.base import Pairs, training_only
from mtcl.task.pairs.columns import clean, id_column, names_of, negatives_column, text_column
from mtcl.task.pairs.keys import Links
from mtcl.task.pairs.table import PairTable, pair_table
from mtcl.task.roles import Role

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class QueryDocument(Pairs):
    """A query and a document that answers it; evaluation searches the split `corpus` if given, or the rows' documents.

    `document_id` names a column of ids in both rows and corpus: documents with the same id are the same document.
    `negatives` names columns of hard negatives: each row has a text, or a list of texts of any length.
    """

    query: str = "query"
    document: str = "document"
    document_id: str | None = None
    corpus: str | None = None
    corpus_text: str = "text"
    negatives: str | tuple[str, ...] = training_only(())

    def columns(self) -> dict[str, Role]:
        texts = {self.query: Role.TEXT, self.document: Role.TEXT}
        return texts | self._ids() | dict.fromkeys(names_of(self.negatives), Role.TEXT_OR_TEXTS)

    def corpus_columns(self) -> dict[str, Role]:
        return {self.corpus_text: Role.TEXT} | self._ids()

    def _ids(self) -> dict[str, Role]:
        return {self.document_id: Role.ID} if self.document_id else {}

    def __call__(self, rows: pa.Table, corpus: pa.Table | None = None) -> PairTable:
        rows, skipped = clean(rows, self.query, self.document)
        queries, documents = text_column(rows, self.query), text_column(rows, self.document)
        links, searched = [], documents
        if self.document_id:
            ids = id_column(rows, self.document_id)
            links = [Links(queries, ids), Links(documents, ids)]
        if corpus is not None:
            corpus, _ = clean(corpus, self.corpus_text)
            searched = text_column(corpus, self.corpus_text)
            if self.document_id:
                links.append(Links(searched, id_column(corpus, self.document_id)))
        negatives = negatives_column(rows, self.negatives)
        return pair_table(
            queries, documents, links=links, candidates=searched, negatives=negatives, tied=True, skipped=skipped
        )
