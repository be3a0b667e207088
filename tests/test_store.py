"""The token store: content, address, damage, two builders at once.

python -m pytest tests/test_store.py
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtcl import MRR, DataError, Files, LabelText, PairTable, Rows, Task
from mtcl.arrays import IntArray, Ragged
from mtcl.data import intact
from mtcl.data.intact import damage_of
from mtcl.data.store import Reader, TokenStore, prepare
from mtcl.data.tokenise import growing_array
from mtcl.data.tokenizer import MAX_CHARACTERS, Tokenizer
from mtcl.task.roles import Role
from mtcl.task.rows import _data_fingerprint, pairs_of

ROWS = [{"text": f"red dog {i}", "label": "post" if i % 2 else "news"} for i in range(20)]


def task_of(rows: list[dict[str, str]] | Files = ROWS, *, number: int = 1, label: str = "label") -> Task:
    class Animals(Task):
        """Posts on animals."""

        name = "animals"
        version = number
        data = Rows(train=rows) if isinstance(rows, list) else rows
        pairs = LabelText(label=label)
        metric = MRR()
        sample = ROWS[:2]

    return Animals()


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Tokenizer:
    return Tokenizer.load(tiny_model)


def build(task: Task, tokenizer: Tokenizer, cache: Path, *, max_length: int = 16) -> TokenStore:
    return prepare(task, "train", root=None, tokenizer=tokenizer, max_length=max_length, cache=cache)


def test_holds_texts_tokens_and_pairs(tokenizer: Tokenizer, tmp_path: Path) -> None:
    store = build(task_of(), tokenizer, tmp_path)
    texts = store.pairs.texts.to_pylist()
    expected = tokenizer.backend(texts, truncation=True, max_length=16)["input_ids"]
    assert [store.tokens[i].tolist() for i in range(len(texts))] == expected
    assert {(texts[a], texts[p]) for a, p in zip(store.pairs.anchors, store.pairs.positives, strict=True)} == {
        (r["text"], r["label"]) for r in ROWS
    }
    assert len(set(store.identity.tolist())) == len(texts)


@pytest.mark.parametrize("is_fast", [True, False])
def test_tokens_are_those_of_transformers_cut_alike(tokenizer: Tokenizer, is_fast: bool) -> None:
    """Both ways to the ids, from either end, and no text at all."""
    texts = ["red dog", "", "green bird post news query " * 5, "cat"]
    backend = tokenizer.backend
    for side in ("right", "left"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(backend, "truncation_side", side)
            patch.setattr(type(backend), "is_fast", is_fast)
            found = tokenizer(texts, 7)
            expected = backend(texts, truncation=True, max_length=7)["input_ids"]
        assert [found[row].tolist() for row in range(len(texts))] == expected
        assert max(found.lengths()) == 7
    assert len(tokenizer([], 7)) == 0


def test_an_array_grows_on_disk(tmp_path: Path) -> None:
    with growing_array(tmp_path / "grown.npy", np.uint16) as write:
        for piece in (np.arange(3), np.arange(0), np.arange(70_000) % 7):
            write(piece)
    found = np.load(tmp_path / "grown.npy", mmap_mode="r")
    assert found.dtype == np.uint16
    assert np.array_equal(found, np.concatenate([np.arange(3), np.arange(70_000) % 7]))


def test_texts_of_equal_tokens_have_one_identity(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = [{"text": "red dog", "label": "post"}, {"text": "Red Dog", "label": "news"}]
    store = build(task_of(rows), tokenizer, tmp_path)
    assert len(store.pairs.texts) == 4
    assert len(set(store.identity.tolist())) == 3


def test_pickles_as_its_folder(tokenizer: Tokenizer, tmp_path: Path) -> None:
    store = build(task_of(), tokenizer, tmp_path)
    pickled = pickle.dumps(store)
    assert len(pickled) < 300
    assert np.array_equal(pickle.loads(pickled).pairs.anchors, store.pairs.anchors)


def test_address_follows_what_the_store_depends_on(tokenizer: Tokenizer, tiny_model: Path, tmp_path: Path) -> None:
    first = build(task_of(), tokenizer, tmp_path).folder
    assert build(task_of(), tokenizer, tmp_path).folder == first
    others = [
        build(task_of(number=2), tokenizer, tmp_path).folder,
        build(task_of(ROWS[:-1]), tokenizer, tmp_path).folder,
        build(task_of([{**r, "kind": r["label"]} for r in ROWS], label="kind"), tokenizer, tmp_path).folder,
        build(task_of(), tokenizer, tmp_path, max_length=8).folder,
        build(task_of(), Tokenizer(tokenizer.backend, "another"), tmp_path).folder,
    ]
    assert len({first, *others}) == 6


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_class_of_pairs_of_one_s_own_sees_all_columns_of_a_file(tmp_path: Path, suffix: str) -> None:
    rows = [{"text": "a", "label": "x", "day": "2020-01-01", "n": 1}, {"text": "b", "label": "y", "n": 2}]
    (tmp_path / "animals").mkdir()
    if suffix == "jsonl":
        (tmp_path / "animals" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    else:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "animals" / "train.parquet")
    seen = []

    @dataclass(frozen=True)
    class Own(LabelText):
        def __call__(self, rows: pa.Table, corpus: pa.Table | None = None) -> PairTable:
            seen.append(rows.to_pylist())
            return super().__call__(rows)

    for pairing in (Own(), LabelText()):

        class Animals(Task):
            """Posts on animals."""

            name = "animals"
            data = Files("animals")
            pairs = pairing
            metric = MRR()
            sample = ROWS[:2]

        assert len(pairs_of(Animals(), "train", tmp_path).anchors) == 2
    assert seen == [[{"text": "a", "label": "x", "day": "2020-01-01", "n": 1}, {**rows[1], "day": None}]]


def test_rows_of_a_method_are_known_by_their_values() -> None:
    """Equal tables differ in chunks and in bytes that no value uses."""
    rows = pa.table({"id": range(5), "text": ["a", None, "c", "d", "e"], "tags": [["x"], [], None, ["y"], ["z"]]})
    chunked = pa.concat_tables([rows.slice(0, 2), rows.slice(2)])
    other = rows.slice(0, 4)

    class Method(Task, abstract=True):
        def __init__(self, rows: pa.Table) -> None:
            self.rows = rows

        def data(self, split: str, root: Path | None) -> pa.Table:
            return self.rows

    first, same, changed = (_data_fingerprint(Method(table), "train", None, None) for table in (rows, chunked, other))
    assert first == same != changed


def test_rows_and_corpus_of_one_split_are_known_by_their_own_columns() -> None:
    """A method's rows are hashed by the columns that are read, and the corpus reads others than the rows."""
    seen = []
    for text in ("one", "another"):

        class Method(Task, abstract=True):
            rows = pa.table({"query": ["q"], "document": ["d"], "text": [text]})

            def data(self, split: str, root: Path | None) -> list[dict[str, str]]:
                return self.rows.to_pylist()

        task = Method()
        rows = _data_fingerprint(task, "validation", None, {"query": Role.TEXT, "document": Role.TEXT})
        seen.append((rows, _data_fingerprint(task, "validation", None, {"text": Role.TEXT})))
    assert seen[0][0] == seen[1][0]
    assert seen[0][1] != seen[1][1]


