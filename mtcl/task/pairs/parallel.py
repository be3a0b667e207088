"""Pairs of a text and its translation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from mtcl.errors import DataError, TaskError
from mtcl.task.kind import Kind
from mtcl.task.pairs.base import Pairs, training_only
from mtcl.task.pairs.columns import clean, column, id_column, names_of, negatives_column, text_column
from mtcl.task.pairs.keys import Links
from mtcl.task.pairs.table import PairTable, pair_table
from mtcl.task.roles import Role

if TYPE_CHECKING:
    import pyarrow as pa

    from mtcl.task.pairs.numbering import Column


@dataclass(frozen=True)
class Parallel(Pairs):
    """A text and its translations into any number of languages; all translations of one text are related.

    Either each row has one translation, in the column `target`, and its language in the column `language`; or `target`
    names several columns, one per language, and the column names are the languages (a cell may be empty).
    Evaluation searches for each text's translation in both directions, in pools of one size and one language.
    """

    kind: ClassVar[Kind] = Kind.PARALLEL
    source: str = "source"
    target: str | tuple[str, ...] = "target"
    language: str | None = None
    negatives: str | tuple[str, ...] = training_only(())

    def __post_init__(self) -> None:
        if not self.target:
            raise TaskError("Parallel(target=()): name at least one column of translations")
        if self.language and not isinstance(self.target, str):
            raise TaskError(
                f"Parallel(language={self.language!r}) with several targets: their names are the languages, so leave "
                "language out"
            )

    def columns(self) -> dict[str, Role]:
        texts = dict.fromkeys((self.source, *names_of(self.target)), Role.TEXT)
        language = {self.language: Role.ID} if self.language else {}
        return texts | language | dict.fromkeys(names_of(self.negatives), Role.TEXT_OR_TEXTS)

    def __call__(self, rows: pa.Table, corpus: pa.Table | None = None) -> PairTable:
        import pyarrow as pa

        if isinstance(self.target, str):
            rows, skipped = clean(rows, self.source, self.target)
            ids = id_column(rows, self.language) if self.language else pa.repeat(self.target, len(rows))
            return self._table(rows, self.target, ids, skipped)
        rows, skipped = clean(rows, self.source)
        long, languages = [], []
        for name in self.target:
            translated, missing = clean(rows, name)
            long.append(self._long(translated, name))
            languages.append(pa.repeat(name, len(translated)))
            skipped |= missing
        empty = [name for name, table in zip(self.target, long, strict=True) if not len(table)]
        if empty:
            raise DataError(f"no row has a translation in {', '.join(map(repr, empty))}: leave the column out")
        return self._table(pa.concat_tables(long), self.target[0], pa.chunked_array(languages), skipped)

    def _long(self, rows: pa.Table, target: str) -> pa.Table:
        """The columns of one language. Its translations are in the first target's column, a name that no other has."""
        import pyarrow as pa

        columns = {self.source: text_column(rows, self.source), self.target[0]: text_column(rows, target)}
        negatives = {name: column(rows, name, Role.TEXT_OR_TEXTS) for name in names_of(self.negatives)}
        return pa.table(columns | negatives)

    def _table(self, rows: pa.Table, target: str, languages: Column, skipped: dict[str, int]) -> PairTable:
        sources, targets = text_column(rows, self.source), text_column(rows, target)
        table = pair_table(
            sources,
            targets,
            links=[Links(sources, sources), Links(targets, sources)],
            candidates=targets,
            negatives=negatives_column(rows, self.negatives),
            languages=languages,
            skipped=skipped,
        )
        return replace(table, kind=self.kind)
