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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtcl.arrays import IntArray, Ragged
from mtcl.data.intact import damage_of, record_of, remove_damaged, seal
from mtcl.data.tokenise import tokenise
from mtcl.data.tokenizer import MAX_CHARACTERS, Tokenizer
from mtcl.files import written_whole
from mtcl.task.contract import Task, errors_of
from mtcl.task.pairs import PairTable
from mtcl.task.pairs.columns import reasons
from mtcl.task.pairs.log_q import LogShares, log_shares
from mtcl.task.pairs.sides import sides_of, split_sides
from mtcl.task.pairs.stored import arrays_of, facts_of, table_of
from mtcl.task.pairs.table import OF_PAIRS
from mtcl.task.prompt import Prompt, PromptSide
from mtcl.task.rows import pairs_fingerprint, pairs_of

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 11
log = logging.getLogger("mtcl")


@dataclass(frozen=True)
class Limit:
    """What a run leaves out of a store: it has `num_whole` pairs on disk, and no pair has one of the texts `left_out`,
    which must not be trained.
    """

    num_whole: int
    left_out: IntArray


@dataclass(frozen=True)
class TokenStore:
    """One split of one task. Only its folder is pickled, so worker processes map the same pages.

    `tokens`, `identity`, `sides`, `log_q` and the keys of `pairs` have a row for each distinct text. A text that is
    both a query and a document has a second row if its prompts differ; these copies come last. Texts with equal
    `identity` have equal tokens; `num_distinct` texts differ as tokens. `sides` has the `PromptSide` of each text. With
    a `limit`, `pairs` has fewer pairs than are on disk, which are in memory and pickled.
    """

    folder: Path
    pairs: PairTable
    tokens: Ragged
    identity: IntArray
    sides: IntArray
    log_q: LogShares
    num_cut: int
    num_distinct: int
    limit: Limit | None = None

    @classmethod
    def open(cls, folder: Path) -> TokenStore:
        """Map the arrays of a finished folder into memory. Nothing is checked: see `damage_of`."""
        meta = record_of(folder)
        names = [name for name in meta["files"] if name.endswith(".npy")]
        arrays = {name.removesuffix(".npy"): np.load(folder / name, mmap_mode="r") for name in names}
        is_symmetric = int(arrays["sides"][0]) == PromptSide.EITHER
        return cls(
            folder=folder,
            pairs=table_of(_read_texts(folder / "texts.arrow"), arrays, meta, symmetric=is_symmetric),
            tokens=Ragged(arrays["tokens_offsets"], arrays["tokens_values"]),
            identity=arrays["identity"],
            sides=arrays["sides"],
            log_q=LogShares(arrays["log_q_anchor"], arrays["log_q_positive"]),
            num_cut=meta["num_cut"],
            num_distinct=meta["num_distinct"],
        )

    def __reduce__(self) -> tuple[Any, ...]:
        if self.limit is None:
            return TokenStore.open, (self.folder,)
        columns = {name: getattr(self.pairs, name) for name in OF_PAIRS}
        return _open_limited, (self.folder, columns, self.log_q, self.limit)

    def __len__(self) -> int:
        return len(self.pairs.anchors)

    @property
    def num_whole(self) -> int:
        """The number of pairs on disk, those that the limit leaves out included."""
        return len(self) if self.limit is None else self.limit.num_whole

    def summary(self) -> str:
        """One line: the number of pairs and texts, of rows left out by reason, and of texts that were cut."""
        words = f"{len(self):,} pairs, {len(self.tokens):,} texts"
        words += f"; left out: {reasons(self.pairs.skipped)}" if self.pairs.skipped else ""
        return words + (f"; cut: {self.num_cut:,} texts of over {MAX_CHARACTERS:,} characters" if self.num_cut else "")


def _open_limited(folder: Path, columns: dict[str, Any], log_q: LogShares, limit: Limit) -> TokenStore:
    """A limited store that was pickled: its texts, keys and tokens are mapped again."""
    store = TokenStore.open(folder)
    return replace(store, pairs=replace(store.pairs, **columns), log_q=log_q, limit=limit)


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
        words = [self.prompt[side] for side in PromptSide]
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
        facts = facts_of(table)
        np.save(aside / "sides.npy", sides)
        for name, array in arrays_of(table):
            np.save(aside / f"{name}.npy", array)
        log_q = log_shares(table)
        np.save(aside / "log_q_anchor.npy", log_q.anchor)
        np.save(aside / "log_q_positive.npy", log_q.positive)
        texts = table.texts
        del table, log_q  # a hundred million pairs take gigabytes
        _write_texts(aside / "texts.arrow", texts)
        dtype = reader.tokenizer.dtype
        num_cut, num_distinct = tokenise(aside, texts, sides, reader.read, dtype=dtype, kept=kept, title=title)
        seal(aside, facts | {"num_cut": num_cut, "num_distinct": num_distinct})
    shutil.rmtree(kept, ignore_errors=True)


def _write_texts(path: Path, texts: pa.Array) -> None:
    import pyarrow as pa

    table = pa.table({"text": texts})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _read_texts(path: Path) -> pa.LargeStringArray:
    """The texts, memory-mapped."""
    import pyarrow as pa

    (texts,) = pa.ipc.open_file(pa.memory_map(str(path))).read_all()["text"].chunks
    return texts