@pytest.mark.parametrize("damage", ["truncated", "missing", "no meta", "half a meta"])
def test_a_damaged_store_is_built_again(
    tokenizer: Tokenizer, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = build(task_of(), tokenizer, tmp_path)
    expected = np.array(store.tokens.values)
    file = store.folder / ("meta.json" if "meta" in damage else "tokens_values.npy")
    if damage in ("missing", "no meta"):
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-5])
    assert damage_of(store.folder, by_content=False)
    assert np.array_equal(build(task_of(), tokenizer, tmp_path).tokens.values, expected)
    assert not damage_of(store.folder, by_content=True)


def test_a_flipped_byte_in_any_file_is_noticed(
    tokenizer: Tokenizer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The size stays the same, so only a digest shows it. The store is built again and never used as it is."""
    store = build(task_of(), tokenizer, tmp_path)
    before = {path.name: path.read_bytes() for path in store.folder.iterdir()}
    assert {"meta.json", "texts.arrow", "tokens_values.npy", "keys_values.npy"} <= before.keys()
    for name, content in before.items():
        place = len(content) * 2 // 3
        (store.folder / name).write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert name in damage_of(store.folder, by_content=True)
        caplog.clear()
        build(task_of(), tokenizer, tmp_path)
        assert f"the token store {store.folder} is damaged ({name}" in caplog.text
        assert {path.name: path.read_bytes() for path in store.folder.iterdir()} == before


def test_one_process_per_node_compares_contents(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    file_digest = intact.file_digest

    def noted(path: Path) -> str:
        read.append(path)
        return file_digest(path)

    build(task_of(), tokenizer, tmp_path)
    monkeypatch.setattr(intact, "file_digest", noted)
    build(task_of(), tokenizer, tmp_path)
    assert len(read) == len(set(read)) > 5, "each file once"
    read.clear()
    monkeypatch.setenv("LOCAL_RANK", "1")
    build(task_of(), tokenizer, tmp_path)
    assert not read


def test_a_build_that_fails_leaves_nothing(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, texts: pa.Array) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("mtcl.data.store._write_texts", fail)
        with pytest.raises(DataError, match=f"^task 'animals', train: No space left on device: {tmp_path}/animals-"):
            build(task_of(), tokenizer, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    assert not damage_of(build(task_of(), tokenizer, tmp_path).folder, by_content=True)


def test_left_overs_of_a_killed_build_are_removed(tokenizer: Tokenizer, tmp_path: Path) -> None:
    store = build(task_of(), tokenizer, tmp_path)
    (store.folder / "meta.json").unlink()
    left_over = tmp_path / f".{store.folder.name}.12345.part"
    left_over.mkdir()
    build(task_of(), tokenizer, tmp_path)
    assert not left_over.exists()


def test_a_build_that_was_killed_keeps_the_chunks_it_has_tokenised(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtcl.data.tokenise.BATCH", 2)
    expected = build(task_of(), tokenizer, tmp_path / "whole")
    monkeypatch.setattr("mtcl.data.tokenise.CHUNK", 6)  # 22 texts
    read, seen = Reader.read, []

    def counted(self: Reader, texts: list[str], sides: IntArray) -> tuple[Ragged, int]:
        seen.extend(texts)
        if len(seen) > 14 and stops:
            raise KeyboardInterrupt
        return read(self, texts, sides)

    monkeypatch.setattr(Reader, "read", counted)
    stops = True
    with pytest.raises(KeyboardInterrupt):
        build(task_of(), tokenizer, tmp_path)
    chunks = sorted(tmp_path.glob("*.tokens/*.npz"))
    assert len(chunks) == 2
    chunks[0].write_bytes(chunks[0].read_bytes()[:-40] + bytes(40))
    stops, seen[:] = False, []
    store = build(task_of(), tokenizer, tmp_path)
    assert len(seen) == 22 - 6  # one of the two is damaged
    assert not list(tmp_path.glob("*.tokens"))
    for name in ("tokens_values", "tokens_offsets", "identity"):
        assert (store.folder / f"{name}.npy").read_bytes() == (expected.folder / f"{name}.npy").read_bytes()


def build_from_files(root: Path, model: Path, cache: Path) -> None:
    rows = Files("animals")
    store = prepare(task_of(rows), "train", root=root, tokenizer=Tokenizer.load(model), max_length=16, cache=cache)
    assert len(store) == 3000


@pytest.mark.usefixtures("starts_processes")
def test_two_processes_at_once(tiny_model: Path, tmp_path: Path) -> None:
    """Both end well, one store stands there, nothing is left over."""
    (tmp_path / "data" / "animals").mkdir(parents=True)
    lines = [json.dumps({"text": f"red dog {i}", "label": "post"}) for i in range(3000)]
    (tmp_path / "data" / "animals" / "train.jsonl").write_text("\n".join(lines))
    context = multiprocessing.get_context("spawn")
    arguments = (tmp_path / "data", tiny_model, tmp_path / "cache")
    processes = [context.Process(target=build_from_files, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert [damage_of(p, by_content=True) for p in (tmp_path / "cache").iterdir() if p.is_dir()] == [""]


def test_long_texts_are_cut_and_counted(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = [*ROWS, {"text": "dog " * 300_000, "label": "post"}]
    store = build(task_of(rows), tokenizer, tmp_path)
    assert store.num_cut == 1
    assert f"cut: 1 texts of over {MAX_CHARACTERS:,} characters" in store.summary()
    assert int(store.tokens.lengths().max()) == 16
