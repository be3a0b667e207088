"""Tables of pairs that are larger than memory: the same as by a plain definition, whatever the sizes of their parts.

python -m pytest tests/test_numbering.py
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtcl import DataError, Judgements, PairTable, QueryDocument, pair_table
from mtcl.arrays import Ragged
from mtcl.task.pairs import numbering, parts, table
from mtcl.task.pairs.keys import Links, id_key, text_key
from mtcl.task.pairs.numbering import Numbering, in_order
from mtcl.task.reading import Wanted, parquet, read_split
from mtcl.task.spill import Growing, Spill

TEXT = st.sampled_from(["red", "Red", " red ", "dog", "dog cat", "dog  CAT", "é", "", "1", "2"])
PAIRS = st.lists(st.tuples(TEXT, TEXT, TEXT, st.sampled_from(["1", "2", "dog"]), st.sampled_from("ab")), min_size=1)


@pytest.fixture(autouse=True, params=["small parts", "one part"])
def sizes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every limit so low that a table of few rows passes it several times, and the limits as they are."""
    with pytest.MonkeyPatch.context() as patched:
        if request.param == "small parts":
            patched.setenv("MTCL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
            for module, name, size in (
                (numbering, "BLOCK", 3),
                (numbering, "ROOM", 2),
                (parts, "PART", 5),
                ("mtcl.task.spill", "IN_MEMORY", 100),
                ("mtcl.task.spill", "ROWS", 2),
                (parquet, "ROWS", 2),
                ("mtcl.arrays", "TAKEN", 2),
            ):
                patched.setattr(f"{getattr(module, '__name__', module)}.{name}", size)
        yield


def defined(rows: list[Any], *, languages: bool) -> dict[str, Any]:
    """The table by its definition, in plain Python."""
    anchors, positives, negatives, ids = ([row[n] for row in rows] for n in range(4))
    texts = list(dict.fromkeys([*anchors, *positives, *positives, *anchors, *positives, *negatives]))
    of = {text: number for number, text in enumerate(texts)}
    pairs = [(of[a], of[p], row[4] if languages else "") for a, p, row in zip(anchors, positives, rows, strict=True)]
    first = [pairs.index(pair) for pair in pairs]
    kept = [number for number, at in enumerate(first) if number == at]
    same_as: dict[int, set[int]] = {text_key(text): {text_key(text)} for text in texts}
    for anchor, positive, own in zip(anchors, positives, ids, strict=True):
        same_as[text_key(anchor)] |= {text_key(positive), id_key(own)}
        same_as[text_key(positive)] |= {id_key(own)}
    hard: list[set[int]] = [set() for _ in rows]
    for text, owner in zip(negatives, first, strict=True):
        hard[owner].add(of[text])
    return {
        "texts": texts,
        "anchors": [pairs[row][0] for row in kept],
        "positives": [pairs[row][1] for row in kept],
        "keys": [sorted(same_as[text_key(text)]) for text in texts],
        "negatives": [sorted(hard[row]) for row in kept],
        "candidates": list(dict.fromkeys(of[text] for text in positives)),
        "queries": sorted({pair[0] for pair in pairs}),
    }


def made(rows: list[Any], *, languages: bool, num_chunks: int) -> PairTable:
    def column(number: int) -> pa.ChunkedArray:
        values = [row[number] for row in rows]
        size = -(-len(values) // num_chunks)
        return pa.chunked_array([pa.array(values[n : n + size]) for n in range(0, len(values), size)])

    anchors, positives, ids = column(0), column(1), column(3)
    return pair_table(
        anchors,
        positives,
        candidates=positives,
        links=[Links(anchors, ids), Links(positives, ids)],
        negatives=(column(2), np.arange(len(rows))),
        languages=column(4) if languages else None,
    )


def rows_of(ragged: Ragged | None) -> list[list[int]]:
    assert ragged is not None
    return [ragged[row].tolist() for row in range(len(ragged))]


@given(PAIRS, st.booleans(), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_a_table_is_what_its_definition_says(rows: list[Any], languages: bool, num_chunks: int) -> None:
    found, expected = made(rows, languages=languages, num_chunks=num_chunks), defined(rows, languages=languages)
    assert found.texts.to_pylist() == expected["texts"]
    for name in ("anchors", "positives", "candidates", "queries"):
        assert getattr(found, name).tolist() == expected[name], name
    for name in ("keys", "negatives"):
        assert rows_of(getattr(found, name)) == expected[name], name
    assert found.skipped.get("duplicate pair", 0) == len(rows) - len(expected["anchors"])


@given(PAIRS)
@settings(max_examples=30, deadline=None)
def test_clusters_are_sorted_pairs_of_text_and_cluster(rows: list[Any]) -> None:
    found = table.cluster_table(pa.array([row[0] for row in rows]), pa.array([row[3] for row in rows]))
    texts = list(dict.fromkeys(row[0] for row in rows))
    names = list(dict.fromkeys(row[3] for row in rows))
    pairs = sorted({(texts.index(row[0]), names.index(row[3])) for row in rows})
    names_of = [name for _, name in pairs]
    kept = [pair for pair in pairs if names_of.count(pair[1]) > 1]
    assert list(zip(found.anchors.tolist(), found.positives.tolist(), strict=True)) == kept


@given(st.lists(TEXT))
@settings(max_examples=40)
def test_numbers_follow_the_first_occurrence(words: list[str]) -> None:
    texts = Numbering()
    numbers = texts.of(pa.array(words, pa.string()))
    assert texts.texts().to_pylist() == list(dict.fromkeys(words))
    assert [texts.texts()[int(number)].as_py() for number in numbers] == words
    assert in_order(numbers[::-1], size=len(texts)).tolist() == list(dict.fromkeys(numbers[::-1].tolist()))


def test_texts_whose_hashes_want_one_slot_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xxhash.xxh3_128_digest", lambda text: bytes(8) + text.ljust(8)[:8])
    words = [f"t{number}" for number in range(40)]
    texts = Numbering()
    assert texts.of(pa.array(words * 2)).tolist() == [*range(40), *range(40)]


def test_a_null_text_is_refused() -> None:
    with pytest.raises(DataError, match="1 texts are null"):
        pair_table(pa.array(["a", None]), pa.array(["b", "c"]), candidates=pa.array(["b"]))


@given(st.lists(st.integers(0, 40)))
@settings(max_examples=30)
def test_a_spill_has_all_rows_in_order(lengths: list[int]) -> None:
    spill, tables = Spill(), [pa.table({"n": pa.array(range(length), pa.int64())}) for length in lengths]
    for one in tables:
        spill.add(one)
    found = pa.concat_tables(spill.tables()) if lengths else pa.table({"n": []})
    assert found["n"].to_pylist() == [n for length in lengths for n in range(length)]


@given(st.lists(st.binary(max_size=60)))
@settings(max_examples=40)
def test_growing_bytes_are_all_there(pieces: list[bytes]) -> None:
    growing = Growing()
    for piece in pieces:
        growing.write(piece)
    assert growing.buffer().to_pybytes() == b"".join(pieces)


def test_rows_of_parquet_are_the_same_on_disk(tmp_path: Path) -> None:
    rows = pa.table({"query": ["a", None, "c", "d"] * 20, "document": [f"text {n}" for n in range(80)], "n": range(80)})
    for number in range(3):
        pq.write_table(rows, tmp_path / f"{number}.parquet", row_group_size=7)
    paths = sorted(tmp_path.iterdir())
    found = read_split(paths, Wanted(QueryDocument().columns())).rows
    assert found.to_pylist() == pa.concat_tables([rows.select(["query", "document"])] * 3).to_pylist()
    assert read_split(paths, Wanted({}, rest=True)).rows.to_pylist() == pa.concat_tables([rows] * 3).to_pylist()


def test_rows_of_jsonl_are_the_same_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtcl.task.reading.jsonl.BLOCK", 200)
    rows = [{"query": f"a {n}", "document": "d" if n % 7 else None, "id": n if n < 30 else f"x{n}"} for n in range(60)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_split([tmp_path / "train.jsonl"], Wanted(QueryDocument(document_id="id").columns())).rows
    assert found.to_pylist() == [row | {"id": str(row["id"])} for row in rows]


def test_a_column_that_some_shards_lack_is_named_with_the_shard(tmp_path: Path) -> None:
    pq.write_table(pa.table({"query": ["a"], "document": ["b"], "hard": ["c"]}), tmp_path / "0.parquet")
    pq.write_table(pa.table({"query": ["a"], "documents": ["b"]}), tmp_path / "1.parquet")
    paths = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match=r"1\.parquet: no column 'document' .*'documents'"):
        read_split(paths, Wanted(QueryDocument(negatives="hard").columns()))
    found = read_split(paths, Wanted(QueryDocument(document="query", negatives="hard").columns())).rows
    assert found["hard"].to_pylist() == [["c"], None]


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> Any:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("mtcl.task.spill.IN_MEMORY", 10)
    monkeypatch.setenv("MTCL_CACHE", str(tmp_path))
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(DataError, match=f"cannot be written to {tmp_path}: No space left"):
        Growing().write(bytes(20))


def test_judgements_number_queries_documents_and_ids() -> None:
    found = pair_table(
        pa.array(["q", "r"]),
        pa.array(["d", "e"]),
        candidates=pa.array(["d", "e"]),
        judgements=Judgements(
            Links(pa.array(["r", "q", "s"]), pa.array(["2", "1", "3"])),
            Links(pa.array(["e", "d", "d"]), pa.array(["2", "1", "4"])),
        ),
    )
    assert found.relevance is not None
    texts = found.texts.to_pylist()
    assert [texts[n] for n in found.relevance.candidates] == ["e", "d", "d"]
    assert {texts[n] for n in found.relevance.queries} == {"q", "r", "s"}
    assert found.relevance.problems[0].startswith("1 relevant documents are missing ('3' is the first)")
