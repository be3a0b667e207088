"""A table of inputs as teams have them: what is read of each, or the one line that says what is wrong and where.

Each line of `INPUTS` is a kind of input, a name, what is written, the pair construction, and the answer: the pairs that
are made (with scores and hard negatives where there are any), or a regular expression of the message.

python -m pytest tests/test_reading_table.py
"""

from __future__ import annotations

import datetime
import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtcl import (
    MRR,
    AveragePrecision,
    DataError,
    Files,
    Hub,
    Labelled,
    LabelText,
    Pairs,
    QueryDocument,
    Rows,
    Scored,
    Spearman,
    Tags,
    Task,
)
from mtcl.task.kind import Kind
from mtcl.task.rows import pairs_fingerprint, pairs_of

Write = Callable[[Path], Any]
Input = tuple[str, str, Any, Pairs, Any]
METRICS = {Kind.GRADED: Spearman(), Kind.BINARY: AveragePrecision()}
IDS, HARD, PLAIN = QueryDocument(document_id="id"), QueryDocument(negatives="neg"), QueryDocument()
COMMIT = "0" * 40


def text(content: str | bytes, name: str) -> Write:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return write


def csv(*lines: str, name: str = "train.csv") -> Write:
    return text("".join(f"{line}\n" for line in lines), name)


def jsonl(*rows: Any, name: str = "train.jsonl") -> Write:
    return text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), name)


def parquet(name: str = "train.parquet", **columns: Any) -> Write:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), folder / name)

    return write


def link(target: str, name: str) -> Write:
    return lambda folder: (folder / name).symlink_to(target)


def all_of(*writes: Write) -> Write:
    return lambda folder: [write(folder) for write in writes]


def row(query: Any = "q", document: Any = "d", **more: Any) -> dict[str, Any]:
    return {"query": query, "document": document, **more}


def judged(score: Any, first: str = "a", **more: Any) -> dict[str, Any]:
    return {"first": first, "second": "b", "score": score, **more}


LONG = [row(f"{n} " + "x" * 300, "y" * 800) for n in range(12_000)]
"""More than 10 MB, the block whose types `datasets` keeps."""
QD, AB = [("q", "d")], [("a", "b")]
TWO = [("q", "d"), ("r", "e")]

