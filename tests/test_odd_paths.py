"""Paths that Python itself refuses: one line with the path, and nothing is written.

python -m pytest tests/test_odd_paths.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mtcl.errors import path_fault
from mtcl.files import written_whole
from tests.conftest import Run


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("dog\n")
    return path


def told(command: Run, *arguments: str | Path) -> str:
    """The only line of a command that is refused."""
    done = command(*map(str, arguments))
    assert done.returncode == 2, done.stderr
    *_, line = done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    return line


@pytest.mark.parametrize("out", ["~nobody-of-this-name/x", "loop", "loop/x"])
def test_where_to_write(
    out: str, texts: Path, trained_run: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run
) -> None:
    (tmp_path / "other").symlink_to("loop")
    (tmp_path / "loop").symlink_to("other")
    embed = told(mtcl_command, "embed", trained_run, texts, "--out", out)
    others = [
        told(mtcl_command, "demo", out, "--posts", "200"),
        told(mtcl_command, "merge", trained_run, "base", "--out", out),
        told(mtcl_command, "export", trained_run, out),
        told(mtcl_command, "mine", "search", "--ckpt", trained_run, "--data.root", demo_root, "--out", out),
        told(mtcl_command, "test", "--ckpt", trained_run, "--run_dir", out),
    ]
    for line in (embed, *others):
        if out.startswith("~"):
            assert line == f"mtcl: there is no home folder for {out}: give the whole path"
        else:
            assert "loop" in line, line
            assert any(
                words in line for words in ("ymbolic links", "Symlink loop", "File exists", "Not a directory")
            ), line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loop", "other", "texts.txt"]


def test_a_home_folder_that_is_not_there() -> None:
    error = RuntimeError("Could not determine home directory.")
    assert path_fault(error, ["embed", "--out=~x/y"]) == "there is no home folder for --out=~x/y: give the whole path"
    assert path_fault(error, ["fit"]) == "there is no home folder for ~: set HOME, or MTCL_CACHE and whole paths"
    assert path_fault(RuntimeError("another"), ["~"]) is None


def test_a_name_that_is_not_utf_8(tmp_path: Path, trained_run: Path, mtcl_command: Run) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    Path(os.fsdecode(bytes(folder) + b"/gr\xfcn.jsonl")).write_text('{"text": "dog"}\n')
    line = told(mtcl_command, "embed", trained_run, "in", "--out", "out", "--tokenize", "here")
    assert r"gr\udcfcn" in line
    assert line.endswith("is not UTF-8: rename the file")
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_another_encoding_error_is_not_hidden() -> None:
    with pytest.raises(UnicodeEncodeError) as error:
        "ü".encode("ascii")
    assert path_fault(error.value, []) is None


def test_a_disk_that_is_read_only_is_told_with_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a disk refuses even to remove the temporary copy that was never made."""

    def refuse(path: Path, **_: object) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OSError, match="Read-only") as error, written_whole(tmp_path / "model") as aside:
        aside.mkdir()
    assert error.value.filename in (str(tmp_path / "model"), str(tmp_path))
