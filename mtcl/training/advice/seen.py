"""Finds texts of an evaluation that training has seen.

Texts are compared by their keys, so case and spacing make no difference; near copies (one word, punctuation) count too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtcl.arrays import BoolArray, IntArray
from mtcl.data.leaks import TrainedTexts, rows_of_keys
from mtcl.data.near_copies import NearCopies
from mtcl.task.kind import Kind
from mtcl.task.pairs.keys import text_keys
from mtcl.task.pairs.shared_keys import occurring
from mtcl.training.advice.split import Split

FEW, MANY_NEAR = 0.002, 0.01
"""Shares of equal texts and of near copies up to which there is no warning."""


@dataclass(frozen=True)
class Seen:
    """The texts of a split that training learns a partner of: `equal` by key, `near` as near copies only.

    Both are text indices of the split, sorted; `num_asked` is the number of its distinct texts that are looked up.
    """

    split: str
    equal: IntArray
    near: IntArray
    num_asked: int

    @property
    def share(self) -> float:
        return len(self.equal) / max(1, self.num_asked)

    @property
    def near_share(self) -> float:
        return len(self.near) / max(1, self.num_asked)

    def lines(self) -> list[str]:
        """A warning, if more than a few are seen."""
        found = []
        if self.share > FEW:
            found.append(
                f"{len(self.equal):,} of the {self.num_asked:,} texts that {self.split} asks with ({self.share:.1%}) "
                "are training texts too, so they test nothing new: leave them out of one of the two"
            )
        if self.near_share > MANY_NEAR:
            found.append(
                f"{len(self.near):,} of the {self.num_asked:,} texts that {self.split} asks with "
                f"({self.near_share:.1%}) are near copies of training texts: equal but for punctuation or a word"
            )
        return found


def seen_in(train: Split, split: Split, *, with_near: bool = True) -> Seen:
    """Compare a split's queries with the texts that training learns. Without `with_near` only keys are compared."""
    import pyarrow as pa

    asked = split.asked
    texts = split.texts.take(pa.array(asked))
    keys_Q = text_keys(texts)
    keys_T = np.unique(keys_Q)
    common = keys_T[occurring(keys_T, train.keys.values)]
    learned = train.learned
    rows = np.intersect1d(rows_of_keys(TrainedTexts(train.texts, train.keys), common), learned)
    known = text_keys(train.texts.take(pa.array(rows)))
    is_equal = np.isin(keys_Q, known)
    is_near = np.zeros(len(asked), dtype=np.bool_)
    if with_near:
        is_near[NearCopies(texts).among(train.texts.take(pa.array(learned))).own] = True
    return Seen(split.name, asked[is_equal], asked[is_near & ~is_equal], len(asked))


def seen_items(seen: Seen, split: Split) -> BoolArray:
    """(I,) whether training has seen the item: a query, or a judged pair of which it has seen both texts."""
    if split.kind is Kind.POSITIVE:
        return np.isin(split.queries, seen.equal)
    return np.isin(split.anchors, seen.equal) & np.isin(split.positives, seen.equal)
