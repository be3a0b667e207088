"""The token store: a task's split as integers on disk, memory-mapped by every process that reads it.

Each distinct text is tokenised once, by the tokenizer's own threads. A store's address hashes all it depends on
(data, declaration and version of the task, tokenizer, max length, prompt), so a stale store is never opened: a new
one is built beside it. A store is written aside under a lock and renamed when whole; one whose files do not have
their recorded sizes is built again. Text ends here: what comes after sees only integers.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xxhash

from mtcl.errors import ConfigError, DataError
from mtcl.task.contract import Task, errors_of, kind_of
from mtcl.task.pairs import Pairs, PairTable
from mtcl.task.pairs.log_q import log_shares
from mtcl.task.sources import Source, as_table
from mtcl.types import FloatArray, IntArray, Kind, Ragged, offsets_of

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedTokenizerBase

FORMAT = 5
BATCH = 4096
RAGGED = ("tokens", "keys", "groups", "negatives")
COLUMNS = ("anchors", "positives", "queries", "candidates", "languages")
ARRAYS = (*COLUMNS, "identity", "scores", "log_q_anchor", "log_q_positive")
HASHED_ROWS = 4096
"""Rows of a table that are hashed at once."""
MAX_CHARACTERS = 100_000
"""Longer texts are cut before tokenisation: no encoder reads that far, and tokenizers take seconds for a megabyte."""
log = logging.getLogger("mtcl")


@dataclass(frozen=True)
class Tokenizer:
    """A Hugging Face tokenizer and a digest of the files it was read from."""

    backend: PreTrainedTokenizerBase
    digest: str

    @classmethod
    def load(cls, folder: Path, *, trust_remote_code: bool = False) -> Tokenizer:
        from transformers import AutoTokenizer

        files = [p for p in sorted(folder.iterdir()) if p.is_file() and p.suffix in (".json", ".txt", ".model")]
        digest = hashlib.sha256(b"".join(p.name.encode() + p.read_bytes() for p in files if p.name != "config.json"))
        return cls(AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code), digest.hexdigest())

    def check_length(self, task: str, max_length: int) -> None:
        """Raise `ConfigError` for a max length that leaves no room for a word, or that the model cannot read."""
        least, most = self.backend.num_special_tokens_to_add() + 1, self.backend.model_max_length
        if not least <= max_length <= most:
            raise ConfigError(f"task {task!r}: max_length is {max_length}: the tokenizer takes {least} to {most}")

    @cached_property
    def dtype(self) -> type[np.integer[Any]]:
        return np.uint16 if len(self.backend) <= 1 << 16 else np.int32

    def __call__(self, texts: list[str], max_length: int) -> Ragged:
        """The ids of each text, special tokens among them, cut to `max_length`, on all cores."""
        ids: list[list[int]]
        if texts and self.backend.is_fast:  # without transformers' own conversion, which takes half as long again
            fast: Any = self.backend.backend_tokenizer
            fast.no_padding()
            fast.enable_truncation(max_length, direction=self.backend.truncation_side)
            ids = [encoding.ids for encoding in fast.encode_batch_fast(texts)]
        else:
            ids = self.backend(texts, truncation=True, max_length=max_length)["input_ids"] if texts else []
        lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        values = np.fromiter(chain.from_iterable(ids), dtype=self.dtype, count=int(lengths.sum()))
        return Ragged(offsets_of(lengths), values)


@dataclass(frozen=True)
class TokenStore:
    """One split of one task. Pickles as its folder, so worker processes map the same pages.

    `tokens`, `keys` and `identity` have a row for each distinct text; texts of equal `identity` have equal tokens.
    `log_q_anchor` and `log_q_positive` are the log of the share of an epoch's pairs in which a text has that role.
    The rest is as in `PairTable`.
    """

    folder: Path
    tokens: Ragged
    identity: IntArray
    keys: Ragged
    anchors: IntArray
    positives: IntArray
    queries: IntArray
    candidates: IntArray
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

    @classmethod
    def open(cls, folder: Path) -> TokenStore:
        meta = json.loads((folder / "meta.json").read_text())
        held = {Path(name).stem for name in meta["sizes"]}

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
            **{name: meta[name] for name in ("exclude_self", "tied", "skipped", "num_cut")},
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenStore.open, (self.folder,)

    def __len__(self) -> int:
        return len(self.anchors)

    def texts(self) -> pa.LargeStringArray:
        """The distinct texts themselves, memory-mapped: for people, teachers and searches; steps read tokens."""
        import pyarrow as pa

        return pa.ipc.open_file(pa.memory_map(str(self.folder / "texts.arrow"))).read_all()["text"].combine_chunks()

    def summary(self) -> str:
        """One line: pairs, texts, and every row that was left out or cut, with the reason."""
        notes = [f"{count:,} {reason}" for reason, count in self.skipped.items()]
        words = f"{len(self):,} pairs, {len(self.tokens):,} texts"
        words += f"; left out: {', '.join(notes)}" if notes else ""
        return words + (f"; cut: {self.num_cut:,} texts of over {MAX_CHARACTERS:,} characters" if self.num_cut else "")


def prepare(
    task: Task, split: str, *, root: Path | None, tokenizer: Tokenizer, max_length: int, cache: Path, prompt: str = ""
) -> TokenStore:
    """Open the store of a task's split, building it first where there is none.

    `prompt` is put before each text where it is tokenised; keys and the texts themselves know nothing of it.
    Safe when several processes ask at once: one builds, the others wait. Raises `DataError` that names task and split.
    """
    from filelock import FileLock

    with errors_of(task, split):
        folder = cache / f"{task.name}-{split}-{_address(task, split, root, tokenizer, max_length, prompt)}"
        if not is_whole(folder):
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{folder}.lock"):
                if not is_whole(folder):
                    table = pairs_of(task, split, root)
                    _build(folder, table, tokenizer, max_length, prompt, title=f"{task.name}/{split}")
        return TokenStore.open(folder)


def pairs_of(task: Task, split: str, root: Path | None) -> PairTable:
    """The pairs of a task's split, from its rows. Raises `DataError` where none is left."""
    rows = as_table(task.data(split, root))
    corpus_name = getattr(task.pairs, "corpus", None)
    corpus = as_table(task.data(corpus_name, root)) if corpus_name and split != "train" else None
    pairs = task.pairs.for_evaluation() if isinstance(task.pairs, Pairs) and split != "train" else task.pairs
    table = pairs(rows, corpus=corpus) if corpus is not None else pairs(rows)
    if not isinstance(table, PairTable):
        raise DataError(f"pairs must give a PairTable, not {type(table).__name__}: use mtcl.pair_table")
    if table.kind != kind_of(task):
        raise DataError(f"a method `pairs` must give {kind_of(task)} pairs, not {table.kind}: derive a mtcl.Pairs")
    if not len(table.anchors):
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in table.skipped.items()) or "no rows"
        raise DataError(f"no pair is left of {len(rows):,} rows ({reasons})")
    return table


