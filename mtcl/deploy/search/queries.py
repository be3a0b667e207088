"""Texts as vectors that a folder can be searched with, and the neighbours of each."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mtcl.arrays import Float32Array
from mtcl.deploy.embed.computing import tokens_of
from mtcl.deploy.search.exact import exact_search
from mtcl.deploy.search.index import FolderIndex, IndexRecord, content_of, has_faiss
from mtcl.deploy.search.rows import rows_at
from mtcl.deploy.space import MAPPED, Space
from mtcl.deploy.vectors import VectorFolder
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.errors import ConfigError
from mtcl.evaluation.nearest import Hits
from mtcl.task.prompt import SideName

if TYPE_CHECKING:
    from mtcl.deploy.align.alignment import Alignment

log = logging.getLogger("mtcl")
SCORE = "score"


@dataclass(frozen=True)
class Queries:
    """How texts become vectors that compare with those of a folder.

    Attributes:
        encoder: The encoder of the folder's vectors, or the one that `alignment` maps from.
        task: The task whose prompt, max length and head are used; None for no task.
        role: The role whose prompt is used.
        dim: Leading dimensions that are kept.
        alignment: Maps the encoder's vectors to the folder's space; None if they are in it.
    """

    encoder: TextEncoder
    task: str | None
    role: SideName
    dim: int
    alignment: Alignment | None = None

    @classmethod
    def of(
        cls,
        folder: VectorFolder,
        encoder: TextEncoder,
        *,
        task: str | None = None,
        role: SideName = "query",
        alignment: Alignment | None = None,
    ) -> Queries:
        """For a folder; `task` is by default that of its vectors.

        Raises `ConfigError` if the vectors of encoder, task and alignment do not compare with those of the folder.
        """
        space = Space.of(folder.settings)
        if alignment is not None:
            if not alignment.target.is_same(space):
                raise ConfigError(f"the map leads to {alignment.target}, and {folder.path} has vectors of {space}")
            space = alignment.source
        if encoder.fingerprint() != space.fingerprint:
            whose = str(folder.path) if alignment is None else "the map's source"
            raise ConfigError(
                f"the encoder has the fingerprint {encoder.fingerprint()}, and {whose} {space.fingerprint}: give the "
                "encoder that the vectors were made with, or a map from the one to the other (`mtcl align`)"
            )
        is_own = alignment is None and MAPPED not in folder.settings.fingerprint
        if is_own and tokens_of(encoder, folder.settings.max_length) != folder.settings.tokens:
            raise ConfigError(
                f"the encoder's tokenizer is not the one that {folder.path} was embedded with: restore its files, or "
                "embed again"
            )
        task = space.task if task is None else task
        if encoder.head_fingerprint(task) != space.head:
            own = "another head" if encoder.head_fingerprint(task) else "no head"
            raise ConfigError(f"task {task!r} has {own}, and the vectors are of task {space.task!r}: give that one")
        return cls(encoder, task, role, space.dim, alignment)

    def vectors(self, texts: Sequence[str]) -> Float32Array:
        """(N, D) unit vectors in the folder's space."""
        dim = self.dim if self.dim < self.encoder.dim_of(self.task) else None
        found_ND = self.encoder.encode(list(texts), task=self.task, role=self.role, dim=dim, output="numpy")
        return found_ND if self.alignment is None else self.alignment(found_ND)


def search(folder: VectorFolder, queries_ND: Float32Array, num: int, *, exact: bool = False) -> Hits:
    """The `num` nearest rows to each query, by the folder's index, or without one (or with `exact`) by an exact search.

    An index of an earlier state of the folder is not used, nor one that would miss some of `num`; a warning says so.
    """
    if num < 1:
        raise ConfigError(f"num is {num}: give 1 or more")
    if folder.unfinished:
        log.warning(
            "%s: `mtcl embed` has not finished %d files; their vectors are not searched",
            folder.path,
            len(folder.unfinished),
        )
    record = None if exact else IndexRecord.read(folder)
    if record is not None and record.content != content_of(folder):
        log.warning(
            "%s has changed since its index was built (%s vectors then, %s now): searching without it; "
            "`mtcl index` builds it again",
            folder.path,
            f"{record.rows:,}",
            f"{len(folder):,}",
        )
        record = None
    if record is not None and not has_faiss():
        log.warning("FAISS is not installed (pip install 'mtcl[mine]'): searching without the index")
        record = None
    if record is not None:
        if (hits := _by_index(folder, record, queries_ND, num)) is not None:
            return hits
        log.warning(
            "%s: the index (%s) does not give all of %s neighbours: searching without it", folder.path, record.kind, num
        )
    return exact_search(folder, queries_ND, min(num, max(1, len(folder))))


def _by_index(folder: VectorFolder, record: IndexRecord, queries_ND: Float32Array, num: int) -> Hits | None:
    """None if the index would miss neighbours: a graph looks at `ef_search` candidates, lists have few rows."""
    if record.ef_search is not None and min(num, len(folder)) > record.ef_search:
        return None
    hits = FolderIndex.open(folder, record).search(queries_ND, num)
    return hits if (hits.rows_NK >= 0).all() else None


def found_rows(folder: VectorFolder, hits: Hits) -> list[list[dict[str, Any]]]:
    """For each query, its neighbours as plain values: `score`, `id` and the kept columns; one that is called `score`
    is `kept_score`.
    """
    there_NK = hits.rows_NK >= 0
    found = rows_at(folder, hits.rows_NK[there_NK])
    rows = iter(found.rename_columns([_apart(name, found.column_names) for name in found.column_names]).to_pylist())
    scores = iter(np.round(hits.scores_NK[there_NK].astype(float), 6).tolist())
    return [[{SCORE: next(scores), **next(rows)} for _ in range(count)] for count in there_NK.sum(axis=1)]


def _apart(name: str, others: Sequence[str]) -> str:
    """A kept column's name, other than that of the score."""
    if name != SCORE:
        return name
    name = f"kept_{name}"
    while name in others:
        name = f"kept_{name}"
    return name
