"""Where a run writes: names are claimed at once, nothing is left behind by what fails, files beside runs are no runs.

python -m pytest tests/test_run_folder.py
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from mtcl.commands.run import main
from mtcl.commands.run_folder import CHOSEN_RUN_DIR, check_no_data, run_folder
from mtcl.errors import ConfigError


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CHOSEN_RUN_DIR, "")
    return tmp_path


def given(**changed: object) -> Namespace:
    return Namespace(**{"run_dir": None, "init_from": None, "resume": None, "config": ["some/demo.yaml"]} | changed)


def test_two_runs_that_start_together_have_two_folders() -> None:
    found = [run_folder(given(), "fit", None) for _ in range(3)]
    assert found == [Path("runs/demo"), Path("runs/demo-2"), Path("runs/demo-3")]
    assert all(folder.is_dir() for folder in found)


def test_a_file_is_no_run_folder(working_folder: Path) -> None:
    (working_folder / "run.yaml").touch()
    with pytest.raises(ConfigError, match=r"^--run_dir run\.yaml is a file: name the folder of a run"):
        run_folder(given(run_dir="run.yaml"), "fit", None)


def test_what_fails_leaves_no_folder(working_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        main("fit", ["--config", "nowhere.yaml"])
    assert list(working_folder.iterdir()) == []


def test_a_checkpoint_beside_runs_has_a_folder_of_its_own() -> None:
    in_run, alone = Path("runs/a/checkpoints/best.ckpt"), Path("merged/half.ckpt")
    assert run_folder(given(config=[]), "test", in_run) == Path("runs/a")
    assert run_folder(given(config=[]), "test", alone) == Path("merged/half")


@pytest.mark.parametrize(
    "run_dir", ["data", "data/../data", "data/search", "data/search/run", "data/search/train", "own"]
)
def test_a_run_is_not_written_into_data(run_dir: str, working_folder: Path) -> None:
    """The data root, a task's folder and what is below it; and a folder with rows that is in no data root."""
    (working_folder / "data" / "search" / "train").mkdir(parents=True)
    (working_folder / "data" / "search" / "train" / "0.parquet").touch()
    (working_folder / "own").mkdir()
    (working_folder / "own" / "test.jsonl").touch()
    with pytest.raises(ConfigError, match=f"^--run_dir {run_dir} is .*: give the run a folder of its own$"):
        check_no_data(Path(run_dir), Path("data"))
    for free in ("runs/a", "data/runs", "data2", "."):
        check_no_data(Path(free), Path("data"))
    check_no_data(Path("runs/a"), Path())
    check_no_data(Path("runs/a"), None)


def test_a_run_in_its_data_root_is_refused(demo_root: Path, tiny_model: Path) -> None:
    before = sorted(demo_root.rglob("*"))
    given = ["--data.root", str(demo_root), "--tasks.search", "{}", "--model.encoder.name", str(tiny_model)]
    with pytest.raises(ConfigError, match="is the data root"):
        main("fit", [*given, "--trainer.max_steps", "1", "--run_dir", str(demo_root)])
    assert sorted(demo_root.rglob("*")) == before