def is_whole(folder: Path) -> bool:
    """Whether every file that the store recorded is there with its size."""
    try:
        sizes = json.loads((folder / "meta.json").read_text())["sizes"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError):
        return False


def _address(task: Task, split: str, root: Path | None, tokenizer: Tokenizer, max_length: int, prompt: str) -> str:
    depends_on = [FORMAT, tokenizer.digest, max_length, pairs_fingerprint(task, split, root)] + [prompt] * bool(prompt)
    return hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:16]


def pairs_fingerprint(task: Task, split: str, root: Path | None) -> str:
    """Changes whenever the pairs of a task's split may have changed: its version, its declaration or its rows."""
    corpus = getattr(task.pairs, "corpus", None)
    splits = [split, corpus] if corpus and split != "train" else [split]
    depends_on = [task.version, _declaration(task.pairs), *(_data_fingerprint(task, name, root) for name in splits)]
    return hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:16]


def _declaration(pairs: Any) -> str:
    return repr(pairs) if isinstance(pairs, Pairs) else inspect.getsource(pairs)


def _data_fingerprint(task: Task, split: str, root: Path | None) -> str:
    if isinstance(task.data, Source):
        return task.data.fingerprint(split, root)
    rows, digest = as_table(task.data(split, root)), hashlib.sha256()
    for start in range(0, len(rows), HASHED_ROWS):  # of values: Arrow's bytes differ between equal tables
        digest.update(repr(rows.slice(start, HASHED_ROWS).to_pydict()).encode())
    return digest.hexdigest()


