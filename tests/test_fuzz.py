"""Rows, files, configurations and checkpoints made at random: a right answer or one line, never a traceback.

A few examples each; `MTCL_FUZZ=2000 python -m pytest tests/test_fuzz.py` tries that many. What was found once
stays as an `@example`.
"""

from __future__ import annotations

import copy
import csv
import json
import logging
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from mtcl import MRR, AveragePrecision, DataError, Files, Labelled, LabelText, MtclError, QueryDocument, Tags, Task
from mtcl.__main__ import main
from mtcl.configuration.from_checkpoint import plain_config
from mtcl.encoder.checkpoint import SavedRun
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.task.kind import Kind
from mtcl.task.pairs import PairTable
from mtcl.task.rows import pairs_of
from tests.test_registry import write_task

EXAMPLES = int(os.environ.get("MTCL_FUZZ", "0"))


def examples(default: int) -> Any:
    """Hypothesis's settings: the folder of a test is shared by its examples, and a shrunk example says more."""
    return settings(
        max_examples=EXAMPLES or default,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        derandomize=not EXAMPLES,
    )


# Rows: three formats give the same pairs

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
CELL = st.one_of(
    st.none(),
    TEXT,
    st.sampled_from(["", " ", "NA", "null", "1984", "1.0", "true", '"', "a,b", "x\r\ny", "\ufeff", "'"]),
)
ROWS = st.lists(st.fixed_dictionaries({"query": CELL, "document": CELL, "rest": CELL}), min_size=1, max_size=8)


@pytest.fixture
def folder(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MTCL_CACHE", str(cache))
    monkeypatch.setattr("sys.argv", ["mtcl"])
    monkeypatch.setattr(logging, "raiseExceptions", False)
    monkeypatch.chdir(tmp_path)
    log = logging.getLogger("mtcl")
    before = log.handlers, log.propagate, log.level
    yield tmp_path
    log.handlers, log.propagate, log.level = before


def task_of(pairs: Any) -> Task:
    metric = AveragePrecision() if pairs.kind is Kind.BINARY else MRR()
    body = {"__doc__": "Any.", "name": "it", "owner": "o", "data": Files("it"), "pairs": pairs, "metric": metric}
    return type("It", (Task,), {**body, "sample": [{"a": 1}]})()  # type: ignore[no-any-return]


SEARCH = QueryDocument("query", "document")


def pairs_in(file: str, root: Path, pairs: Any = SEARCH) -> PairTable | str:
    """The pairs of a file's rows, or the message that refuses it."""
    for other in (root / "it").glob("train.*"):
        if other.name != file:
            other.unlink()
    try:
        return pairs_of(task_of(pairs), "train", root)
    except DataError as error:
        return one_line(error)


def texts(found: PairTable | str) -> list[tuple[str, str]] | str:
    if isinstance(found, str):
        return "refused"
    of = found.texts.to_pylist() if hasattr(found.texts, "to_pylist") else list(found.texts)
    return [(of[a], of[p]) for a, p in zip(found.anchors, found.positives, strict=True)]


@given(ROWS)
@example([{"query": "1984", "document": "true", "rest": None}])
@examples(40)
def test_three_formats_give_the_same_pairs(folder: Path, rows: list[dict[str, Any]]) -> None:
    place = folder / "it"
    place.mkdir(exist_ok=True)
    pq.write_table(
        pa.Table.from_pylist(rows, pa.schema([(name, pa.string()) for name in rows[0]])), place / "train.parquet"
    )
    of_parquet = texts(pairs_in("train.parquet", folder))
    (place / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert texts(pairs_in("train.jsonl", folder)) == of_parquet
    with (place / "train.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)  # null and "" are the same in a CSV file, and neither is a text
    assert texts(pairs_in("train.csv", folder)) == of_parquet


VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=5,
)
CONSTRUCTIONS = [QueryDocument("a", "b"), LabelText(text="a", label="b"), Tags("a", "b"), Labelled("a", "b", "c")]


@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), VALUE, min_size=1), min_size=1, max_size=6),
    st.sampled_from(CONSTRUCTIONS),
)
@examples(60)
def test_any_rows_of_json(folder: Path, rows: list[dict[str, Any]], pairs: Any) -> None:
    place = folder / "it"
    place.mkdir(exist_ok=True)
    (place / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    pairs_in("train.jsonl", folder, pairs)


def damaged(content: bytes, seed: int) -> bytes:
    """Bytes changed, cut out, doubled or cut off at random places."""
    chosen, data = random.Random(seed), bytearray(content)
    for _ in range(chosen.randint(1, 4)):
        at, many = chosen.randrange(len(data) + 1), chosen.randint(1, 9)
        match chosen.randrange(4):
            case 0:
                data[at : at + many] = chosen.randbytes(many)
            case 1:
                del data[at : at + many]
            case 2:
                data[at:at] = data[at : at + many]
            case _:
                del data[max(at, 1) :]
    return bytes(data)


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
@given(st.integers(0, 2**32))
@example(281)  # a column of Parquet whose name is not UTF-8
@example(2828)  # the same in a CSV file
@examples(25)
def test_damaged_files(folder: Path, kind: str, seed: int) -> None:
    place = folder / "it"
    place.mkdir(exist_ok=True)
    rows = [{"query": f"post {n} é", "document": f"text, {n}", "rest": n} for n in range(20)]
    path = place / f"train.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    path.write_bytes(damaged(path.read_bytes(), seed))
    pairs_in(path.name, folder)


# Configurations

ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    3,
    1e30,
    float("nan"),
    "",
    "x",
    "null",
    "1e-4",
    [],
    [1],
    {},
    {"a": 1},
    "\x1b[31m",
    "é" * 300,
    ["a", {"b": []}],
]


