"""The Python of README, embed, export, training and vectors runs as it is written; other pages have tests of their own.

python -m pytest tests/test_blocks.py
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import mtcl
from tests.conftest import ROOT, Run, command_in
from tests.pages import FENCE

Execute = Callable[..., dict[str, Any]]


def block(page: str, beginning: str) -> str:
    """The block of Python on a page that begins with this line."""
    blocks = [code for language, code in FENCE.findall((ROOT / page).read_text()) if language == "python"]
    (found,) = [code for code in blocks if code.startswith(beginning)]
    return str(found)


@pytest.fixture
def place(tmp_path: Path, trained_run: Path) -> Path:
    """A folder with a run, as the pages have it."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(trained_run)
    rows = [{"post_id": n, "text": f"post number {n} without flour"} for n in range(120)]
    (tmp_path / "posts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture
def execute(place: Path, monkeypatch: pytest.MonkeyPatch) -> Execute:
    monkeypatch.chdir(place)

    def run(code: str, **names: Any) -> dict[str, Any]:
        exec(compile(code, "page", "exec"), names)
        return names

    return run


@pytest.fixture
def run(place: Path, cache: Path) -> Run:
    return command_in(place, cache)


def test_an_encoder_is_loaded(execute: Execute) -> None:
    assert execute(block("README.md", "from mtcl import TextEncoder\n"))["vector"].shape == (16,)


def test_an_encoder_is_exported(execute: Execute, place: Path) -> None:
    execute(block("docs/export.md", "from mtcl import TextEncoder\n"))
    assert (place / "model" / "modules.json").is_file()


def test_vectors_are_read_searched_and_aligned(
    execute: Execute, run: Run, place: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = place / "new"
    shutil.copytree(tiny_model, new)
    for encoder, out in (("runs/demo", "vectors"), ("new", "sample")):
        done = run("embed", encoder, "posts.jsonl", "--id", "post_id", "--keep", "text", "--out", out)
        assert done.returncode == 0, done.stderr
    read = execute(block("docs/embed.md", "from mtcl.deploy.vectors"))
    assert len(read["folder"]) == 120
    found = execute(block("docs/vectors.md", "from mtcl import TextEncoder\n"))
    assert found["hits"].scores_NK.shape == (1, 10)
    assert "'score': " in capsys.readouterr().out
    done = run("align", "vectors", "sample", "--out", "maps/to_old", "--held_out", "0.4")
    assert done.returncode == 0, done.stderr
    names = execute(block("docs/vectors.md", "from mtcl.deploy.align"), encoder=mtcl.TextEncoder.load(new))
    vector = names["vector"]
    assert vector.shape == (16,)


def test_pairs_and_losses_are_called(execute: Execute) -> None:
    names = {name: getattr(mtcl, name) for name in mtcl.__all__}
    execute(block("docs/training.md", "QueryDocument("), **names)
    anchors, positives, first, second = torch.nn.functional.normalize(torch.randn(4, 6, 8), dim=-1)
    execute(
        block("docs/training.md", "from mtcl.losses"),
        anchors=anchors,
        positives=positives,
        labels=torch.arange(1, 7),
        negatives=torch.nn.functional.normalize(torch.randn(6, 2, 8), dim=-1),
        first=first,
        second=second,
        scores=torch.rand(6),
        teacher_anchors=anchors,
        teacher_positives=positives,
    )