def _build(folder: Path, table: PairTable, tokenizer: Tokenizer, max_length: int, prompt: str, *, title: str) -> None:
    for left_over in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left_over)
    if folder.exists():
        log.warning("%s: the token store %s is damaged and is built again", title, folder)
        shutil.rmtree(folder)
    aside = folder.parent / f".{folder.name}.{os.getpid()}"
    aside.mkdir()
    num_cut = _tokenise(aside, table.texts, tokenizer, max_length, prompt, title=title)
    for name, array in _columns(table).items():
        np.save(aside / f"{name}.npy", array)
    _write_texts(aside / "texts.arrow", table.texts)
    meta = {
        "kind": table.kind,
        "language_names": table.language_names,
        "exclude_self": table.exclude_self,
        "tied": table.tied,
        "skipped": table.skipped,
        "num_cut": num_cut,
        "sizes": {path.name: path.stat().st_size for path in sorted(aside.iterdir())},
    }
    (aside / "meta.json").write_text(json.dumps(meta))
    aside.rename(folder)


def _columns(table: PairTable) -> dict[str, npt.NDArray[Any]]:
    """The table's arrays by file name; text and group indices in 32 bits where they fit."""
    index = np.int32 if max(len(table.texts), len(table.anchors)) < 1 << 31 else np.int64
    arrays: dict[str, npt.NDArray[Any]] = {"keys_offsets": table.keys.offsets, "keys_values": table.keys.values}
    for name in COLUMNS:
        if (column := getattr(table, name)) is not None:
            arrays[name] = column.astype(index)
    for name in ("groups", "negatives"):
        if (ragged := getattr(table, name)) is not None:
            arrays |= {f"{name}_offsets": ragged.offsets, f"{name}_values": ragged.values.astype(index)}
    if table.scores is not None:
        arrays["scores"] = table.scores
    arrays["log_q_anchor"], arrays["log_q_positive"] = log_shares(table)
    return arrays


def _tokenise(folder: Path, texts: pa.Array, tokenizer: Tokenizer, max_length: int, prompt: str, *, title: str) -> int:
    """Write tokens and identities of all texts; the number of those that were cut. Memory does not grow with tokens.

    The next batch is tokenised, outside of Python's lock, while this one is written.
    """
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    starts = range(0, len(texts), BATCH)
    lengths = np.zeros(len(texts), dtype=np.int64)
    identity = np.empty(len(texts), dtype=np.int64)
    num_cut = 0

    def read(start: int) -> tuple[Ragged, int]:
        batch: list[str] = texts.slice(start, BATCH).to_pylist()
        cut = sum(len(text) > MAX_CHARACTERS for text in batch)
        return tokenizer([prompt + text[:MAX_CHARACTERS] for text in batch], max_length), cut

    with growing_array(folder / "tokens_values.npy", tokenizer.dtype) as write, ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(read, 0)
        for start in track(
            starts,
            description=f"tokenise {title}",
            transient=True,
            console=console,
            disable=len(starts) < 4 or not console.is_terminal,
        ):
            tokens, cut = ahead.result()
            ahead = reader.submit(read, start + BATCH)
            num_cut += cut
            end = start + len(tokens)
            write(tokens.values)
            lengths[start:end] = tokens.lengths()
            hashes = [xxhash.xxh3_64_intdigest(tokens[row].tobytes()) for row in range(len(tokens))]
            identity[start:end] = np.array(hashes, dtype=np.uint64).astype(np.int64)
    np.save(folder / "tokens_offsets.npy", offsets_of(lengths))
    np.save(folder / "identity.npy", identity)
    return num_cut


@contextmanager
def growing_array(path: Path, dtype: type[np.generic]) -> Iterator[Callable[[npt.NDArray[Any]], None]]:
    """A one-dimensional .npy file, written piece by piece: numpy keeps room in its header for the final size."""
    size = 0
    with path.open("wb") as file:

        def write_header() -> None:
            file.seek(0)
            settings = {
                "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
                "fortran_order": False,
                "shape": (size,),
            }
            np.lib.format.write_array_header_1_0(file, settings)

        def write(piece: npt.NDArray[Any]) -> None:
            nonlocal size
            file.write(np.ascontiguousarray(piece, dtype=dtype).data)
            size += len(piece)

        write_header()
        yield write
        write_header()


def _write_texts(path: Path, texts: pa.Array) -> None:
    import pyarrow as pa

    table = pa.table({"text": texts})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
