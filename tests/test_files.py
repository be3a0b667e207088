"""A file or folder is whole or absent; the data root and the cache are found in one place.

python -m pytest tests/test_files.py
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from mtcl import ConfigError, DataError
from mtcl.__main__ import main
from mtcl.arrays import Ragged
from mtcl.commands.run import write_vectors
from mtcl.commands.tasks import new
from mtcl.demo import write_demo
from mtcl.evaluation import Items
from mtcl.files import cache_folder, data_root, remember_root, write_text, written_whole
from mtcl.mining.candidates import Limits
from mtcl.mining.embeddings import embeddings_of
from mtcl.mining.report import MiningReport
from mtcl.mining.rows import MinedRows
from mtcl.studies.compare.report import ComparisonReport, Row
from mtcl.studies.compare.report import write_report as write_comparison
from mtcl.studies.statistics import Interval
from mtcl.task.pairs import Cluster
from mtcl.training.board.points import Point
from mtcl.training.board.projector import Projector
from mtcl.training.board.start import write_start
from mtcl.training.board.watched import Before
from mtcl.training.callbacks.save_config import SaveConfig
from mtcl.training.checkpoint_file import write_whole
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


@pytest.mark.usefixtures("starts_processes")
def test_what_killed_processes_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    """By any process that writes to the folder, but not what a process that lives is writing, or another machine."""
    write = "from pathlib import Path; from mtcl.files import written_whole; import os, signal, sys\n"
    kill = f"{write}with written_whole(Path('a.txt')) as aside: aside.mkdir(); os.kill(os.getpid(), signal.SIGKILL)"
    other = f"{write}with written_whole(Path('b.txt')) as aside: aside.write_text('b')"
    elsewhere = [tmp_path / f".{name}.txt.0123abcd-7.part" for name in ("new", "old")]
    for path in elsewhere:
        path.write_text("half")
    os.utime(elsewhere[1], (0, 0))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", kill], cwd=tmp_path, env=environment, check=False)
    with written_whole(tmp_path / "c.txt") as alive:
        alive.write_text("c")
        left = set(tmp_path.iterdir()) - {alive, *elsewhere}
        assert [path.name.startswith(".a.txt.") for path in left] == [False] * len(left), "removed when c was begun"
        subprocess.run([sys.executable, "-c", kill], cwd=tmp_path, env=environment, check=False)
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".a.txt.")]
        subprocess.run([sys.executable, "-c", other], cwd=tmp_path, env=environment, check=True)
        assert set(tmp_path.iterdir()) == {alive, tmp_path / "b.txt", elsewhere[0]}
    assert (tmp_path / "c.txt").read_text() == "c"


def raise_as_numpy() -> None:
    raise OSError("4096 requested and 0 written")


def raise_as_torch() -> None:
    raise RuntimeError("[enforce fail] unexpected pos 64 vs 0: No space left on device")


def raise_as_arrow() -> None:
    raise OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28] No space left on device")


@pytest.mark.parametrize("fail", [raise_as_numpy, raise_as_torch, raise_as_arrow])
def test_a_full_disk_names_the_path(
    fail: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Libraries hide the system's error, and none names the file that is to be made."""
    path = tmp_path / "demo" / "interest" / "train.parquet"

    def write(*arguments: object, **options: object) -> None:
        with written_whole(path) as aside:
            aside.write_text("half")
            fail()

    monkeypatch.setattr("mtcl.files.shutil.disk_usage", lambda folder: SimpleNamespace(free=0))
    monkeypatch.setattr("mtcl.demo.write_demo", write)
    assert main(["demo", str(tmp_path / "demo")]) == 2
    assert capsys.readouterr().err.splitlines() == [f"mtcl: No space left on device: {path}"]
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("code", [errno.EFBIG, errno.EROFS, errno.EIO])
def test_a_write_that_is_refused_names_the_path(code: int, tmp_path: Path) -> None:
    """As safetensors tells it, which has an error of its own."""
    with pytest.raises(OSError, match=os.strerror(code)) as caught, written_whole(tmp_path / "model"):
        raise RuntimeError(f"Error while serializing: I/O error: {os.strerror(code)} (os error {code})")
    assert (caught.value.errno, caught.value.filename) == (code, str(tmp_path / "model"))
    with pytest.raises(RuntimeError, match="another"), written_whole(tmp_path / "model"):
        raise RuntimeError("another")


