"""What an upgrade of the encoder costs without embedding all documents again: `mtcl align` on real texts.

    MTCL_DATA=... python -m tests.benchmarks.align --new RUN [--task stackexchange_search] [--fit 500 2000 4000]

Old: the base encoder, or `--old RUN`. New: a run. The task is a `QueryDocument`: each query of its test split has one
right document. Maps are fitted on documents of the task that are not among those searched, or on those of another
task (`--fit_task`). Vectors are kept in `--cache`, so a second call takes seconds.

Columns: the share of the 10 documents that the old (the new) encoder finds alone, and the task's own metrics.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from mtcl.console import markdown_head, markdown_row
from mtcl.deploy.align.alignment import Alignment, MapKind
from mtcl.deploy.align.choosing import NUM, choose_map, nearest, overlap
from mtcl.deploy.align.pairs import VectorPairs
from mtcl.deploy.space import Space
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.task.prompt import SideName

SPLITS = ("train", "validation", "test")
HEAD = ["fitted on", "queries", "documents", "of the old 10", "of the new 10", f"recall@{NUM}", f"NDCG@{NUM}"]


@dataclass(frozen=True)
class Texts:
    """The documents of a task, and the queries of its test split with the number of their document."""

    documents: list[str]
    queries: list[str]
    right: Any

    @classmethod
    def read(cls, folder: Path) -> Texts:
        places: dict[str, int] = {}
        documents: list[str] = []
        columns = {split: pq.read_table(folder / f"{split}.parquet").to_pydict() for split in SPLITS}
        corpus = folder / "corpus.parquet"
        sources = [pq.read_table(corpus).to_pydict()] if corpus.exists() else [columns[split] for split in SPLITS]
        for source in sources:
            for doc_id, text in zip(source["doc_id"], source["text" if "text" in source else "positive"], strict=True):
                if doc_id not in places:
                    places[doc_id] = len(documents)
                    documents.append(text)
        test = columns["test"]
        return cls(documents, test["query"], np.array([places[doc_id] for doc_id in test["doc_id"]]))


@dataclass(frozen=True)
class Embedded:
    """An encoder whose vectors are kept in a folder."""

    encoder: TextEncoder
    cache: Path
    precision: str

    def __call__(self, texts: list[str], role: SideName) -> Any:
        """(T, D) unit vectors."""
        facts = [self.encoder.fingerprint(), self.encoder.max_length, self.encoder.prompt.plain(), role, self.precision]
        name = hashlib.sha256(repr([facts, texts]).encode()).hexdigest()[:24]
        path = self.cache / f"{name}.npy"
        if not path.exists():
            is_bf16 = self.precision == "bf16"
            with torch.autocast(self.encoder.device.type, torch.bfloat16) if is_bf16 else nullcontext():
                np.save(path, self.encoder.encode(texts, role=role, output="numpy", progress=True))
        return np.load(path)

    def space(self) -> Space:
        return Space(self.encoder.fingerprint(), None, None, "document", self.encoder.dim)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", help="a run (default: the base encoder)")
    parser.add_argument("--new", required=True, help="a run")
    parser.add_argument("--task", default="stackexchange_search", help="folder of the data root")
    parser.add_argument("--fit_task", help="fit on documents of this task, and search all of --task")
    parser.add_argument("--fit", type=int, nargs="+", default=[500, 2000, 4000], help="documents to fit on")
    parser.add_argument("--documents", type=int, help="use the last documents only")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/mtcl/align").expanduser())
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    root = Path(os.environ["MTCL_DATA"])
    old = Embedded(
        TextEncoder.load(options.old) if options.old else TextEncoder.base(), options.cache, options.precision
    )
    new = Embedded(TextEncoder.load(options.new), options.cache, options.precision)
    texts = last_of(Texts.read(root / options.task), options.documents)
    sample = last_of(Texts.read(root / options.fit_task), options.documents) if options.fit_task else texts
    order, searched = divided(texts, sample, max(options.fit), is_apart=options.fit_task is None)
    print(
        f"{options.task}: {len(texts.queries):,} queries, {len(searched):,} documents searched; "
        f"maps fitted on documents of {options.fit_task or options.task}\n"
    )
    print(markdown_head(HEAD, numbers=range(3, 7)))
    measured = Measured.of(texts, searched, (old, new))
    for row in measured.without_maps():
        print(markdown_row(row), flush=True)
    documents = [one(sample.documents, "document")[order] for one in (old, new)]
    for num in options.fit:
        pairs = VectorPairs(documents[0][:num], documents[1][:num], num)
        for kind in ("orthogonal", "linear"):
            for row in measured.with_maps(pairs, kind, (old.space(), new.space())):
                print(markdown_row([f"{num:,}", *row]), flush=True)


def last_of(texts: Texts, num: int | None) -> Texts:
    """The last documents, and the queries that they answer."""
    first = 0 if num is None else max(0, len(texts.documents) - num)
    kept = np.flatnonzero(texts.right >= first)
    return Texts(texts.documents[first:], [texts.queries[row] for row in kept], texts.right[kept] - first)


def divided(texts: Texts, sample: Texts, num: int, *, is_apart: bool) -> tuple[Any, Any]:
    """Numbers of documents to fit on, in random order, and of those to search: all others, or all of another task's."""
    order = np.random.default_rng(0).permutation(len(sample.documents))
    if not is_apart:
        return order[:num], np.arange(len(texts.documents))
    order = order[~np.isin(order, texts.right)][:num]
    return order, np.setdiff1d(np.arange(len(texts.documents)), order)


