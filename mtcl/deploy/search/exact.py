"""Exact search in a folder of vectors, block by block: memory does not grow with the folder.

Letters: N queries, n rows of a block, D dimensions, K neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator

from mtcl.arrays import Float32Array
from mtcl.deploy.space import unit
from mtcl.deploy.vectors import VectorFolder
from mtcl.evaluation.nearest import Hits, Top

QUERIES, ROWS = 1024, 8192
"""Queries and rows that are compared at once: 32 MiB of scores."""


def unit_blocks(folder: VectorFolder, num_rows: int = ROWS) -> Iterator[tuple[int, Float32Array]]:
    """Number of the first row and (n, D) unit vectors of each block; int8 and binary vectors are normalised too."""
    start = 0
    for block in folder.blocks(num_rows):
        yield start, unit(block.vectors)
        start += len(block)


def exact_search(folder: VectorFolder, queries_ND: Float32Array, num: int) -> Hits:
    """The `num` nearest rows by cosine to each of the unit vectors `queries_ND`; the folder is read once."""
    top = Top(len(queries_ND), num)
    for start, vectors_nD in unit_blocks(folder):
        for first in range(0, len(queries_ND), QUERIES):
            queries = slice(first, first + QUERIES)
            top.add(queries, queries_ND[queries] @ vectors_nD.T, start)
    return top.hits
