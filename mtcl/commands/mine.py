"""`mtcl mine TASK`: hard negatives for a task's training rows, found with a checkpoint or any encoder.

Writes a data root to train on: the task's training rows with one more column, and links to everything else. The rows
that were read are never changed. Embeddings are cached in shards, so a killed command goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mtcl.commands.arguments import Parser
from mtcl.commands.process import quiet_libraries
from mtcl.errors import ConfigError
from mtcl.mining.report import Report
from mtcl.mining.root import lay_out
from mtcl.mining.rows import MinedRows, training_rows
from mtcl.task.registry import discover
from mtcl.task.sources import Files
from mtcl.types import IntArray

if TYPE_CHECKING:
    import pyarrow as pa

    from mtcl.data.store import TokenStore
    from mtcl.encoder.checkpoint import TextEncoder
    from mtcl.mining.candidates import Candidates, FloatArray, Limits
    from mtcl.mining.embeddings import Embeddings
    from mtcl.task.contract import Task
    from mtcl.types import Ragged

BLOCK = 2048
"""Rows that are searched for and written at once: memory does not grow with their number."""
MAX_LENGTH = 128
log = logging.getLogger("mtcl")


def main(command: str, arguments: list[str]) -> int:
    options = _parser(command).parse_args(arguments)
    if importlib.util.find_spec("faiss") is None:
        raise ConfigError("mtcl mine needs FAISS, which is not installed: pip install 'mtcl[mine]'")
    from mtcl.encoder.encoder import DEFAULT_MODEL
    from mtcl.mining.candidates import Limits

    limits = Limits(options.num, tuple(options.ranks), options.below)
    root = Path(options.root) if options.root else None
    task = _without_negatives(discover(options.tasks_dir)[options.task])
    quiet_libraries()
    rows = training_rows(task, root, column=options.column)
    encoder = encoder_of(options)
    folder = lay_out(Path(options.out), task, root, overwrite=options.overwrite)

    miner = Miner(task, root, encoder, options)
    report = Report(task.name, options.ckpt or options.model or DEFAULT_MODEL, limits, miner.num_candidates)
    rows.write(folder / "train.parquet", miner.blocks(rows, limits, report))
    report.write(folder)
    print(report.text())
    print(f"\nwritten {folder / 'train.parquet'}, with this report beside it; {_what_to_do(task, options)}")
    return 0


class Miner:
    """The embeddings of a task's training texts, and an index of the candidates."""

    def __init__(self, task: Task, root: Path | None, encoder: TextEncoder, options: argparse.Namespace) -> None:
        from mtcl.data.store import prepare

        max_length = options.max_length or encoder.length_of(task)
        encoder.tokenizer.check_length(task.name, max_length)
        encoder.encoder.check_length(task.name, max_length)
        cache = Path(options.cache or os.environ.get("MTCL_CACHE") or Path.home() / ".cache" / "mtcl")

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
        for start in _track(range(0, len(anchors), BLOCK), "mine"):
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

        from mtcl.configuration.cli import best_precision
        from mtcl.encoder.encoder import digest_of
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
        return embeddings_of(tokens, embed, folder, track=lambda shards: _track(shards, f"embed {what}"))


def encoder_of(options: argparse.Namespace) -> TextEncoder:
    """The encoder to mine with, on the best device."""
    import torch

    from mtcl.encoder.checkpoint import TextEncoder
    from mtcl.encoder.encoder import EncoderConfig

    if options.ckpt and options.model:
        raise ConfigError("--ckpt and --model exclude each other: a checkpoint knows its encoder")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.ckpt:
        return TextEncoder.load(Path(options.ckpt), device=device)
    config = EncoderConfig(name=options.model, pooling=options.pooling) if options.model else EncoderConfig()
    return TextEncoder.base(config, max_length=MAX_LENGTH, device=device)


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


def _without_negatives(task: Task) -> Task:
    """The task as it pairs rows that have no negatives yet, and with nothing but real pairs where they are replaced."""
    pairs: Any = task.pairs
    if getattr(pairs, "negatives", ()):
        task.pairs = cast("Any", replace(pairs, negatives=()))
    return task


def _what_to_do(task: Task, options: argparse.Namespace) -> str:
    kind = type(task.pairs)
    if not hasattr(task.pairs, "negatives"):
        return f"{kind.__name__} reads no negatives by itself: use the column {options.column!r} in a method `pairs`"
    return (
        f'train on it: pairs = {kind.__name__}(..., negatives="{options.column}")'
        f"{'' if isinstance(task.data, Files) else f' and data = Files({task.name!r})'} in the task, "
        f"the column in its sample too, and --data.root {options.out}"
    )


def _arrow(numbers: IntArray) -> pa.Array:
    import pyarrow as pa

    return pa.array(numbers)


def _track(steps: range, what: str) -> Iterable[int]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(
        steps, description=what, transient=True, console=console, disable=len(steps) < 2 or not console.is_terminal
    )


def _parser(command: str) -> argparse.ArgumentParser:
    parser = Parser(prog=f"mtcl {command}", description=__doc__)
    parser.add_argument("task", help="name of the task")
    parser.add_argument("--out", required=True, help="data root to write")
    parser.add_argument("--ckpt", help="run folder (its best checkpoint) or .ckpt to mine with")
    parser.add_argument("--model", help="encoder to mine with, folder or Hub name (default: the default base encoder)")
    parser.add_argument("--pooling", default="mean", choices=["mean", "cls", "last"], help="of --model")
    parser.add_argument("--num", type=int, default=4, help="negatives a row (default: %(default)s)")
    parser.add_argument(
        "--ranks",
        type=int,
        nargs=2,
        default=[10, 100],
        metavar=("FIRST", "LAST"),
        help="pass over the FIRST nearest, look no further than LAST (default: 10 100)",
    )
    parser.add_argument(
        "--below", type=float, default=0.95, help="share of the positive's score to stay below (default: %(default)s)"
    )
    parser.add_argument(
        "--candidates",
        choices=["train", "corpus"],
        default="train",
        help="negatives among what the training rows are to find (default), or in the task's corpus",
    )
    parser.add_argument("--index", default="Flat", help="FAISS index: Flat is exact, HNSW32 or IVF1024,Flat are faster")
    parser.add_argument("--column", default="negatives", help="name of the column (default: %(default)s)")
    parser.add_argument("--max_length", type=int, help=f"tokens of a text (default: the checkpoint's, or {MAX_LENGTH})")
    parser.add_argument(
        "--data.root", dest="root", default=os.environ.get("MTCL_DATA"), help="data root (default: MTCL_DATA)"
    )
    parser.add_argument("--tasks_dir", help="more folders of task files")
    parser.add_argument("--cache", help="folder of stores and embeddings (default: MTCL_CACHE or ~/.cache/mtcl)")
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier mine wrote to --out")
    return parser