@dataclass(frozen=True)
class Measured:
    """Vectors of queries and searched documents by the old and the new encoder, and the right document's number."""

    queries: tuple[Any, Any]
    documents: tuple[Any, Any]
    right: Any

    @classmethod
    def of(cls, texts: Texts, searched: Any, encoders: tuple[Embedded, Embedded]) -> Measured:
        queries = tuple(one(texts.queries, "query") for one in encoders)
        documents = tuple(one(texts.documents, "document")[searched] for one in encoders)
        return cls(queries, documents, np.searchsorted(searched, texts.right))  # type: ignore[arg-type]

    def without_maps(self) -> Iterator[list[str]]:
        (old_q, new_q), (old_d, new_d) = self.queries, self.documents
        yield ["", "old", "old", *self.figures(old_q, old_d)]
        if old_q.shape == new_q.shape:
            yield ["", "old", "new, not mapped", *self.figures(old_q, new_d)]
            yield ["", "new, not mapped", "old", *self.figures(new_q, old_d)]
        yield ["", "new", "new (embedded again)", *self.figures(new_q, new_d)]

    def with_maps(self, pairs: VectorPairs, kind: MapKind, spaces: tuple[Space, Space]) -> Iterator[list[str]]:
        (old_q, new_q), (old_d, new_d) = self.queries, self.documents

        def fitted(direction: Any) -> Alignment:
            return choose_map(pairs, spaces, direction=direction, kind=kind).alignment

        to_old, to_new = fitted("new_to_old"), fitted("old_to_new")
        yield ["old", f"new, {kind} to old", *self.figures(old_q, to_old(new_d))]
        yield [f"new, {kind} to old", "old", *self.figures(to_old(new_q), old_d)]
        yield ["new", f"old, {kind} to new", *self.figures(new_q, to_new(old_d))]

    def figures(self, queries: Any, documents: Any) -> list[str]:
        """Of one pairing of queries and documents."""
        found = nearest(queries, documents)
        truths = [nearest(*one) for one in zip(self.queries, self.documents, strict=True)]
        own_N1 = (queries * documents[self.right]).sum(axis=1, keepdims=True)
        rank_N = np.concatenate(
            [
                ((queries[rows] @ documents.T) > own_N1[rows] + 1e-6).sum(axis=1)
                for rows in np.array_split(np.arange(len(queries)), max(1, len(queries) // 256))
            ]
        )
        gain_N = np.where(rank_N < NUM, 1 / np.log2(rank_N + 2), 0)
        return [
            f"{value:.3f}" for value in (*(overlap(found, one) for one in truths), (rank_N < NUM).mean(), gain_N.mean())
        ]


if __name__ == "__main__":
    main()
