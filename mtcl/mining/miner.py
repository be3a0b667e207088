"""Finds hard negatives for the rows of a task, block by block.

`mtcl mine` from Python:

    rows = training_rows(task, root, column="negatives")
    miner = Miner(task, root, TextEncoder.load(Path("runs/demo")), Search(index="HNSW32"))
    report = MiningReport(task.name, "runs/demo", Limits(num=2), miner.num_candidates)
    negatives = [texts for block in miner.blocks(rows, report) for texts in block]

`negatives` has a list for each row of `rows`, and `report.text()` is a summary.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from mtcl.arrays import Float32Array, IntArray, Ragged, evenly
from mtcl.console import track
from mtcl.data.store import TokenStore, prepare
from mtcl.encoder.backbone import function_digest
from mtcl.encoder.precision import best_precision, precision_of
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.errors import ConfigError
from mtcl.files import cache_folder
from mtcl.mining.candidates import Candidates, positive_scores
from mtcl.mining.embeddings import Embeddings, embeddings_of
from mtcl.mining.index import index_of, recall_of
from mtcl.mining.report import MiningReport
from mtcl.mining.rows import MinedRows
from mtcl.task.contract import Task

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("mtcl")
BLOCK = 2048
"""Rows that are mined and written at a time, so that memory does not grow with the number of rows."""
RECALL_ROWS = 256
"""Rows, evenly spread over all, whose exact neighbours are searched for too: the share that the index finds."""


@dataclass(frozen=True)
class Search:
    """The source of the candidates, and how they are searched.

    Attributes:
        source: Where negatives come from: "train", the candidates of the training rows, or the task's "corpus".
        index: A FAISS index by its name: Flat is exact, HNSW32 or IVF1024,Flat are faster. The report has its recall.
        max_length: Texts are cut to this many tokens; if None, to the encoder's length for the task.
        cache: Folder of stores and embeddings; MTCL_CACHE or ~/.cache/mtcl if None.
    """

    source: Literal["train", "corpus"] = "train"
    index: str = "Flat"
    max_length: int | None = None
    cache: str | None = None

    def __post_init__(self) -> None:
        if self.source not in ("train", "corpus"):
            raise ConfigError(f"source is {self.source!r}: give 'train' or 'corpus'")


@dataclass(frozen=True)
class Searched:
    """The texts that are searched: their numbers in a store, the rows of their embeddings, and their keys."""

    texts: pa.Array
    numbers: IntArray
    embeddings: Embeddings
    rows: IntArray
    keys: Ragged

    def words(self, places: IntArray) -> list[str]:
        """The texts at these places among the numbers."""
        import pyarrow as pa

        found: list[str] = self.texts.take(pa.array(self.numbers[places])).to_pylist()
        return found


class Miner:
    """The embeddings of a task's training texts, and an index of the candidates. Raises `ConfigError` for a search that
    the task or FAISS does not support.
    """

    def __init__(self, task: Task, root: Path | None, encoder: TextEncoder, search: Search | None = None) -> None:
        search = search or Search()
        if search.source == "corpus" and getattr(task.pairs, "corpus", None) is None:
            raise ConfigError(f"source is 'corpus', but task {task.name!r} has no corpus: give 'train'")
        max_length = encoder.length_of(task) if search.max_length is None else search.max_length
        encoder.tokenizer.check_length(task.name, max_length, positions=encoder.model.num_positions)
        cache = cache_folder(search.cache)

        def store(split: str) -> TokenStore:
            return prepare(
                task,
                split,
                root=root,
                tokenizer=encoder.tokenizer,
                max_length=max_length,
                cache=cache,
                prompt=encoder.prompt_of(task),
            )

        self._encoder, self._cache, self._task = encoder, cache / "embeddings", task.name
        self.store = store("train")
        self.texts = self.store.pairs.texts
        self.embeddings = self._embed(self.store, None, "training texts")
        self._searched = self._of_corpus(store("validation")) if search.source == "corpus" else self._of_training()
        searched = self._searched
        index = index_of(searched.embeddings, searched.rows, search.index)
        self.index = Candidates(index, searched.keys)
        self._recall = None if search.index == "Flat" else partial(recall_of, index, searched.embeddings, searched.rows)

    @property
    def num_candidates(self) -> int:
        """Distinct texts that negatives are chosen from."""
        return len(self._searched.numbers)

    def blocks(self, rows: MinedRows, report: MiningReport) -> Iterator[list[list[str]]]:
        """The negatives of the rows within the report's limits, block by block; also adds them to the report."""
        limits = report.limits
        if self.num_candidates <= limits.ranks[0]:
            raise ConfigError(
                f"ranks begins at {limits.ranks[0]}, but there are {self.num_candidates} candidates: give a lower rank"
            )
        anchors, positives = rows.places(self.store, self.texts)
        if self._recall and report.recall is None and (anchors >= 0).any():
            queries = anchors[anchors >= 0]
            queries_ND = self.embeddings.take(queries[evenly(len(queries), RECALL_ROWS)])
            report.recall = self._recall(queries_ND, limits.ranks[1])
        shown = {int(row) for row in np.linspace(0, len(anchors) - 1, report.num_samples)}
        for start in track(range(0, len(anchors), BLOCK), "mine"):
            block = np.arange(start, min(start + BLOCK, len(anchors)))
            here = block[anchors[block] >= 0]
            anchors_ND = self.embeddings.take(anchors[here])
            positive_N = self._positive_scores(anchors_ND, positives.take(here))
            mined = self.index.mine(anchors_ND, self.store.pairs.keys.take(anchors[here]), positive_N, limits)
            numbers = np.full((len(block), limits.num), -1, dtype=np.int64)
            numbers[here - start] = mined.negatives_NM
            texts = self._texts_of(numbers)
            report.add(mined, positive_N, num_rows=len(block))
            for place in np.flatnonzero([int(row) in shown for row in here]):
                row = int(here[place])
                positive = [self.texts[int(i)].as_py() for i in positives[row]]
                anchor = self.texts[int(anchors[row])].as_py()
                scored = list(zip(texts[row - start], mined.scores_NM[place].tolist(), strict=False))
                report.show(anchor, positive, float(positive_N[place]), scored)
            yield texts

    def _positive_scores(self, anchors_ND: Float32Array, positives: Ragged) -> Float32Array:
        owners_S = positives.owners()
        return positive_scores(anchors_ND, self.embeddings.take(positives.values), owners_S)

    def _texts_of(self, numbers: IntArray) -> list[list[str]]:
        texts = iter(self._searched.words(numbers[numbers >= 0]))
        return [[next(texts) for _ in range(count)] for count in (numbers >= 0).sum(axis=1)]

    def _of_training(self) -> Searched:
        numbers = np.unique(self.store.pairs.candidates)
        return Searched(self.texts, numbers, self.embeddings, numbers, self.store.pairs.keys.take(numbers))

    def _of_corpus(self, store: TokenStore) -> Searched:
        numbers = np.unique(store.pairs.candidates)  # a text may be several documents
        embeddings = self._embed(store, numbers, "texts of the corpus")
        return Searched(store.pairs.texts, numbers, embeddings, np.arange(len(numbers)), store.pairs.keys.take(numbers))

    def _embed(self, store: TokenStore, texts: IntArray | None, what: str) -> Embeddings:
        """Embeddings of the given texts of a store, or of all, from the cache if possible."""
        encoder = replace(self._encoder, precision=precision_of(best_precision()))
        facts = [store.folder.name, what, function_digest(encoder.model), encoder.model.pooling, encoder.precision]
        head = encoder.heads.get(self._task)
        facts += [] if head is None else [function_digest(head)]
        folder = self._cache / hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

        tokens = store.tokens if texts is None else store.tokens.take(texts)
        log.info("%s %s; embeddings in %s", f"{len(tokens):,}", what, folder)
        return embeddings_of(tokens, partial(encoder.embed, task=self._task), folder, what=what)
