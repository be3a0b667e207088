"""The Python of the how-to pages and of the README's quickstart runs as written, with a tiny encoder and few steps.

python -m pytest tests/test_howto.py
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.pages import blocks


@pytest.fixture
def folder(demo_root: Path, trained_run: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the demo's data and a finished run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MTCL_CACHE", str(cache))
    for name, target in {"data/demo": demo_root, "runs/demo": trained_run}.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).symlink_to(target)
    return tmp_path


def run(text: str, changes: dict[str, str]) -> dict[str, Any]:
    """Run code of a page after replacements, each of which must apply."""
    for old, new in changes.items():
        assert old in text, f"the page has no {old!r} any more"
        text = text.replace(old, new)
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(text, "page", "exec"), names)
    return names


def test_the_quickstart_from_python(folder: Path, tiny_model: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8").split("## Quickstart")[1].split("\n## ")[0]
    embed, train = re.findall(r"```python\n(.*?)```", readme, flags=re.S)
    assert run(embed, {})["vector"].shape == (16,)
    steps = 'max_steps=2, accelerator="cpu", enable_progress_bar=False'
    changes = {'{"dim": 50}': f'{{"dim": 16, "name": {str(tiny_model)!r}}}', "max_steps=60": steps}
    run(train, changes)
    assert list(folder.glob("lightning_logs/*/checkpoints/*.ckpt"))


@pytest.mark.nightly
def test_tuning(folder: Path, tiny_model: Path) -> None:
    pytest.importorskip("optuna", reason="needs the extra `tune`")
    (text,) = blocks(ROOT / "docs" / "howto" / "tune.md", "python")
    changes = {
        "MtclModule(": f'MtclModule(encoder={{"name": {str(tiny_model)!r}}}, ',
        "max_steps=30": 'max_steps=2, accelerator="cpu"',
        "n_trials=8": "n_trials=2",
    }
    study = run(text, changes)["study"]
    assert len(study.trials) == 2
    assert 0 < study.best_value < 1
    assert study.best_params.keys() == {"interest", "lr"}


@pytest.mark.nightly
def test_both_sides_of_the_migration(folder: Path, tiny_model: Path) -> None:
    """On the files of the tutorial, cut to some rows."""
    pytest.importorskip("sentence_transformers", reason="needs the extra `bench`")
    pytest.importorskip("accelerate", reason="needs the extra `bench`")
    tutorial = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    (task,) = re.findall(r"`tasks/job_titles.py`:\n\n```python\n(.*?)```", tutorial, flags=re.S)
    (folder / "tasks").mkdir()
    (folder / "tasks" / "job_titles.py").write_text(task)
    rows = (ROOT / "docs" / "job_titles.csv").read_text(encoding="utf-8").splitlines(keepends=True)[:200]
    (folder / "data" / "job_titles").mkdir()
    for split in ("train", "validation", "test", "corpus"):
        (folder / "data" / "job_titles" / f"{split}.csv").write_text(
            "".join(rows[:1] + rows[1 :: 2 if split == "train" else 5])
        )
    theirs, ours = blocks(ROOT / "docs" / "howto" / "sentence_transformers.md", "python")
    name = '"sentence-transformers/all-MiniLM-L6-v2"'
    run(
        theirs,
        {name: repr(str(tiny_model)), "max_steps=60": "max_steps=2, use_cpu=True", "warmup_steps=5": "warmup_steps=1"},
    )
    changes = {
        name: repr(str(tiny_model)),
        "max_steps=60": 'max_steps=2, accelerator="cpu"',
        '"warmup_steps": 5': '"warmup_steps": 1',
    }
    assert run(ours, changes)["module"].run.history


@pytest.mark.nightly
@pytest.mark.usefixtures("starts_processes")
def test_ray_train(folder: Path, tiny_model: Path, demo_root: Path) -> None:
    """Two workers on CPUs."""
    pytest.importorskip("ray.train.lightning", reason="needs the extra `ray`")
    (text,) = blocks(ROOT / "docs" / "howto" / "many_gpus.md", "python")
    changes = {
        'encoder={"dim": 50}': f'encoder={{"dim": 16, "name": {str(tiny_model)!r}}}',
        "/shared/data/demo": str(demo_root),
        "/shared/ray": str(folder / "ray"),
        '"steps": 60': '"steps": 4',
        "num_workers=4, use_gpu=True": "num_workers=2, use_gpu=False",
    }
    result = run(text, changes)["result"]
    assert result.error is None
    assert result.metrics["train/loss"] > 0
