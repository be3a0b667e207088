"""Rows from files, data sets and methods: equal rows from every format, and what is told when there are none.

python -m pytest tests/test_sources.py
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from mtcl import DataError, Files, Hub, QueryDocument, Rows, TaskError
from mtcl.task.as_table import as_table
from mtcl.task.roles import Role

ROWS = [{"text": f"post {n}, with a comma", "label": f"label {n % 3}"} for n in range(7)]
COMMIT = "0123456789" * 4
Writer = Callable[[Path, str, list[dict[str, Any]]], None]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `datasets` converts goes to a folder of the test's own."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


def write_parquet(folder: Path, split: str, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")


def write_jsonl(folder: Path, split: str, rows: list[dict[str, Any]]) -> None:
    import json

    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_csv(folder: Path, split: str, rows: list[dict[str, Any]]) -> None:
    pyarrow.csv.write_csv(pa.Table.from_pylist(rows), folder / f"{split}.csv")


def write_shards(folder: Path, split: str, rows: list[dict[str, Any]]) -> None:
    (folder / split).mkdir()
    for number, some in enumerate((rows[:3], rows[3:4], rows[4:])):
        write_parquet(folder / split, f"part-{number}", some)


WRITERS: list[Writer] = [write_parquet, write_jsonl, write_csv, write_shards]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "topic"
    path.mkdir()
    return path


def told(folder: Path, split: str = "train") -> str:
    with pytest.raises(DataError) as error:
        Files("topic")(split, folder.parent)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("write", WRITERS)
def test_every_format_gives_the_same_rows_in_order(folder: Path, write: Writer) -> None:
    write(folder, "train", ROWS)
    write(folder, "test", ROWS[:2])
    assert Files("topic")("train", folder.parent).to_pylist() == ROWS
    assert Files("topic")("test", folder.parent).to_pylist() == ROWS[:2]


@pytest.mark.parametrize("write", [write_parquet, write_jsonl, write_shards])
def test_lists_and_nulls_survive(folder: Path, write: Writer) -> None:
    rows = [{"text": "a", "tags": ["x", "y"]}, {"text": None, "tags": []}, {"text": "é\n", "tags": ["z"]}] * 2
    write(folder, "train", rows)
    assert Files("topic")("train", folder.parent).to_pylist() == rows


def test_new_rows_under_an_old_name_are_read(folder: Path) -> None:
    write_jsonl(folder, "train", ROWS)
    assert len(Files("topic")("train", folder.parent)) == len(ROWS)
    write_jsonl(folder, "train", [*ROWS, {"text": "new", "label": "new"}])
    assert Files("topic")("train", folder.parent).to_pylist()[-1] == {"text": "new", "label": "new"}


def test_new_rows_are_read_where_the_file_says_the_same_time(folder: Path) -> None:
    """As copies and unpacked archives may leave it."""
    for text in ("old", "new"):
        write_jsonl(folder, "train", [{"text": text, "label": "x"}])
        os.utime(folder / "train.jsonl", (1_500_000_000, 1_500_000_000))
        assert Files("topic")("train", folder.parent)["text"].to_pylist() == [text]


def test_words_that_pandas_takes_for_none_are_words_in_csv(folder: Path) -> None:
    (folder / "train.csv").write_text("text,label\nNA,null\nnone,\n")
    assert Files("topic")("train", folder.parent).to_pylist() == [
        {"text": "NA", "label": "null"},
        {"text": "none", "label": None},
    ]


def test_a_csv_column_is_of_numbers_only_if_all_its_values_are(folder: Path) -> None:
    (folder / "train.csv").write_text(
        'id,row,score,fits,text,long\n007,1,0.5,true,"a, b\nc",12345678901234567890\n7,-2,1,FALSE,.,1\n,,,,,\n'
    )
    rows = Files(folder.name)("train", folder.parent)
    assert rows.to_pydict() == {
        "id": ["007", "7", None],
        "row": [1, -2, None],
        "score": [0.5, 1.0, None],
        "fits": [True, False, None],
        "text": ["a, b\nc", ".", None],
        "long": ["12345678901234567890", "1", None],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("query,document\nq,d\nr,e, and more\n", ":3: it has 3 cells, the header 2: quote texts"),
        ("query,document\nq,d\nr\n", ":3: it has 1 cells, the header 2: quote texts"),
        ("query,query\nq,d\n", " has two columns with the same name: query"),
    ],
)
def test_a_csv_row_of_other_columns_is_refused(folder: Path, text: str, message: str) -> None:
    (folder / "train.csv").write_text(text)
    with pytest.raises(DataError, match=rf"train\.csv{message}"):
        Files(folder.name)("train", folder.parent)


def test_a_file_of_another_encoding_is_named_with_its_line(folder: Path) -> None:
    (folder / "train.jsonl").write_bytes('{"query": "Köln", "document": "d"}\n'.encode("latin-1"))
    for roles, rest in ((QueryDocument().columns(), False), ({}, True)):
        with pytest.raises(DataError, match=r"cannot read .*train\.jsonl:1 \('utf-8' .*\): save the file as UTF-8"):
            Files("topic").select("train", folder.parent, roles, rest=rest)


def test_a_shard_without_rows_is_passed_over(folder: Path) -> None:
    write_shards(folder, "train", ROWS)
    pq.write_table(pa.Table.from_pylist(ROWS)[:0], folder / "train" / "part-3.parquet")
    assert len(Files("topic")("train", folder.parent)) == len(ROWS)


def test_no_root_says_where_to_give_one() -> None:
    with pytest.raises(
        DataError, match=r"no data root for Files\('topic'\): give --data\.root FOLDER or set MTCL_DATA"
    ):
        Files("topic")("train", None)


def test_a_root_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data root '.*nowhere' is not a folder: check --data\.root and MTCL_DATA"):
        Files("topic")("train", tmp_path / "nowhere")


def test_a_misspelt_folder_is_told_the_nearest(folder: Path) -> None:
    with pytest.raises(DataError, match=rf"no folder {re.escape(str(folder.parent))}.topics; did you mean 'topic'\?"):
        Files("topics")("train", folder.parent)


def test_a_missing_split_lists_what_is_there(folder: Path) -> None:
    write_parquet(folder, "train", ROWS)
    write_shards(folder, "test", ROWS)
    assert told(folder, "validation").endswith("; known: test, train")
    assert told(folder, "tests").endswith("; did you mean 'test'?")
    for wanted in ("no split 'corpus'", "corpus.parquet, .jsonl, .csv or a folder corpus/ of such shards"):
        assert wanted in told(folder, "corpus")


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        (write_parquet, write_jsonl, "train.parquet, train.jsonl"),
        (write_csv, write_shards, "train.csv, train/"),
    ],
)
def test_two_formats_of_a_split_are_an_error_that_names_both(
    folder: Path, first: Writer, second: Writer, names: str
) -> None:
    first(folder, "train", ROWS)
    second(folder, "train", ROWS)
    assert told(folder) == f"{folder} holds train in several formats: keep one of {names}"


@pytest.mark.parametrize("content", [b"PAR1 and no more", b"", b"PAR1" + bytes(100) + b"PAR1"])
def test_a_damaged_parquet_file_is_named(folder: Path, content: bytes) -> None:
    (folder / "train.parquet").write_bytes(content)
    assert told(folder).startswith(f"cannot read {folder / 'train.parquet'}: ")


def test_half_a_parquet_file_is_named(folder: Path) -> None:
    write_parquet(folder, "train", ROWS * 100)
    whole = (folder / "train.parquet").read_bytes()
    (folder / "train.parquet").write_bytes(whole[: len(whole) // 2])
    assert told(folder).startswith(f"cannot read {folder / 'train.parquet'}: ")


def test_a_broken_line_is_named_with_its_file(folder: Path) -> None:
    (folder / "train.jsonl").write_text('{"text": "a"}\n{"text": \n')
    assert told(folder).startswith(f"cannot read {folder / 'train.jsonl'}:2 as JSON: ")


@pytest.mark.parametrize(
    ("name", "content"), [("train.jsonl", "\n \n"), ("train.csv", "text,label\n"), ("train.csv", "")]
)
def test_a_text_file_without_rows_is_named(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    assert told(folder) == f"no rows in {folder / name}"


def test_a_parquet_file_without_rows_is_named(folder: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS)[:0], folder / "train.parquet")
    assert told(folder) == f"no rows in {folder / 'train.parquet'}"


@pytest.mark.parametrize("write", WRITERS)
def test_the_fingerprint_changes_with_the_content_only(folder: Path, write: Writer) -> None:
    write(folder, "train", ROWS)
    source, root = Files("topic"), folder.parent
    before = source.fingerprint("train", root)
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        os.utime(path, (1, 1))
    write_jsonl(folder, "test", ROWS)
    assert source.fingerprint("train", root) == before
    assert Files("topic").fingerprint("train", root) == before
    (folder.parent / "moved").mkdir()
    folder.rename(folder.parent / "moved" / "topic")
    assert source.fingerprint("train", folder.parent / "moved") == before
    changed = sorted(p for p in (folder.parent / "moved" / "topic").rglob("*train*") if p.is_file()) or sorted(
        (folder.parent / "moved" / "topic" / "train").iterdir()
    )
    changed[0].write_bytes(changed[0].read_bytes() + b"\n")
    assert source.fingerprint("train", folder.parent / "moved") != before


def test_a_shard_more_changes_the_fingerprint(folder: Path) -> None:
    write_shards(folder, "train", ROWS)
    before = Files("topic").fingerprint("train", folder.parent)
    write_parquet(folder / "train", "part-9", ROWS)
    assert Files("topic").fingerprint("train", folder.parent) != before


@pytest.mark.parametrize("layout", ["{split}.parquet", "data/{split}-00000-of-00001.parquet"])
@pytest.mark.parametrize("name", ["plain", "run[12]", "v?", "a*"])
def test_a_local_data_set_folder_is_read_as_one_of_the_hub(tmp_path: Path, layout: str, name: str) -> None:
    """Under any name; what `datasets` makes of it does not stay."""
    for folder, beside in ((name, 0), ("run1", 1), ("v1", 1), ("ab", 1)):
        for split, rows in (("train", ROWS), ("validation", ROWS[:3]), ("test", ROWS[:1])):
            path = tmp_path / folder / layout.format(split=split)
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist([*rows, *rows] if beside else rows), path)
    source = Hub(str(tmp_path / name), revision=COMMIT)
    assert source("train", None).to_pylist() == ROWS
    assert source("validation", None).to_pylist() == ROWS[:3]
    renamed = Hub(str(tmp_path / name), revision=COMMIT, splits={"validation": "test"})
    assert renamed("validation", None).to_pylist() == ROWS[:1]
    assert renamed("train", None).to_pylist() == ROWS
    assert list(Path(datasets.config.HF_DATASETS_CACHE).iterdir()) == []


@pytest.mark.parametrize("revision", ["main", "v1.0", "abc", "0" * 39, "0" * 41, "g" * 40, "A" * 40, "", None])
def test_a_revision_that_can_move_is_refused_when_the_task_is_made(revision: Any) -> None:
    told = f"Hub('a/b', revision={revision!r}): give the full commit hash, 40 hexadecimal digits"
    with pytest.raises(TaskError, match=f"^{re.escape(told)}"):
        Hub("a/b", revision=revision)


def test_a_split_that_the_data_set_lacks_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path, "train", ROWS)
    with pytest.raises(DataError, match=rf"cannot read {re.escape(str(tmp_path))}@{COMMIT} split 'dev': .*dev"):
        Hub(str(tmp_path), revision=COMMIT, splits={"validation": "dev"})("validation", None)


def test_whether_a_data_set_has_a_split(tmp_path: Path) -> None:
    """Of a folder by its files; what cannot be had here tells when it is read."""
    for split in ("train", "test"):
        write_parquet(tmp_path, split, ROWS)
    source = Hub(str(tmp_path), revision=COMMIT, splits={"test": "test[:50%]", "held": "train+dev"})
    assert [source.has(split, None) for split in ("train", "validation", "test", "held")] == [True, False, True, True]
    assert Hub(str(tmp_path), revision=COMMIT, splits={"test": "dev"}).has("test", None) is False
    assert Hub("no/such-data", revision=COMMIT).has("validation", None)


def test_a_data_set_that_cannot_be_had_is_named_with_its_revision() -> None:
    with pytest.raises(DataError, match=f"cannot read no/such-data@{COMMIT} split 'train': ") as error:
        Hub("no/such-data", revision=COMMIT)("train", None)
    assert "\n" not in str(error.value)


def test_the_fingerprint_of_a_data_set_is_its_pin_or_its_content(tmp_path: Path) -> None:
    pin = Hub("a/b", revision=COMMIT, splits={"validation": "dev"})
    assert pin.fingerprint("train", None) == Hub("a/b", revision=COMMIT).fingerprint("train", None)
    others = [Hub("a/b", revision="1" * 40), Hub("a/c", revision=COMMIT), Hub("a/b", revision=COMMIT, config="en")]
    distinct = {s.fingerprint("validation", None) for s in (pin, *others, Hub("a/b", revision=COMMIT))}
    assert len(distinct) == 5
    write_parquet(tmp_path, "train", ROWS)
    before = Hub(str(tmp_path), revision=COMMIT).fingerprint("train", None)
    write_parquet(tmp_path, "train", ROWS[:2])
    assert Hub(str(tmp_path), revision=COMMIT).fingerprint("train", None) != before
    of_folder = [
        Hub(str(tmp_path), revision=COMMIT, **options)
        for options in ({}, {"config": "en"}, {"config": "fr"}, {"splits": {"validation": "test"}})
    ]
    assert len({source.fingerprint("validation", None) for source in of_folder}) == 4
    assert len({source.fingerprint("train", None) for source in of_folder}) == 3


def test_rows_are_given_by_split() -> None:
    source = Rows(train=ROWS, corpus=ROWS[:2])
    assert source("train", None).to_pylist() == ROWS
    assert source("corpus", None).to_pylist() == ROWS[:2]
    with pytest.raises(DataError, match=r"Rows has no split 'test'; known: corpus, train$"):
        source("test", None)
    with pytest.raises(DataError, match=r"Rows has no split 'trains'; did you mean 'train'\?$"):
        source("trains", None)


def test_the_fingerprint_of_rows_changes_with_their_content() -> None:
    print_of = Rows(train=ROWS).fingerprint("train", None)
    assert print_of == Rows(train=[dict(reversed(row.items())) for row in ROWS], test=ROWS).fingerprint("train", None)
    assert print_of != Rows(train=ROWS[:-1]).fingerprint("train", None)


@pytest.mark.parametrize(
    "given",
    [
        ROWS,
        tuple(ROWS),
        (row for row in ROWS),
        pa.Table.from_pylist(ROWS),
        datasets.Dataset.from_list(ROWS),
        datasets.Dataset.from_list(ROWS + ROWS).select(range(len(ROWS))),
    ],
    ids=["list", "tuple", "generator", "table", "dataset", "selection"],
)
def test_a_method_may_give_rows_in_any_of_these_kinds(given: object) -> None:
    table = as_table(given)
    assert isinstance(table, pa.Table)
    assert table.to_pylist() == ROWS


@pytest.mark.parametrize("given", [None, 3, "text", b"bytes", {"text": ["a"]}, len])
def test_what_is_no_rows_is_told_by_its_type(given: object) -> None:
    told = f"data must return a pyarrow.Table, a datasets.Dataset or dicts, not {type(given).__name__}"
    with pytest.raises(DataError, match=f"^{re.escape(told)}$"):
        as_table(given)


@pytest.mark.parametrize("given", [["a", "b"], [{"text": "a"}, {"text": 3}], [{"text": "a"}, None]])
def test_rows_that_make_no_table_are_told(given: list[object]) -> None:
    with pytest.raises(DataError, match=r"^rows cannot be read as a table: .*; give dicts with the same keys$"):
        as_table(given)


def test_no_rows_at_all_are_told() -> None:
    with pytest.raises(DataError, match=r"^data returned no rows$"):
        as_table([])


def test_where_keeps_the_rows_with_one_of_the_values(folder: Path) -> None:
    rows = [{"text": f"post {n}", "lang": ["de", "fr", "es"][n % 3], "year": 2020 + n % 2} for n in range(12)]
    write_parquet(folder, "train", rows)
    write_parquet(folder, "validation", [row for row in rows if row["lang"] != "es"])
    source = Files("topic", where={"lang": ["de", "es"], "year": [2020]})
    wanted = [row for row in rows if row["lang"] in ("de", "es") and row["year"] == 2020]
    assert source("train", folder.parent).to_pylist() == wanted
    assert {row["lang"] for row in source("validation", folder.parent).to_pylist()} == {"de"}
    for corpus in ("corpus", "documents"):
        write_parquet(folder, corpus, [{"text": "a document"}])
        assert source(corpus, folder.parent).to_pylist() == [{"text": "a document"}]
    write_parquet(folder, "test", [{"text": "a post", "year": 2020}])
    with pytest.raises(DataError, match="test of 'topic' has no column 'lang'"):
        source("test", folder.parent)
    plain, other = Files("topic"), Files("topic", where={"lang": ["de"], "year": [2020]})
    prints = [one.fingerprint("train", folder.parent) for one in (source, plain, other)]
    assert len(set(prints)) == 3


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"language": ["de"]}, "train of 'topic' has no column 'language' to keep rows by; did you mean 'lang'?"),
        ({"lang": ["de", "frr"]}, "no row of train of 'topic' has lang 'frr'; did you mean 'fr'?"),
        ({"lang": "de"}, "where gives 'de' for 'lang': give a list of values"),
        ({"year": ["new"]}, "'year' of train of 'topic' cannot be compared with ['new']"),
    ],
)
def test_where_that_fits_no_row_is_told(folder: Path, where: dict[str, Any], message: str) -> None:
    write_parquet(folder, "train", [{"text": f"post {n}", "lang": "de" if n else "fr", "year": n} for n in range(3)])
    with pytest.raises(DataError, match=re.escape(message)):
        Files("topic", where=where)("train", folder.parent)


def test_sets_come_in_the_same_order_in_every_process() -> None:
    """Python's order of a set of strings is another one in each process, and a store's address hashes the values."""
    rows = [{"text": "a", "tags": {"red", "blue", "green"}}]
    roles = {"text": Role.TEXT, "tags": Role.TEXTS}
    assert as_table(rows, roles)["tags"].to_pylist() == [["blue", "green", "red"]]


def test_numbers_beyond_64_bits_are_refused_in_one_line() -> None:
    with pytest.raises(DataError, match="rows cannot be read as a table"):
        as_table([{"a": 2**70}])
