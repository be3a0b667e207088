"""Pairs from labels with meaningful names: a post and its label's text, or two posts with the same label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from mtcl.errors import TaskError
from mtcl.task.pairs.base import Pairs, training_only
from mtcl.task.pairs.columns import clean, names_of, negatives_column, text_column, texts_column
from mtcl.task.pairs.table import By, PairTable, label_table
from mtcl.task.roles import Role
from mtcl.task.spill import ROWS, Spill

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class LabelText(Pairs):
    """A post with a single label; evaluation ranks the texts of all labels of the split.

    A label is its exact text: `Java` and `java` are two labels. Equal posts are one query, and all their labels are
    relevant.

    `by` selects the positive: the label's text, an example (another post with that label, drawn again in each epoch),
    or both. In NV-Embed, examples gave better results than label texts (arXiv 2405.17428, table 4).
    """

    has_labels: ClassVar[bool] = True
    text: str = "text"
    label: str = "label"
    by: Literal["label", "example", "both"] = training_only("label")
    negatives: str | tuple[str, ...] = training_only(())

    def __post_init__(self) -> None:
        check_by(self.by, type(self).__name__)

    def columns(self) -> dict[str, Role]:
        negatives = dict.fromkeys(names_of(self.negatives), Role.TEXT_OR_TEXTS)
        return {self.text: Role.TEXT, self.label: Role.TEXT} | negatives

    def __call__(self, rows: pa.Table, corpus: pa.Table | None = None) -> PairTable:
        rows, skipped = clean(rows, self.text, self.label)
        texts, labels = text_column(rows, self.text), text_column(rows, self.label)
        negatives = negatives_column(rows, self.negatives)
        return label_table(texts, labels, by=self.by, negatives=negatives, skipped=skipped)


@dataclass(frozen=True)
class Tags(Pairs):
    """A post with several tags (a list column): one pair per tag. A post's tags are never its negatives.

    `by` is as in `LabelText`.
    """

    has_labels: ClassVar[bool] = True
    text: str = "text"
    tags: str = "tags"
    by: Literal["label", "example", "both"] = training_only("label")

    def __post_init__(self) -> None:
        check_by(self.by, type(self).__name__)

    def columns(self) -> dict[str, Role]:
        return {self.text: Role.TEXT, self.tags: Role.TEXTS}

    def __call__(self, rows: pa.Table, corpus: pa.Table | None = None) -> PairTable:
        import pyarrow as pa
        import pyarrow.compute as pc

        rows, skipped = clean(rows, self.text)
        flat, untagged = Spill(), 0
        for start in range(0, max(1, len(rows)), ROWS):  # also if no row is left
            some = rows.slice(start, ROWS)
            tags = texts_column(some, self.tags)
            owner = pc.list_parent_indices(tags)
            flat.add(pa.table({"text": text_column(some, self.text).take(owner), "tag": pc.list_flatten(tags)}))
            untagged += len(some) - len(pc.unique(owner))
        pairs, empty_tags = clean(pa.concat_tables(flat.tables()), "text", "tag")
        if untagged:
            skipped = {**skipped, f"no {self.tags}": untagged}
        skipped = {**skipped, **{f"tag: {reason}": count for reason, count in empty_tags.items()}}
        return label_table(text_column(pairs, "text"), text_column(pairs, "tag"), by=self.by, skipped=skipped)


def check_by(by: By, owner: str) -> None:
    """Raise `TaskError` for an unknown value."""
    if by not in ("label", "example", "both"):
        raise TaskError(f"{owner}(by={by!r}): give 'label', 'example' or 'both'")
