"""The token store: a task's split as integers on disk, memory-mapped by every process that reads it.

Each distinct text is tokenised once, by the tokenizer's own threads. The name of a store's folder has a hash of
everything it depends on (the task's data, declaration and version, tokenizer, max length, prompt), so a stale store is
never opened: a new one is built next to it. A store is written atomically, under a lock. Damaged files are noticed by
their digests, which one process per node compares at each start (`mtcl.data.intact`), and the store is built again.
Later stages see only integers, no text.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mtcl.arrays import FloatArray, IntArray, Ragged
from mtcl.data.intact import damage_of, record_of, remove_damaged, seal
from mtcl.data.tokenise import tokenise
from mtcl.data.tokenizer import MAX_CHARACTERS, Tokenizer
from mtcl.files import written_whole
from mtcl.task.contract import Task, errors_of
from mtcl.task.kind import Kind
from mtcl.task.pairs import PairTable
from mtcl.task.pairs.columns import reasons
from mtcl.task.pairs.log_q import log_shares
from mtcl.task.pairs.relevance import Relevance
from mtcl.task.pairs.sides import sides_of, split_sides
from mtcl.task.prompt import Prompt, Side
from mtcl.task.rows import pairs_fingerprint, pairs_of

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 11
RAGGED = ("tokens", "keys", "groups", "negatives", "wanted", "carried")
COLUMNS = ("anchors", "positives", "queries", "candidates", "languages")
ARRAYS = (*COLUMNS, "identity", "sides", "scores", "grades", "log_q_anchor", "log_q_positive")
log = logging.getLogger("mtcl")


@dataclass(frozen=True)
class TokenStore:
    """One split of one task. Only its folder is pickled, so worker processes map the same pages.

    `tokens`, `keys`, `identity` and `sides` have a row for each distinct text. A text that is both a query and a
    document has a second row if its prompts differ; these copies come last. Texts with equal `identity` have equal
    tokens.
    `num_distinct` is the number of texts that differ as tokens.
    `log_q_anchor` and `log_q_positive` are the log of the share of an epoch's pairs in which a text has that role.
    `queries`, `candidates`, `wanted`, `carried`, `grades` and `problems` are as in `Relevance`, which all splits but
    train have if their pairs are positives; otherwise the first two are distinct texts. The other attributes are as in
    `PairTable`.
    """

    folder: Path
    tokens: Ragged
    identity: IntArray
    sides: IntArray
    keys: Ragged
    anchors: IntArray
    positives: IntArray
    queries: IntArray
    candidates: IntArray
    wanted: Ragged | None
    carried: Ragged | None
    grades: FloatArray | None
    problems: tuple[str, ...]
    log_q_anchor: FloatArray
    log_q_positive: FloatArray
    groups: Ragged | None
    negatives: Ragged | None
    scores: FloatArray | None
    languages: IntArray | None
    language_names: tuple[str, ...]
    kind: Kind
    exclude_self: bool
    tied: bool
    skipped: dict[str, int]
    num_cut: int
    num_distinct: int

    @classmethod
    def open(cls, folder: Path) -> TokenStore:
        """Map the arrays of a finished folder into memory. Nothing is checked: see `damage_of`."""
        meta = record_of(folder)
        held = {Path(name).stem for name in meta["files"]}

        def array(name: str) -> Any:
            return np.load(folder / f"{name}.npy", mmap_mode="r") if name in held else None

        def ragged(name: str) -> Any:
            return Ragged(array(f"{name}_offsets"), array(f"{name}_values")) if f"{name}_offsets" in held else None

        return cls(
            folder=folder,
            **{name: ragged(name) for name in RAGGED},
            **{name: array(name) for name in ARRAYS},
            kind=Kind(meta["kind"]),
            language_names=tuple(meta["language_names"]),
            problems=tuple(meta["problems"]),
            **{name: meta[name] for name in ("exclude_self", "tied", "skipped", "num_cut", "num_distinct")},
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenStore.open, (self.folder,)

    def __len__(self) -> int:
        return len(self.anchors)

    def texts(self) -> pa.LargeStringArray:
        """The distinct texts, memory-mapped, for teachers, searches and output; training steps read only tokens."""
        import pyarrow as pa

        return pa.ipc.open_file(pa.memory_map(str(self.folder / "texts.arrow"))).read_all()["text"].combine_chunks()

    def summary(self) -> str:
        """One line: the number of pairs and texts, of rows left out by reason, and of texts that were cut."""
        words = f"{len(self):,} pairs, {len(self.tokens):,} texts"
        words += f"; left out: {reasons(self.skipped)}" if self.skipped else ""
        return words + (f"; cut: {self.num_cut:,} texts of over {MAX_CHARACTERS:,} characters" if self.num_cut else "")


def prepare(
    task: Task,
    split: str,
    *,
    root: Path | None,
    tokenizer: Tokenizer,
    max_length: int,
    cache: Path,
    prompt: Prompt | str = "",
    apart: bool = False,
) -> TokenStore:
    """Open the store of a task's split, building it first if there is none.

    `prompt` is prepended to each text for tokenisation; it does not change the keys or the stored texts. A text that is
    both a query and a document has two rows if their prompts differ, or if `apart` is set. Several processes may call
    this at once: one builds, the others wait. The contents of the files are compared with their digests by the first
    rank of each node; the other ranks, for which Lightning has it come first, compare sizes only. Raises a `DataError`
    that names task and split.
    """
    from filelock import FileLock

    reader = Reader(tokenizer, max_length, Prompt.of(prompt), apart)
    is_first = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) == "0"
    with errors_of(task, split):
        folder = cache / f"{task.name}-{split}-{_address(task, split, root, reader)}"
        if damage_of(folder, by_content=is_first):
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{folder}.lock"):
                if found := damage_of(folder, by_content=is_first):
                    title = f"{task.name}/{split}"
                    if folder.exists():
                        log.warning("%s: the token store %s is damaged (%s): building it again", title, folder, found)
                        shutil.rmtree(folder)
                    _build(folder, pairs_of(task, split, root), reader, title=title)
        for path in remove_damaged(folder) if is_first else ():
            log.warning("%s was damaged and is made again when it is needed", path)
        return TokenStore.open(folder)


@dataclass(frozen=True)
class Reader:
    """How texts become tokens. With `apart`, texts that are both queries and documents have two rows in any case."""

    tokenizer: Tokenizer
    max_length: int
    prompt: Prompt
    apart: bool = False

    @property
    def facts(self) -> list[Any]:
        """What the tokens depend on, besides the texts."""
        prompt = self.prompt.plain()
        odd = ["apart"] * self.apart + ["left"] * self.tokenizer.cuts_left
        return [self.tokenizer.digest, self.max_length] + [prompt] * bool(prompt) + odd

    def arrange(self, table: PairTable) -> tuple[PairTable, IntArray]:
        """The table with one row for each text and prompt, and the side of each row."""
        return split_sides(table) if self.apart or self.prompt.differs else (table, sides_of(table))

    def read(self, texts: list[str], sides: IntArray) -> tuple[Ragged, int]:
        """The tokens of texts, and the number of texts that were cut before tokenisation."""
        words = [self.prompt[side] for side in Side]
        cut = sum(len(text) > MAX_CHARACTERS for text in texts)
        shortened = map(self.tokenizer.shortened, texts)
        prompted = [words[side] + text for text, side in zip(shortened, sides.tolist(), strict=True)]
        return self.tokenizer(prompted, self.max_length), cut


def _address(task: Task, split: str, root: Path | None, reader: Reader) -> str:
    depends_on = [FORMAT, pairs_fingerprint(task, split, root), *reader.facts]
    return hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:16]


def _build(folder: Path, table: PairTable, reader: Reader, *, title: str) -> None:
    table, sides = reader.arrange(table)
    kept = folder.with_name(f"{folder.name}.tokens")
    with written_whole(folder, alone=True) as aside:
        aside.mkdir()
        facts = {
            "kind": table.kind,
            "language_names": table.language_names,
            "problems": table.relevance.problems if table.relevance else (),
            "exclude_self": table.exclude_self,
            "tied": table.tied,
            "skipped": table.skipped,
        }
        np.save(aside / "sides.npy", sides)
        for name, array in _columns(table):
            np.save(aside / f"{name}.npy", array)
        texts = table.texts
        del table  # a hundred million pairs take gigabytes
        _write_texts(aside / "texts.arrow", texts)
        dtype = reader.tokenizer.dtype
        num_cut, num_distinct = tokenise(aside, texts, sides, reader.read, dtype=dtype, kept=kept, title=title)
        seal(aside, facts | {"num_cut": num_cut, "num_distinct": num_distinct})
    shutil.rmtree(kept, ignore_errors=True)


def _columns(table: PairTable) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """The table's arrays with their names, one after the other; text and group indices have 32 bits if they fit."""
    index = np.int32 if max(len(table.texts), len(table.anchors)) < 1 << 31 else np.int64
    yield from (("keys_offsets", table.keys.offsets), ("keys_values", table.keys.values))
    for name in COLUMNS:
        if (column := getattr(table, name)) is not None:
            yield name, column.astype(index)
    for name in ("groups", "negatives"):
        if (ragged := getattr(table, name)) is not None:
            yield from ((f"{name}_offsets", ragged.offsets), (f"{name}_values", ragged.values.astype(index)))
    if table.scores is not None:
        yield "scores", table.scores
    if table.relevance is not None:
        yield from _relevance(table.relevance, index).items()
    yield from zip(("log_q_anchor", "log_q_positive"), log_shares(table), strict=True)


def _relevance(relevance: Relevance, index: type[np.generic]) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {
        "queries": relevance.queries.astype(index),
        "candidates": relevance.candidates.astype(index),
    }
    for name in ("wanted", "carried"):
        ragged: Ragged = getattr(relevance, name)
        arrays |= {f"{name}_offsets": ragged.offsets, f"{name}_values": ragged.values.astype(np.int64)}
    return arrays if relevance.grades is None else arrays | {"grades": relevance.grades}


def _write_texts(path: Path, texts: pa.Array) -> None:
    import pyarrow as pa

    table = pa.table({"text": texts})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
