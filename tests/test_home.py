"""`~` in paths, and folders whose names are patterns.

python -m pytest tests/test_home.py
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtcl import MRR, Files, Hub, MtclDataModule, QueryDocument, Task
from mtcl.__main__ import main
from mtcl.commands.arguments import user_path
from mtcl.configuration import yaml_files
from mtcl.data.store import prepare
from mtcl.data.tokenizer import Tokenizer
from mtcl.task.registry import discover
from mtcl.task.roles import Role


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def put(folder: Path, tag: str, count: int) -> None:
    folder.mkdir(parents=True)
    columns: dict[str, Any] = {name: [f"{tag} {name} {n}" for n in range(count)] for name in ("query", "document")}
    pq.write_table(pa.table(columns), folder / "train.parquet")


def test_the_home_folder_in_every_kind_of_path(home: Path) -> None:
    put(home / "data" / "t", "mine", 2)
    (home / "run.yaml").write_text("data: {root: ~/data, cache: ~/cache}")
    (home / "more").mkdir()
    assert yaml_files.load(["~/run.yaml"])["data"]["root"] == "~/data"
    data = MtclDataModule(root="~/data", cache="~/cache", tasks_dir="~/more")
    assert (data.root, data.cache) == (home / "data", home / "cache")
    assert discover("~/more").entries
    source = Hub("~/data/t", revision="0" * 40)
    assert source.select("train", None, {"query": Role.TEXT})["query"].to_pylist() == ["mine query 0", "mine query 1"]
    assert source.fingerprint("train", None) == Hub(str(home / "data" / "t"), revision="0" * 40).fingerprint(
        "train", None
    )
    assert user_path("~/out") == home / "out"


def test_commands_write_to_the_home_folder(home: Path) -> None:
    assert main(["demo", "~/demo", "--posts", "300"]) == 0
    assert (home / "demo").is_dir()
    assert not list(Path().iterdir())


@pytest.mark.parametrize("name", ["run[12]", "v?", "only[x]"])
def test_rows_of_a_folder_that_is_a_pattern_are_those_of_the_store(name: str, tiny_model: Path, tmp_path: Path) -> None:
    """As in datasets issue 7468: rows of `run1` were read for `run[12]`, and stayed in the store."""
    for folder, tag, count in ((name, "mine", 2), ("run1", "other", 5), ("v1", "other", 3), ("onlyx", "other", 4)):
        put(tmp_path / folder / "t", tag, count)

    class Toy(Task):
        """A toy."""

        name = "t"
        data = Files("t")
        pairs = QueryDocument()
        metric = MRR()
        sample = [{"query": "q", "document": "d"}]

    given: dict[str, Any] = {"tokenizer": Tokenizer.load(tiny_model), "max_length": 16, "cache": tmp_path / "cache"}
    prepare(Toy(), "train", root=tmp_path / name, **given)
    shutil.copytree(tmp_path / name, tmp_path / "plain")
    texts = prepare(Toy(), "train", root=tmp_path / "plain", **given).pairs.texts.to_pylist()
    assert sorted(texts) == ["mine document 0", "mine document 1", "mine query 0", "mine query 1"]
