"""Which texts of a table are queries, which are documents, and a table in which no text is both."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mtcl.arrays import BoolArray, IntArray, Ragged, offsets_of
from mtcl.task.pairs.keys import index_in
from mtcl.task.pairs.table import DRAWN, PairTable
from mtcl.task.prompt import PromptSide

if TYPE_CHECKING:
    import pyarrow as pa

Sides = npt.NDArray[np.uint8]


def sides_of(table: PairTable) -> Sides:
    """(T,) the `PromptSide` of each text; of a text on both sides, the query's."""
    if table.is_symmetric:
        return np.full(len(table.texts), PromptSide.EITHER, dtype=np.uint8)
    return np.where(_is_query(table), PromptSide.QUERY, PromptSide.DOCUMENT).astype(np.uint8)


def split_sides(table: PairTable) -> tuple[PairTable, Sides]:
    """The table with a copy of each text that is both a query and a document, and the side of each text.

    The copy is the document. It has the keys of the original; copies come after all other texts, in their order.
    """
    import pyarrow as pa

    sides = sides_of(table)
    if table.is_symmetric:
        return table, sides
    both = np.flatnonzero((sides == PromptSide.QUERY) & _is_document(table))
    place = np.arange(len(table.texts))
    place[both] = len(table.texts) + np.arange(len(both))
    keys, copied = table.keys, table.keys.take(both)
    negatives, relevance = table.negatives, table.relevance
    split = replace(
        table,
        texts=pa.concat_arrays([table.texts, table.texts.take(pa.array(both))]),
        keys=Ragged(
            offsets_of(np.concatenate([keys.lengths(), copied.lengths()])),
            np.concatenate([keys.values, copied.values]),
        ),
        positives=place[table.positives] if table.groups is None else table.positives,
        candidates=place[table.candidates],
        negatives=None if negatives is None else Ragged(negatives.offsets, place[negatives.values]),
        relevance=None if relevance is None else replace(relevance, candidates=place[relevance.candidates]),
    )
    sides = np.concatenate([sides, np.full(len(both), PromptSide.DOCUMENT, dtype=np.uint8)])
    return split, sides


def as_documents(texts: pa.Array) -> IntArray:
    """(T,) the row of each text of a split table as a document: that of its copy if it has one."""
    first_T = index_in(texts, texts)
    copies = np.flatnonzero(first_T != np.arange(len(texts)))
    place_T = np.arange(len(texts))
    place_T[first_T[copies]] = copies
    return place_T


def _is_query(table: PairTable) -> BoolArray:
    found = np.zeros(len(table.texts), dtype=np.bool_)
    found[table.queries] = True
    found[table.anchors[table.anchors != DRAWN]] = True
    return found


def _is_document(table: PairTable) -> BoolArray:
    found = np.zeros(len(table.texts), dtype=np.bool_)
    found[table.candidates] = True
    if table.groups is None:
        found[table.positives] = True
    if table.negatives is not None:
        found[table.negatives.values] = True
    return found
