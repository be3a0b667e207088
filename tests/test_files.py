"""A file or folder is whole or absent; the data root and the cache are found in one place.

python -m pytest tests/test_files.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from mtcl.demo import write_demo
from mtcl.evaluation import Items
from mtcl.files import cache_folder, data_root, write_text, written_whole
from mtcl.mining.candidates import Limits
from mtcl.mining.embeddings import embeddings_of
from mtcl.mining.report import Report
from mtcl.mining.rows import MinedRows
from mtcl.studies.compare.report import Report as Comparison
from mtcl.studies.compare.report import Row
from mtcl.studies.compare.report import write_report as write_comparison
from mtcl.studies.statistics import Interval
from mtcl.task.pairs import Cluster
from mtcl.types import Ragged
from tests.conftest import ROOT


def test_a_file_appears_when_whole_and_replaces_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.json"
    for text in ("first", "second"):
        with written_whole(path) as aside:
            aside.write_text(text)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == text
    assert [p.name for p in path.parent.iterdir()] == ["report.json"]


def test_a_folder_appears_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with written_whole(path) as aside:
        (aside / "inner").mkdir(parents=True)
        (aside / "inner" / "a.npy").write_text("a")
    assert (path / "inner" / "a.npy").read_text() == "a"
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path, is_folder: bool) -> None:
    path = tmp_path / "kept"
    path.write_text("earlier")

    def fail() -> None:
        with written_whole(path) as aside:
            if is_folder:
                aside.mkdir()
            (aside / "half" if is_folder else aside).write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert path.read_text() == "earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


@pytest.mark.usefixtures("starts_processes")
def test_the_only_writer_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from mtcl.files import written_whole\n"
        "with written_whole(Path(sys.argv[1])) as aside:\n"
        "    aside.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path, other = tmp_path / "last[1].ckpt", tmp_path / ".last1.ckpt.7.part"
    other.write_text("of another file")
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=False)
    assert len(list(tmp_path.iterdir())) == 2
    with written_whole(path, alone=True) as aside:
        aside.write_text("whole")
    assert {p.name for p in tmp_path.iterdir()} == {path.name, other.name}


def test_text_is_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "note.md", "größer")
    assert (tmp_path / "a" / "note.md").read_bytes() == "größer".encode()


def write_items(folder: Path, value: int) -> None:
    Items(np.arange(2), np.arange(2), ("mrr",), np.full((2, 1), float(value))).write(folder / "items.parquet")


def write_mined_rows(folder: Path, value: int) -> None:
    rows = MinedRows(pa.table({"text": ["a", "b"], "cluster_id": ["1", "1"]}), Cluster(), "negatives")
    rows.write(folder / "train.parquet", iter([[[str(value)], []]]))


def write_mining_report(folder: Path, value: int) -> None:
    Report("search", "model", Limits(), num_candidates=value).write(folder)


def write_embeddings(folder: Path, value: int) -> None:
    tokens = Ragged(np.arange(3), np.arange(2))
    embeddings_of(tokens, lambda some: torch.ones(len(some), 2), folder / str(value))


def write_comparison_report(folder: Path, value: int) -> None:
    level = Interval(value / 10, value / 10, value / 10, num_seeds=1, num_units=9)
    row = Row("a", 8, 32, {"t": level}, {}, level)
    write_comparison(Comparison([row], [], [], {"t": "mrr"}, {"a": {"t": {"mrr": 0.5}}}), folder)


def write_demo_corpus(folder: Path, value: int) -> None:
    write_demo(folder, posts=200, seed=value)


WRITERS = [
    write_items,
    write_mined_rows,
    write_mining_report,
    write_embeddings,
    write_comparison_report,
    write_demo_corpus,
]


@pytest.mark.parametrize("write", WRITERS)
def test_what_cannot_be_written_whole_is_not_written(
    write: Callable[[Path, int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails when the first file is flushed: the earlier files are as they were, and there are no others."""
    write(tmp_path, 1)
    earlier = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert earlier

    def fail(path: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("mtcl.files._flush", fail)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path, 2)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == earlier


def test_folders_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MTCL_CACHE", "MTCL_DATA"):
        monkeypatch.delenv(name, raising=False)
    assert (cache_folder(), data_root()) == (tmp_path / ".cache" / "mtcl", None)
    monkeypatch.setenv("MTCL_CACHE", "~/stores")
    monkeypatch.setenv("MTCL_DATA", f"~{os.sep}rows")
    assert (cache_folder(), data_root()) == (tmp_path / "stores", tmp_path / "rows")
    assert (cache_folder("c"), data_root("d")) == (Path("c"), Path("d"))