INPUTS: list[Input] = [
    # CSV
    (
        "csv",
        "years as labels, quoted",
        csv("text,label", '"a","1984"', '"b","2001"'),
        LabelText(),
        [("a", "1984"), ("b", "2001")],
    ),
    (
        "csv",
        "true and false as labels",
        csv("text,label", "a,true", "b,false"),
        LabelText(),
        [("a", "true"), ("b", "false")],
    ),
    ("csv", "years as queries", csv("query,document", "1984,a", "2001,b"), PLAIN, [("1984", "a"), ("2001", "b")]),
    (
        "csv",
        "words for nothing are words",
        csv("query,document", "NA,None", "null,NaN"),
        PLAIN,
        [("NA", "None"), ("null", "NaN")],
    ),
    (
        "csv",
        "ids of all forms",
        csv("query,document,id", "a,b,7", "c,d,a17", "e,f,007"),
        IDS,
        [("a", "b"), ("c", "d"), ("e", "f")],
    ),
    (
        "csv",
        "an empty id",
        csv("query,document,id", "a,b,7", "c,d,"),
        IDS,
        r"train\.csv: column 'id' has 1 null ids \(the first where 'query' is 'c'\)",
    ),
    (
        "csv",
        "scores 0, 1 and 0.5",
        csv("first,second,score", "a,b,0", "c,b,1", "d,b,0.5"),
        Scored(),
        [("a", "b"), ("c", "b"), ("d", "b"), [0, 1, 0.5]],
    ),
    (
        "csv",
        "a word as score",
        csv("first,second,score", "a,b,1", "", "c,d,high"),
        Scored(),
        r"train\.csv:4: column 'score' holds 'high', not a number: write one.*$",
    ),
    (
        "csv",
        "a decimal comma",
        csv("first,second,score", 'a,b,"0,5"'),
        Scored(),
        r"train\.csv:2: column 'score' holds '0,5', not a number: write one.*$",
    ),
    (
        "csv",
        "no score",
        csv("first,second,score", "a,b,1", "c,d,"),
        Scored(),
        r"train\.csv: column 'score' has no number in 1 rows \(the first where 'first' is 'c'\)",
    ),
    (
        "csv",
        "true and false as scores",
        csv("first,second,label", "a,b,true", "c,d,False"),
        Labelled(),
        [("a", "b"), ("c", "d"), [1, 0]],
    ),
    (
        "csv",
        "tags",
        csv("text,tags", 'a,"x,y"'),
        Tags(),
        r"train\.csv: column 'tags' holds text, and a CSV file has no lists",
    ),
    (
        "csv",
        "semicolons",
        csv("query;document", "q;d"),
        PLAIN,
        r"train\.csv has the single column 'query;document': separate columns with ',', not ';'$",
    ),
    (
        "csv",
        "a cell too many",
        csv("query,document", '"q', 'q",d', "r,e,f"),
        PLAIN,
        r"cannot read .*train\.csv:4: it has 3 cells, the header 2",
    ),
    (
        "csv",
        "a quote that never ends",
        csv("query,document", '"q,d', "r,e"),
        PLAIN,
        r"cannot read .*train\.csv:2: it has 1 cells, the header 2",
    ),
    (
        "csv",
        "Latin-1",
        text("query,document\nq,d\nq,Köln\n".encode("latin-1"), "train.csv"),
        PLAIN,
        r"train\.csv:3: it is not UTF-8: save the file as UTF-8$",
    ),
    (
        "csv",
        "UTF-16",
        text("query,document\nq,d\n".encode("utf-16"), "train.csv"),
        PLAIN,
        r"train\.csv: it is UTF-16: save it as UTF-8$",
    ),
    ("csv", "a byte order mark", text("\ufeffquery,document\nq,d\n", "train.csv"), PLAIN, QD),
    ("csv", "line ends of other systems", text("query,document\rq,d\rr,e\r", "train.csv"), PLAIN, TWO),
    ("csv", "blank lines", csv("query,document", "", "q,d", "", "r,e"), PLAIN, TWO),
    ("csv", "two unused columns of one name", csv(",,query,document", "0,1,q,d", "1,2,r,e"), PLAIN, TWO),
    (
        "csv",
        "two wanted columns of one name",
        csv("query,query,document", "q,q,d"),
        PLAIN,
        r"train\.csv has two columns with the same name: query$",
    ),
    (
        "csv",
        "a column that is not there",
        csv("query, document", "q,d"),
        PLAIN,
        r"train\.csv: no column 'document' .*did you mean ' document'\?$",
    ),
    # JSONL
    ("jsonl", "null, then a list", jsonl(*(r | {"neg": None} for r in LONG[:50]), row(neg=["bad"])), HARD, 51),
    ("jsonl", "[], then a text", jsonl(row(neg=[]), row("r", "e", neg="bad")), HARD, [*TWO, [[], ["bad"]]]),
    (
        "jsonl",
        "an unused column of all types",
        jsonl(row(x=None), row("r", "e", x=[1]), '{"x": "2020-01-01"}'),
        PLAIN,
        TWO,
    ),
    ("jsonl", "a late key", jsonl(row(), row("r", "e", note="x")), PLAIN, TWO),
    ("jsonl", "ids 7 and a17", jsonl(row(id=7), row("r", "e", id="a17")), IDS, TWO),
    (
        "jsonl",
        "an id 7.0",
        jsonl(row(id=7.0)),
        IDS,
        r"train\.jsonl:1: column 'id' holds a number, not text or integers$",
    ),
    (
        "jsonl",
        "an id true",
        jsonl(row(id=7), row("r", id=True)),
        IDS,
        r"train\.jsonl:2: column 'id' holds true or false, not",
    ),
    (
        "jsonl",
        "an id null",
        jsonl(row(id=7), row("r", id=None)),
        IDS,
        r"train\.jsonl: column 'id' has 1 null ids \(the first where 'query' is 'r'\)",
    ),
    ("jsonl", "dates", jsonl({"text": "a", "label": "2020-01-01"}), LabelText(), [("a", "2020-01-01")]),
    (
        "jsonl",
        "scores 0, 1 and 0.5",
        jsonl(judged(0), judged(1, "c"), judged(0.5, "d")),
        Scored(),
        [*AB, ("c", "b"), ("d", "b"), [0, 1, 0.5]],
    ),
    (
        "jsonl",
        "a score as text",
        jsonl(judged(0), judged("0.5")),
        Scored(),
        r"train\.jsonl:2: column 'score' holds text, not numbers$",
    ),
    (
        "jsonl",
        "a score that is none",
        jsonl(judged(0), '{"first": "z", "second": "b", "score": NaN}'),
        Scored(),
        r"no number in 1 rows \(the first where 'first' is 'z'\)",
    ),
    (
        "jsonl",
        "a number as text",
        jsonl(row(), row(1984)),
        PLAIN,
        r"train\.jsonl:2: column 'query' holds a number, not text: save it as text, .*use Cluster .*$",
    ),
    (
        "jsonl",
        "lists as labels",
        jsonl({"text": "a", "labels": ["x"]}),
        LabelText(label="labels"),
        r"train\.jsonl:1: column 'labels' holds a list, not text: .* use Tags$",
    ),
    (
        "jsonl",
        "numbers in a list",
        jsonl(row(neg=["a", 3])),
        HARD,
        r"train\.jsonl:1: column 'neg' holds a list with a number, not text or lists of texts$",
    ),
    (
        "jsonl",
        "a damaged line",
        jsonl(row(), '{"query": '),
        PLAIN,
        r"cannot read .*train\.jsonl:2 as JSON: Expecting value at character 11$",
    ),
    (
        "jsonl",
        "two objects on a line",
        jsonl(row(), '{"query": "a"}{"query": "b"}'),
        PLAIN,
        r"train\.jsonl:2 as JSON: Extra data at character 15$",
    ),
    (
        "jsonl",
        "one list",
        text(json.dumps([row()]), "train.jsonl"),
        PLAIN,
        r"train\.jsonl:1: it is a list, not an object: write one object per line$",
    ),
    (
        "jsonl",
        "half of a character",
        jsonl(row(), '{"query": "\\ud83d"}'),
        PLAIN,
        r"train\.jsonl:2: column 'query' has half of a character",
    ),
    (
        "jsonl",
        "Latin-1",
        text('{"query": "Köln"}\n'.encode("latin-1"), "train.jsonl"),
        PLAIN,
        r"train\.jsonl:1 .*: save the file as UTF-8$",
    ),
    (
        "jsonl",
        "an unused number of 5,000 digits",
        jsonl('{"query": "q", "document": "d", "x": ' + "1" * 5000 + "}"),
        PLAIN,
        QD,
    ),
    (
        "jsonl",
        "a misspelt column",
        jsonl({"query": "q", "documents": "d"}),
        PLAIN,
        r"train\.jsonl: no column 'document' .*did you mean 'documents'\?$",
    ),
    # Parquet
    (
        "parquet",
        "integers as text",
        parquet(query=[1], document=["d"]),
        PLAIN,
        r"train\.parquet: column 'query' holds int64, not text: save it as text, .*use Cluster .*$",
    ),
    (
        "parquet",
        "lists as labels",
        parquet(text=["a"], labels=[["x"]]),
        LabelText(label="labels"),
        r"train\.parquet: column 'labels' holds list<.*use Tags$",
    ),
    (
        "parquet",
        "lists of fixed length",
        parquet(text=["a", "b"], tags=pa.array([["x", "y"], None], pa.list_(pa.string(), 2))),
        Tags(),
        [("a", "x"), ("a", "y")],
    ),
    (
        "parquet",
        "large lists",
        parquet(text=["a"], tags=pa.array([["x"]], pa.large_list(pa.large_string()))),
        Tags(),
        [("a", "x")],
    ),
    (
        "parquet",
        "views of lists",
        parquet(text=["a", "b"], tags=pa.array([["x"], ["y"]], pa.list_view(pa.string()))),
        Tags(),
        [("a", "x"), ("b", "y")],
    ),
    ("parquet", "views of strings", parquet(query=pa.array(["q"], pa.string_view()), document=["d"]), PLAIN, QD),
    ("parquet", "dictionaries", parquet(query=pa.array(["q"]).dictionary_encode(), document=["d"]), PLAIN, QD),
    (
        "parquet",
        "categories in lists",
        parquet(text=["a"], tags=pa.array([["x"]], pa.list_(pa.dictionary(pa.int32(), pa.string())))),
        Tags(),
        [("a", "x")],
    ),
    (
        "parquet",
        "categories of pandas",
        lambda f: pd.DataFrame({"text": ["a"], "label": pd.Categorical(["x"])}).to_parquet(f / "train.parquet"),
        LabelText(),
        [("a", "x")],
    ),
    (
        "parquet",
        "decimals as scores",
        parquet(first=["a"], second=["b"], score=[Decimal("0.5")]),
        Scored(),
        [*AB, [0.5]],
    ),
    (
        "parquet",
        "whole decimals as ids",
        parquet(query=["q"], document=["d"], id=pa.array([Decimal(7)], pa.decimal128(9, 0))),
        IDS,
        QD,
    ),
    (
        "parquet",
        "floats as ids",
        parquet(query=["q"], document=["d"], id=[7.0]),
        IDS,
        r"column 'id' holds double, not text or integers$",
    ),
    (
        "parquet",
        "dates as text",
        parquet(query=[datetime.date(2020, 1, 1)], document=["d"]),
        PLAIN,
        r"column 'query' holds date32\[day\], not text$",
    ),
    ("parquet", "no file of this format", text("PAR1", "train.parquet"), PLAIN, r"cannot read .*train\.parquet: "),
    # Shards
    (
        "shards",
        "another order, one column more",
        all_of(
            parquet("train/0.parquet", query=["q"], document=["d"]),
            parquet("train/1.parquet", x=[1], document=["e"], query=["r"]),
        ),
        PLAIN,
        TWO,
    ),
    (
        "shards",
        "ids of two types",
        all_of(
            parquet("train/0.parquet", **{k: [v] for k, v in row(id=7).items()}),
            parquet("train/1.parquet", query=["r"], document=["e"], id=["a17"]),
        ),
        IDS,
        TWO,
    ),
    (
        "shards",
        "nulls first",
        all_of(
            parquet("train/0.parquet", query=["q"], document=["d"], neg=[None]),
            parquet("train/1.parquet", query=["r"], document=["e"], neg=[["x"]]),
        ),
        HARD,
        [*TWO, [[], ["x"]]],
    ),
    (
        "shards",
        "one lacks a column",
        all_of(parquet("train/0.parquet", query=["q"], document=["d"]), parquet("train/1.parquet", query=["r"])),
        PLAIN,
        r"train/1\.parquet: no column 'document'",
    ),
    (
        "shards",
        "of JSONL",
        all_of(jsonl(row(), name="train/0.jsonl"), jsonl(row("r", "e"), name="train/1.jsonl")),
        PLAIN,
        TWO,
    ),
    (
        "shards",
        "of CSV",
        all_of(csv("query,document", "q,d", name="train/0.csv"), csv("x,document,query", "1,e,r", name="train/1.csv")),
        PLAIN,
        TWO,
    ),
    (
        "shards",
        "two formats",
        all_of(jsonl(row(), name="train/0.jsonl"), parquet("train/1.parquet", query=["r"], document=["e"])),
        PLAIN,
        r"train has shards in several formats \(\.jsonl, \.parquet\): keep one$",
    ),
    (
        "shards",
        "what writers leave beside them",
        all_of(jsonl(row(), name="train/0.jsonl"), text("", "train/_SUCCESS"), text(b"\0", "train/._0.jsonl")),
        PLAIN,
        QD,
    ),
    (
        "shards",
        "a folder among them",
        all_of(jsonl(row(), name="train/0.jsonl"), jsonl(row(), name="train/lang=de/0.jsonl")),
        PLAIN,
        r"train has a folder 'lang=de': put all shards directly into train/$",
    ),
    (
        "shards",
        "a link to nothing among them",
        all_of(jsonl(row(), name="train/0.jsonl"), link("moved.jsonl", "train/1.jsonl")),
        PLAIN,
        r"train/1\.jsonl is a link to moved\.jsonl, which does not exist: mend or remove the link$",
    ),
    (
        "shards",
        "a packed one among them",
        all_of(jsonl(row(), name="train/0.jsonl"), text(b"", "train/1.jsonl.gz")),
        PLAIN,
        r"train/1\.jsonl\.gz cannot be read: unpack it",
    ),
    (
        "shards",
        "names that are patterns",
        all_of(jsonl(row(), name="train/p[12].jsonl"), jsonl(row("r", "e"), name="train/p1.jsonl")),
        PLAIN,
        [("r", "e"), ("q", "d")],
    ),
    (
        "shards",
        "a folder called as a file",
        jsonl(row(), name="train.parquet/0.jsonl"),
        PLAIN,
        r"no split 'train' in .*: train\.parquet is a folder, call a folder of shards train$",
    ),
    (
        "shards",
        "beside each other",
        parquet("train-00000-of-00002.parquet", query=["q"]),
        PLAIN,
        r"no split 'train' in .*; known: train-00000-of-00002$",
    ),
    # Files that are not read
    (
        "other files",
        "JSON",
        text("[]", "train.json"),
        PLAIN,
        r"train\.json cannot be read, write one object per line, as \.jsonl",
    ),
    (
        "other files",
        "tabs",
        text("", "train.tsv"),
        PLAIN,
        r"train\.tsv cannot be read, separate its columns with commas",
    ),
    ("other files", "packed", text(b"", "train.csv.gz"), PLAIN, r"train\.csv\.gz cannot be read, unpack it"),
    (
        "other files",
        "upper case",
        text("", "train.CSV"),
        PLAIN,
        r"train\.CSV cannot be read, write its ending in lower case, \.csv$",
    ),
    (
        "other files",
        "a link to nothing",
        lambda f: (f / "train.csv").symlink_to(f / "none"),
        PLAIN,
        r"train\.csv is a link to a file that does not exist$",
    ),
    # Rows in the task file, or what a method gives
    ("rows", "ids 7 and a17", [row(id=7), row("r", "e", id="a17")], IDS, TWO),
    ("rows", "scores True and 0.5", [judged(True), judged(0.5, "c")], Scored(), [*AB, ("c", "b"), [1, 0.5]]),
    ("rows", "a text and a list", [row(neg="x"), row("r", "e", neg=["y"])], HARD, [*TWO, [["x"], ["y"]]]),
    ("rows", "an unused column of two types", [row(x=1), row("r", "e", x="y")], PLAIN, TWO),
    (
        "rows",
        "a number as text",
        [row(), row(1984)],
        PLAIN,
        r"^row 2: column 'query' holds a number, not text: save it as text, .*use Cluster .*$",
    ),
    ("rows", "half of a character", [row("\ud83d")], PLAIN, r"^row 1: column 'query' has half of a character"),
    ("rows", "NumPy's values", [row(np.str_("q"), id=np.int64(7))], IDS, QD),
    ("rows", "a tuple of tags", [{"text": "a", "tags": ("x", "y")}], Tags(), [("a", "x"), ("a", "y")]),
    ("method", "ids 7 and a17", lambda: [row(id=7), row("r", "e", id="a17")], IDS, TWO),
    ("method", "a DataFrame", lambda: pd.DataFrame([row(), row("r", "e")]), PLAIN, TWO),
    ("method", "a batch", lambda: pa.RecordBatch.from_pylist([row()]), PLAIN, QD),
    (
        "method",
        "a data set that is read as it goes",
        lambda: datasets.Dataset.from_list([row()]).to_iterable_dataset(),
        PLAIN,
        QD,
    ),
    (
        "method",
        "all splits",
        lambda: datasets.DatasetDict(train=datasets.Dataset.from_list([row()])),
        PLAIN,
        r"data must return one split, not a DatasetDict of train$",
    ),
    ("method", "tuples", lambda: [("q", "d")], PLAIN, r"row 1 is of type tuple; give dicts with the same keys$"),
    # Local data-set folders
    ("data set", "years as labels", csv("text,label", "a,1984", "b,2001"), LabelText(), [("a", "1984"), ("b", "2001")]),
    ("data set", "ids 007 and 7", csv("query,document,id", "q,d,007", "r,e,7"), IDS, TWO),
    ("data set", "words for nothing are words", csv("query,document", "NA,null"), PLAIN, [("NA", "null")]),
    ("data set", "null, then a list", jsonl(*(r | {"neg": None} for r in LONG), row(neg=["bad"])), HARD, 12_001),
    ("data set", "ids 7 and a17", jsonl(row(id=7), row("r", "e", id="a17")), IDS, TWO),
    ("data set", "dates", jsonl({"text": "a", "label": "2020-01-01"}), LabelText(), [("a", "2020-01-01")]),
    (
        "data set",
        "shards that differ",
        all_of(
            parquet("data/train-00000-of-00002.parquet", query=["q"], document=["d"], id=[7]),
            parquet("data/train-00001-of-00002.parquet", id=["a17"], x=[1], query=["r"], document=["e"]),
        ),
        IDS,
        TWO,
    ),
    ("data set", "a damaged line", jsonl(row(), '{"query": '), PLAIN, r"train\.jsonl:2 as JSON: Expecting value"),
    ("data set", "one list", text(json.dumps([row(id=7), row("r", "e", id="a17")], indent=1), "train.json"), IDS, TWO),
    (
        "data set",
        "a list with a number as text",
        text(json.dumps([row(), row(1984)]), "train.json"),
        PLAIN,
        r"train\.json, object 2: column 'query' holds a number, not text: save it as text, .*use Cluster .*$",
    ),
    (
        "data set",
        "a list with an unused number of 5,000 digits",
        text('[{"query": "q", "document": "d", "x": ' + "1" * 5000 + "}]", "train.json"),
        PLAIN,
        QD,
    ),
    ("data set", "tabs", text("query\tdocument\n1984\td\n", "train.tsv"), PLAIN, [("1984", "d")]),
    (
        "data set",
        "packed",
        lambda f: (f / "train.jsonl.gz").write_bytes(gzip.compress(json.dumps(row()).encode())),
        PLAIN,
        QD,
    ),
    ("data set", "a split that is not there", jsonl(row(), name="test.jsonl"), PLAIN, r"split 'train'"),
]


