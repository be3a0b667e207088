"""A FAISS index of a folder of vectors, in the folder: `_index.faiss`, and its record `_index.json`.

Vectors are compared by inner product, as unit vectors. FAISS identifies them by row numbers in the folder, so ids may
be text or integers. An index belongs to one state of the folder: its record has a digest of the folder's files.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mtcl.arrays import BoolArray, Float32Array, IntArray
from mtcl.deploy.search.exact import exact_search, unit_blocks
from mtcl.deploy.search.plan import IndexOptions, IndexPlan
from mtcl.deploy.vectors import VectorFolder
from mtcl.errors import ConfigError, DataError
from mtcl.evaluation.nearest import Hits
from mtcl.files import write_text, written_whole
from mtcl.mining.index import reason
from mtcl.records.mapping import read_record
from mtcl.records.version import __version__

INDEX, RECORD = "_index.faiss", "_index.json"
NUM = 10
"""The number of neighbours of which the recall is measured."""
ADDED = 65_536
"""The number of rows that are added at once."""


@dataclass(frozen=True)
class IndexRecord:
    """The record of an index.

    Attributes:
        kind, factory: Its kind, and FAISS' name for it.
        rows, dim: Number and dimensions of its vectors.
        content: A digest of the folder's settings and files.
        ef_search, probes: Options of its search.
        recall: The share of the exact 10 nearest neighbours that it finds; None if there are fewer than two vectors.
        queries: Vectors whose neighbours were searched for.
        num_bytes: Size of the file in bytes.
        seconds: Time to build it.
        version: The version of mtcl.
    """

    kind: str
    factory: str
    rows: int
    dim: int
    content: str
    ef_search: int | None
    probes: int | None
    recall: float | None
    queries: int
    num_bytes: int
    seconds: float
    version: str = __version__

    @classmethod
    def read(cls, folder: VectorFolder) -> IndexRecord | None:
        """None if the folder has no index. Raises `DataError` for a malformed record."""
        return read_record(cls, folder.path / RECORD, advice="build the index again")

    def text(self) -> str:
        """The record as a line to print."""
        recall = "" if self.recall is None else f", recall@{NUM} {self.recall:.4f} ({self.queries:,} queries)"
        size = f"{self.num_bytes / 2**20:,.1f} MiB"
        return (
            f"{self.kind} ({self.factory}) of {self.rows:,} vectors of {self.dim} dimensions: {size}, "
            f"built in {self.seconds:.1f} s{recall}"
        )


@dataclass(frozen=True)
class FolderIndex:
    """A FAISS index in memory, with its record."""

    index: Any

    @classmethod
    def open(cls, folder: VectorFolder, record: IndexRecord) -> FolderIndex:
        """Read an index. Raises `DataError` if the file is missing or damaged, `ConfigError` without FAISS."""
        faiss = _faiss()
        path = folder.path / INDEX
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise DataError(f"cannot read {path} ({reason(error)}): build the index again") from error
        if (index.ntotal, index.d) != (record.rows, record.dim):
            raise DataError(f"{path} is not the index that {RECORD} describes: build the index again")
        found = cls(index)
        found.set(ef_search=record.ef_search, probes=record.probes)
        return found

    def set(self, *, ef_search: int | None, probes: int | None) -> None:
        """How it is searched."""
        if ef_search is not None:
            self.index.hnsw.efSearch = ef_search
        if probes is not None:
            self.index.nprobe = probes

    def search(self, queries_ND: Float32Array, num: int) -> Hits:
        """The `num` nearest rows by cosine to each of the unit vectors."""
        if self.index.ntotal == 0:
            return Hits(np.empty((len(queries_ND), 0), np.float32), np.empty((len(queries_ND), 0), np.int64))
        return Hits(*self.index.search(np.ascontiguousarray(queries_ND, dtype=np.float32), min(num, self.index.ntotal)))


def content_of(folder: VectorFolder) -> str:
    """A digest of the folder's settings and files, which tells whether an index is stale."""
    shards = [(shard.name, shard.rows, shard.files) for shard in folder.shards]
    content = json.dumps([folder.settings.plain(), shards], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def build_index(folder: VectorFolder, options: IndexOptions, *, num_queries: int = 200, seed: int = 0) -> IndexRecord:
    """Build and write the index of a folder, instead of an earlier one, and measure its recall.

    Args:
        folder: The vectors; they are read block by block.
        options: The kind of index.
        num_queries: Vectors of the folder whose neighbours are searched for to measure the recall.
        seed: The seed that chooses training vectors and queries.

    Raises `ConfigError` for options that do not fit the folder, and without FAISS.
    """
    if num_queries < 1:
        raise ConfigError(f"num_queries is {num_queries}: give 1 or more")
    if not len(folder):
        raise DataError(f"{folder.path} has no vectors: embed some first")
    plan = IndexPlan.of(options, rows=len(folder), dim=folder.dim)
    generator, began = np.random.default_rng(seed), time.perf_counter()
    index = _built(folder, plan, generator)
    seconds = time.perf_counter() - began
    found = FolderIndex(index)
    found.set(ef_search=plan.ef_search, probes=plan.probes)
    queries = np.sort(generator.choice(len(folder), min(num_queries, len(folder)), replace=False))
    recall = recall_of(found, folder, queries) if len(folder) > 1 else None
    (folder.path / RECORD).unlink(missing_ok=True)  # a record never describes another file than the one beside it
    with written_whole(folder.path / INDEX) as aside, aside.open("wb") as file:
        # given a name, FAISS only prints that the end of a file was refused
        _faiss().write_index(index, _faiss().PyCallbackIOWriter(file.write))
        file.flush()
    record = IndexRecord(
        kind=options.kind,
        factory=plan.factory,
        rows=len(folder),
        dim=folder.dim,
        content=content_of(folder),
        ef_search=plan.ef_search,
        probes=plan.probes,
        recall=recall,
        queries=len(queries),
        num_bytes=(folder.path / INDEX).stat().st_size,
        seconds=round(seconds, 3),
    )
    write_text(folder.path / RECORD, json.dumps(asdict(record), indent=1) + "\n")
    return record


def recall_of(index: FolderIndex, folder: VectorFolder, rows: IntArray, num: int = NUM) -> float:
    """The mean share of the exact `num` nearest neighbours of some of the folder's vectors that the index finds.

    A vector is not its own neighbour. If vectors are equal, it makes no difference which of them is found.
    """
    queries_ND = vectors_at(folder, rows)
    num = min(num, len(folder) - 1)
    exact = exact_search(folder, queries_ND, num + 1)
    found = index.search(queries_ND, num + 1)
    others_NK = _others(found.rows_NK, rows, num)
    scores_NK = _scores(folder, queries_ND, others_NK)
    last_N1 = np.take_along_axis(exact.scores_NK, _last_other(exact.rows_NK, rows, num), axis=1)
    return float(((others_NK >= 0) & (scores_NK >= last_N1 - 1e-6)).mean())


def vectors_at(folder: VectorFolder, rows: IntArray) -> Float32Array:
    """(len(rows), D) unit vectors of rows in rising order; the folder is read once."""
    found_ND = np.empty((len(rows), folder.dim), dtype=np.float32)
    for start, vectors_nD in unit_blocks(folder):
        first, last = np.searchsorted(rows, [start, start + len(vectors_nD)])
        found_ND[first:last] = vectors_nD[rows[first:last] - start]
    return found_ND


def has_faiss() -> bool:
    """Whether FAISS is installed."""
    return importlib.util.find_spec("faiss") is not None


def _built(folder: VectorFolder, plan: IndexPlan, generator: np.random.Generator) -> Any:
    faiss = _faiss()
    try:
        index = faiss.index_factory(folder.dim, plan.factory, faiss.METRIC_INNER_PRODUCT)
        if plan.ef_construction is not None:
            index.hnsw.efConstruction = plan.ef_construction
        if not index.is_trained:
            rows = np.sort(generator.choice(len(folder), plan.training, replace=False))
            index.train(vectors_at(folder, rows))
        for _, vectors_nD in unit_blocks(folder, ADDED):
            index.add(vectors_nD)
    except RuntimeError as error:
        raise ConfigError(f"the index {plan.factory} cannot be built: {reason(error)}") from error
    return index


def _others(found_NK: IntArray, rows: IntArray, num: int) -> IntArray:
    """(N, num): the found rows without the query's own; -1 where there are fewer."""
    order = np.argsort((found_NK == rows[:, None]) | (found_NK < 0), axis=1, kind="stable")
    found: IntArray = np.take_along_axis(found_NK, order, axis=1)[:, :num]
    return np.where(found == rows[:, None], -1, found)


def _last_other(exact_NK: IntArray, rows: IntArray, num: int) -> IntArray:
    """(N, 1): the place of the `num`-th neighbour that is not the query itself."""
    itself_N = (exact_NK[:, :num] == rows[:, None]).any(axis=1)
    return np.where(itself_N, num, num - 1)[:, None]


def _scores(folder: VectorFolder, queries_ND: Float32Array, rows_NK: IntArray) -> Float32Array:
    """The exact cosines of queries and rows."""
    scores_NK = np.full(rows_NK.shape, -np.inf, dtype=np.float32)
    for start, vectors_nD in unit_blocks(folder):
        here: BoolArray = (rows_NK >= start) & (rows_NK < start + len(vectors_nD))
        queries = np.nonzero(here)[0]
        scores_NK[here] = (queries_ND[queries] * vectors_nD[rows_NK[here] - start]).sum(axis=1)
    return scores_NK


def _faiss() -> Any:
    if not has_faiss():
        raise ConfigError("an index needs FAISS, which is not installed: pip install 'mtcl[mine]'")
    import faiss

    return faiss
