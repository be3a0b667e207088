"""Which FAISS index fits a folder: the kind, its options, and defaults from the number of rows.

| kind | what it is | bytes per vector | needs |
|---|---|---|---|
| exact | every vector is compared | 4 D | |
| hnsw | a graph of neighbours (arXiv 1603.09320) | 4 D + about 8 links | |
| ivfpq | lists by centroid, vectors as codes (Jegou et al. 2011) | code_bytes + 8 | training on a sample |
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from mtcl.errors import ConfigError, listed

IndexKind = Literal["exact", "hnsw", "ivfpq"]
KINDS: tuple[IndexKind, ...] = get_args(IndexKind)
POINTS_PER_CENTROID = 39
"""FAISS warns below this number of training vectors per centroid."""
CODES = 256
"""Centroids of one byte of a code."""
FEWEST = POINTS_PER_CENTROID * CODES
"""Vectors that training of ivfpq needs."""
TRAINING_BYTES = 1 << 30
MOST_LISTS = 65_536
LEAST = {"links": 2}
"""The least value of an option, where it is not 1. A graph of one link per vector crashes FAISS, and Python with it."""
OWNERS = {"links": "hnsw", "ef_construction": "hnsw", "ef_search": "hnsw"} | dict.fromkeys(
    ("lists", "code_bytes", "probes"), "ivfpq"
)


@dataclass(frozen=True)
class IndexOptions:
    """What a user chooses; None is a default that depends on the folder.

    Attributes:
        kind: exact, hnsw or ivfpq.
        links: hnsw: neighbours of each vector in the graph (FAISS: M).
        ef_construction: hnsw: candidates while building; more is slower and better.
        ef_search: hnsw: candidates while searching; more is slower and better.
        lists: ivfpq: centroids, each with a list of vectors (FAISS: nlist).
        code_bytes: ivfpq: bytes of a vector's code, a divisor of its number of dimensions (FAISS: m).
        probes: ivfpq: lists that are searched; more is slower and better (FAISS: nprobe).
    """

    kind: IndexKind = "exact"
    links: int | None = None
    ef_construction: int | None = None
    ef_search: int | None = None
    lists: int | None = None
    code_bytes: int | None = None
    probes: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"kind is {self.kind!r}: give {listed(KINDS)}")
        for one in fields(self)[1:]:
            value = getattr(self, one.name)
            if value is None:
                continue
            if OWNERS[one.name] != self.kind:
                raise ConfigError(
                    f"{one.name} has no effect on kind {self.kind}: it is an option of {OWNERS[one.name]}"
                )
            if value < (least := LEAST.get(one.name, 1)):
                raise ConfigError(f"{one.name} is {value}: give {least} or more")


@dataclass(frozen=True)
class IndexPlan:
    """An index of FAISS: its factory's string, the options of its parts, and the number of vectors to train it on."""

    factory: str
    training: int = 0
    ef_construction: int | None = None
    ef_search: int | None = None
    probes: int | None = None

    @classmethod
    def of(cls, options: IndexOptions, *, rows: int, dim: int) -> IndexPlan:
        """Raises `ConfigError` for options that do not fit the vectors."""
        match options.kind:
            case "exact":
                return cls("Flat")
            case "hnsw":
                ef_construction = options.ef_construction or 100
                return cls(f"HNSW{options.links or 32}", 0, ef_construction, options.ef_search or 64)
        if rows < FEWEST:
            raise ConfigError(
                f"kind ivfpq is trained on at least {FEWEST:,} vectors, and there are {rows:,}: give exact or hnsw"
            )
        code_bytes = options.code_bytes or next(size for size in range(-(-dim // 4), dim + 1) if dim % size == 0)
        if dim % code_bytes:
            raise ConfigError(f"code_bytes is {code_bytes}: give a divisor of {dim}, the number of dimensions")
        sample = min(rows, TRAINING_BYTES // (4 * dim))
        lists = options.lists or default_lists(rows, sample)
        if lists > sample:
            raise ConfigError(f"lists is {lists:,}: give at most {sample:,}, the vectors that they are trained on")
        probes = options.probes or min(lists, 128, max(8, lists // 16))
        if probes > lists:
            raise ConfigError(f"probes is {probes}: give at most {lists}, the number of lists")
        training = min(sample, max(64 * lists, 2 * FEWEST))
        # np: without the training for Hamming distances, which is never used and took 97 % of the time
        return cls(f"IVF{lists},PQ{code_bytes}np", training, probes=probes)


def default_lists(rows: int, sample: int) -> int:
    """The power of two nearest below 4 sqrt(rows), with enough training vectors for each list."""
    most = min(int(4 * rows**0.5), sample // POINTS_PER_CENTROID, MOST_LISTS)
    return 1 << (most.bit_length() - 1)