def source_of(kind: str, given: Any, root: Path) -> Any:
    if kind == "rows":
        return Rows(train=given)
    if kind == "method":
        return lambda self, split, root: given()
    (root / "t").mkdir()
    given(root / "t")
    return Hub(str(root / "t"), revision=COMMIT) if kind == "data set" else Files("t")


def task_of(pairs: Pairs, data: Any) -> Task:
    given = {"__doc__": "A task.", "name": "t", "pairs": pairs, "metric": METRICS.get(pairs.kind, MRR())}
    return type("T", (Task,), {**given, "data": data, "sample": [{"a": 1}]})()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("kind", "given", "pairs", "answer"),
    [(kind, given, pairs, answer) for kind, _, given, pairs, answer in INPUTS],
    ids=[f"{kind}: {name}" for kind, name, *_ in INPUTS],
)
def test_what_is_read(
    kind: str, given: Any, pairs: Pairs, answer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setenv("MTCL_CACHE", str(tmp_path / "cache"))
    task = task_of(pairs, source_of(kind, given, tmp_path))
    if isinstance(answer, str):
        with pytest.raises(DataError, match=answer) as error:
            pairs_of(task, "train", tmp_path)
        assert "\n" not in str(error.value)
        return
    assert pairs_fingerprint(task, "train", tmp_path)
    table = pairs_of(task, "train", tmp_path)
    if isinstance(answer, int):
        assert len(table.anchors) == answer
        return
    texts = table.texts.to_pylist()
    found: list[Any] = [(texts[a], texts[p]) for a, p in zip(table.anchors, table.positives, strict=True)]
    if table.scores is not None:
        found.append(table.scores.tolist())
    if table.negatives is not None:
        found.append([[texts[text] for text in table.negatives[pair]] for pair in range(len(table.anchors))])
    assert found == answer


def test_names_in_the_table_are_distinct() -> None:
    assert len({(kind, name) for kind, name, *_ in INPUTS}) == len(INPUTS)
