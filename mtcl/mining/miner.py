"""Finds hard negatives for the rows of a task, block by block."""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mtcl.console import track
from mtcl.errors import ConfigError
from mtcl.files import cache_folder
from mtcl.mining.report import Report
from mtcl.mining.rows import MinedRows
from mtcl.types import IntArray

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from mtcl.data.store import TokenStore
    from mtcl.encoder.text_encoder import TextEncoder
    from mtcl.mining.candidates import Candidates, FloatArray, Limits
    from mtcl.mining.embeddings import Embeddings
    from mtcl.task.contract import Task
    from mtcl.types import Ragged

log = logging.getLogger("mtcl")


BLOCK = 2048
"""Rows that are searched for and written at once: memory does not grow with their number."""


class Miner:
    """The embeddings of a task's training texts, and an index of the candidates."""

    def __init__(self, task: Task, root: Path | None, encoder: TextEncoder, options: argparse.Namespace) -> None:
        from mtcl.data.store import prepare

        max_length = options.max_length or encoder.length_of(task)
        encoder.tokenizer.check_length(task.name, max_length)
        encoder.encoder.check_length(task.name, max_length)
        cache = cache_folder(options.cache)

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

        self._encoder, self._cache = encoder, cache / "embeddings"
        self.store = store("train")
        self.texts = self.store.texts()
        self.embeddings = self._embed(self.store, None, "training texts")
        source, found = self.store, self.embeddings
        self._candidates: IntArray = np.asarray(source.candidates)
        if options.candidates == "corpus":
            if getattr(task.pairs, "corpus", None) is None:
                raise ConfigError(f"task {task.name!r} names no corpus: leave out --candidates corpus")
            source = store("validation")
            self._candidates = np.asarray(source.candidates)
            found = self._embed(source, self._candidates, "texts of the corpus")
        self._searched_texts = source.texts()
        places = self._candidates if found is self.embeddings else np.arange(len(self._candidates))
        self.candidates = _indexed(found, places, source.keys.take(self._candidates), options.index)

    @property
    def num_candidates(self) -> int:
        return len(self._candidates)

    def blocks(self, rows: MinedRows, limits: Limits, report: Report) -> Iterator[list[list[str]]]:
        """The negatives of the rows, block by block; what was found goes to `report`."""
        if self.num_candidates <= limits.ranks[0]:
            raise ConfigError(
                f"--ranks begins at {limits.ranks[0]}, but there are {self.num_candidates} candidates: give smaller"
            )
        anchors, positives = rows.places(self.store, self.texts)
        shown = {int(row) for row in np.linspace(0, len(anchors) - 1, report.num_samples)}
        for start in track(range(0, len(anchors), BLOCK), "mine"):
            block = np.arange(start, min(start + BLOCK, len(anchors)))
            here = block[anchors[block] >= 0]
            anchors_ND = self.embeddings.take(anchors[here])
            positive_N = self._positive_scores(anchors_ND, positives.take(here))
            mined = self.candidates.mine(anchors_ND, self.store.keys.take(anchors[here]), positive_N, limits)
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

    def _positive_scores(self, anchors_ND: FloatArray, positives: Ragged) -> FloatArray:
        from mtcl.mining.candidates import positive_scores

        owners_S = np.repeat(np.arange(len(positives)), positives.lengths())
        return positive_scores(anchors_ND, self.embeddings.take(positives.values), owners_S)

    def _texts_of(self, numbers: IntArray) -> list[list[str]]:
        chosen = self._candidates[numbers[numbers >= 0]]
        texts = iter(self._searched_texts.take(_arrow(chosen)).to_pylist())
        return [[next(texts) for _ in range(count)] for count in (numbers >= 0).sum(axis=1)]

    def _embed(self, store: TokenStore, texts: IntArray | None, what: str) -> Embeddings:
        """Of the given texts of a store, or of all, through the cache."""
        import torch

        from mtcl.encoder.backbone import digest_of
        from mtcl.encoder.precision import best_precision
        from mtcl.mining.embeddings import embeddings_of

        encoder, precision = self._encoder.encoder, best_precision()
        device = next(encoder.parameters()).device.type
        facts = [store.folder.name, what, digest_of(encoder), encoder.pooling, precision]
        folder = self._cache / hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

        def embed(tokens: Ragged) -> torch.Tensor:
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16-mixed"):
                return encoder.embed(tokens, tokens_per_chunk=self._encoder.tokens_per_chunk)

        tokens = store.tokens if texts is None else store.tokens.take(texts)
        log.info("%s %s; embeddings in %s", f"{len(tokens):,}", what, folder)
        return embeddings_of(tokens, embed, folder, what=what)


def _indexed(embeddings: Embeddings, places: IntArray, keys: Ragged, kind: str) -> Candidates:
    """A FAISS index of embeddings `places`, filled block by block."""
    import faiss

    from mtcl.mining.candidates import Candidates

    try:
        index = faiss.index_factory(embeddings.dim, kind, faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            index.train(embeddings.take(places))
    except RuntimeError as error:
        reason = str(error).partition("Error: ")[2] or str(error)
        raise ConfigError(f"--index {kind!r} cannot be made: {' '.join(reason.split())}") from error
    for start in range(0, len(places), 1 << 16):
        index.add(embeddings.take(places[start : start + (1 << 16)]))
    return Candidates(index, keys)


def _arrow(numbers: IntArray) -> pa.Array:
    import pyarrow as pa

    return pa.array(numbers)
