"""A file or folder is whole or absent; the data root and the cache are found in one place.

python -m pytest tests/test_files.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mtcl.files import cache_folder, data_root, written_whole
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


def test_folders_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MTCL_CACHE", "MTCL_DATA"):
        monkeypatch.delenv(name, raising=False)
    assert (cache_folder(), data_root()) == (tmp_path / ".cache" / "mtcl", None)
    monkeypatch.setenv("MTCL_CACHE", "~/stores")
    monkeypatch.setenv("MTCL_DATA", f"~{os.sep}rows")
    assert (cache_folder(), data_root()) == (tmp_path / "stores", tmp_path / "rows")
    assert (cache_folder("c"), data_root("d")) == (Path("c"), Path("d"))