def test_a_long_name_has_room_for_the_part(tmp_path: Path) -> None:
    """A name of 255 bytes is the longest that file systems take; one more is an error of the system, with its path."""
    for name in ("n" * 255, "ü" * 127):
        write_text(tmp_path / name, "whole")
        assert (tmp_path / name).read_text() == "whole"
    with pytest.raises(OSError, match="File name too long") as caught:
        write_text(tmp_path / ("n" * 256), "")
    assert caught.value.filename == str(tmp_path / ("n" * 256))


def test_text_is_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "note.md", "größer")
    assert (tmp_path / "a" / "note.md").read_bytes() == "größer".encode()


def write_items(folder: Path, value: int) -> None:
    Items(np.arange(2), np.arange(2), ("mrr",), np.full((2, 1), float(value))).write(folder / "items.parquet")


def write_mined_rows(folder: Path, value: int) -> None:
    rows = MinedRows(pa.table({"text": ["a", "b"], "cluster_id": ["1", "1"]}), Cluster(), "negatives")
    rows.write(folder / "train.parquet", iter([[[str(value)], []]]))


def write_mining_report(folder: Path, value: int) -> None:
    MiningReport("search", "model", Limits(), num_candidates=value).write(folder)


def write_embeddings(folder: Path, value: int) -> None:
    tokens = Ragged(np.arange(3), np.arange(2))
    embeddings_of(tokens, lambda some: torch.ones(len(some), 2), folder / str(value))


def write_comparison_report(folder: Path, value: int) -> None:
    level = Interval(value / 10, value / 10, value / 10, num_seeds=1, num_units=9)
    row = Row("a", 8, 32, {"t": level}, {}, level)
    write_comparison(ComparisonReport([row], [], [], {"t": "mrr"}, {"a": {"t": {"mrr": 0.5}}}), folder)


def write_demo_corpus(folder: Path, value: int) -> None:
    write_demo(folder, posts=200, seed=value)


def write_predictions(folder: Path, value: int) -> None:
    write_vectors(folder / "search.parquet", pa.array(["a", "b"]), torch.full((2, 3), float(value)))


def write_configuration(folder: Path, value: int) -> None:
    module: Any = SimpleNamespace(data=SimpleNamespace(root=None))
    trainer: Any = SimpleNamespace(is_global_zero=True)
    SaveConfig(folder, f"seed_everything: {value}\n").on_train_start(trainer, module)


def write_task_file(folder: Path, value: int) -> None:
    with contextlib.chdir(folder):
        new(f"task_{value}")


def write_checkpoint(folder: Path, value: int) -> None:
    write_whole({"value": value}, folder / "merged.ckpt", advice="give another --out")


def write_start_of_the_board(folder: Path, value: int) -> None:
    items = Items(np.arange(2), np.arange(2), ("mrr",), np.full((2, 1), float(value)))
    pool: Any = SimpleNamespace(name="search", store=SimpleNamespace(folder=folder / "store"))
    write_start(folder, [pool], {"search": Before(items, {})})


def write_projector(folder: Path, value: int) -> None:
    points = [Point(*(str(value) for _ in fields(Point)))]
    Projector(folder).write("before", torch.full((1, 2), float(value)), points)


def write_known_roots(folder: Path, value: int) -> None:
    remember_root(folder / str(value), cache=folder)


WRITERS = [
    write_predictions,
    write_configuration,
    write_task_file,
    write_checkpoint,
    write_start_of_the_board,
    write_projector,
    write_known_roots,
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
    with pytest.raises((OSError, DataError), match="disk full"):
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
    (tmp_path / "stores").write_text("")
    with pytest.raises(ConfigError, match=r"stores is a file: name a folder, as data\.cache or in MTCL_CACHE"):
        cache_folder()
