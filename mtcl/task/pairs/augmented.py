"""Pairs of a text with itself: two dropout masks are the two views (SimCSE, arXiv 2104.08821)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mtcl.task.pairs.base import Pairs
from mtcl.task.pairs.columns import clean, text_column
from mtcl.task.pairs.numbering import blocks_of
from mtcl.task.pairs.table import PairTable, pair_table
from mtcl.task.roles import Role
from mtcl.task.spill import Spill

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Augmented(Pairs):
    """Texts without labels: each text is its own positive, encoded twice with different dropout.

    In evaluation, the first half of a text's words is a query. It should find the text, or any text with the same first
    half, among all texts of the split.
    """

    text: str = "text"

    def columns(self) -> dict[str, Role]:
        return {self.text: Role.TEXT}

    def __call__(self, rows: pa.Table, corpus: pa.Table | None = None) -> PairTable:
        import pyarrow as pa
        import pyarrow.compute as pc

        rows, skipped = clean(rows, self.text)
        texts = text_column(rows, self.text)
        asked = Spill()
        asked.add(pa.table({"half": texts.slice(0, 0), "text": texts.slice(0, 0)}))  # if no text is left
        for block in blocks_of(texts):
            halves = pa.array(map(_first_half, block.to_pylist()), type=pa.large_string())
            has_several = pc.greater(pc.count_substring_regex(block, r"\S+"), 1)
            asked.add(pa.table({"half": halves, "text": block}).filter(has_several))
        found = pa.concat_tables(asked.tables())
        queries = (found["half"], found["text"])
        table = pair_table(texts, texts, candidates=texts, queries=queries, skipped=skipped)
        return replace(table, symmetric=True)


def _first_half(text: str) -> str:
    words = text.split()
    return " ".join(words[: -(-len(words) // 2)])
