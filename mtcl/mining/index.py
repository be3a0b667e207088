"""A FAISS index of embeddings, and the share of the nearest texts that it finds.

Letters: N queries, n rows of a block, D dimensions, K neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mtcl.arrays import Float32Array, IntArray
from mtcl.errors import ConfigError
from mtcl.evaluation.nearest import Top
from mtcl.mining.embeddings import Embeddings

ROWS = 1 << 14
"""Rows that are read at a time."""
SHARE, FEWEST = 16, 8
"""An IVF index searches one of 16 of its lists, at least 8. FAISS itself searches a single one."""


def index_of(embeddings: Embeddings, places: IntArray, kind: str) -> Any:
    """A FAISS index of the embeddings at `places`, filled block by block. Raises `ConfigError` for an unknown kind."""
    import faiss

    try:
        index = faiss.index_factory(embeddings.dim, kind, faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            index.train(embeddings.take(places))
    except RuntimeError as error:
        raise ConfigError(f"index {kind!r} cannot be created: {reason(error)}") from error
    if lists := faiss.try_extract_index_ivf(index):
        lists.nprobe = max(FEWEST, lists.nlist // SHARE)
    for _, block_nD in _blocks(embeddings, places):
        index.add(block_nD)
    return index


def recall_of(index: Any, embeddings: Embeddings, places: IntArray, queries_ND: Float32Array, num: int) -> float:
    """The mean share of each query's `num` nearest among the embeddings at `places` that the index finds."""
    num = min(num, len(places))
    top = Top(len(queries_ND), num)
    for start, block_nD in _blocks(embeddings, places):
        top.add(slice(None), queries_ND @ block_nD.T, start)
    found_NK = index.search(np.ascontiguousarray(queries_ND), num)[1]
    return float(np.mean([len(np.intersect1d(*rows)) / num for rows in zip(found_NK, top.rows_NK, strict=True)]))


def reason(error: RuntimeError) -> str:
    """What FAISS says, without the place in its source."""
    return " ".join((str(error).partition("Error: ")[2] or str(error)).split())


def _blocks(embeddings: Embeddings, places: IntArray) -> Iterator[tuple[int, Float32Array]]:
    """The number of the first row and (n, D) of each block."""
    for start in range(0, len(places), ROWS):
        yield start, embeddings.take(places[start : start + ROWS])