def changed(content: Any, chosen: random.Random) -> Any:
    """One random node of nested lists and mappings replaced, removed, renamed or doubled."""
    holders: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
            holders.append((node, key))
            if isinstance(value, dict | list):
                walk(value)

    walk(content)
    node, key = chosen.choice(holders)
    match chosen.randrange(4):
        case 0 if isinstance(node, dict):
            node[chosen.choice(["", "x", "class_path", 7, str(key) + "s"])] = node.pop(key)
        case 1:
            del node[key]
        case 2 if isinstance(node, dict):
            node[chosen.choice(["", "x", "init_args", "name"])] = copy.deepcopy(node[key])
        case _:
            node[key] = copy.deepcopy(chosen.choice(ODD))
    return content


@given(st.integers(0, 2**32))
@examples(25)
def test_changed_configurations(folder: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str], seed: int) -> None:
    write_task(folder / "tasks" / "topic.py")
    config = {
        "tasks": {"topic": {"weight": 1, "loss": {"class_path": "InfoNCE", "init_args": {"temperature": 0.1}}}},
        "model": {"encoder": {"name": str(tiny_model), "pooling": "mean"}, "optimizer": {"lr": 1e-4}, "eval_dims": [8]},
        "data": {"root": "data", "batch_size": 4, "max_length": 32, "num_workers": 0, "prompt": {"query": "q: "}},
        "trainer": {"max_steps": 1, "accelerator": "cpu", "logger": False},
    }
    chosen = random.Random(seed)
    for _ in range(chosen.randint(1, 2)):
        config = changed(config, chosen)
    (folder / "it.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    code = answer(["fit", "--config", "it.yaml", "--print_config"])
    error = capsys.readouterr().err
    assert code in (0, 2), config
    assert "Traceback" not in error
    if code:
        assert error.splitlines()[-1].startswith("mtcl: "), error


@given(st.integers(0, 2**32))
@examples(25)
def test_damaged_yaml(folder: Path, capsys: pytest.CaptureFixture[str], seed: int) -> None:
    write_task(folder / "tasks" / "topic.py")
    text = b"tasks:\n  topic: {weight: 2}\nmodel:\n  eval_dims: [8]\ndata: {root: data}\ntrainer: {max_steps: 9}\n"
    (folder / "it.yaml").write_bytes(damaged(text, seed))
    assert answer(["fit", "--config", "it.yaml", "--print_config"]) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err


def answer(arguments: list[str]) -> int:
    try:
        return main(arguments)
    except SystemExit as end:  # --print_config ends the parser
        return int(end.code or 0)


# Checkpoints


@pytest.fixture(scope="session")
def content(trained_run: Path) -> dict[str, Any]:
    """What `mtcl fit` wrote into a checkpoint."""
    return dict(torch.load(trained_run / "checkpoints" / "best.ckpt", weights_only=True))


@given(st.integers(0, 2**32))
@examples(40)
@example(272143)
@example(25944052)
def test_changed_checkpoints(folder: Path, content: dict[str, Any], seed: int) -> None:
    chosen, made = random.Random(seed), copy.deepcopy(content)
    config = yaml.safe_load(made["mtcl"]["config"])
    if chosen.random() < 0.5:
        made["mtcl"]["config"] = yaml.safe_dump(changed(config, chosen))
    else:
        made = changed(made, chosen) if chosen.random() < 0.3 else {**made, "mtcl": changed(dict(made["mtcl"]), chosen)}
    torch.save(made, folder / "it.ckpt")
    refused_or_read(folder / "it.ckpt")


@given(st.integers(0, 2**32))
@examples(25)
def test_damaged_checkpoints(folder: Path, trained_run: Path, seed: int) -> None:
    (folder / "it.ckpt").write_bytes(damaged((trained_run / "checkpoints" / "best.ckpt").read_bytes(), seed))
    refused_or_read(folder / "it.ckpt")


def refused_or_read(path: Path) -> None:
    try:
        plain_config(SavedRun.read(path))
        TextEncoder.load(path, device="cpu").encode("a text")
    except MtclError as error:
        one_line(error)


def one_line(error: MtclError) -> str:
    assert "\n" not in str(error)
    return str(error)
