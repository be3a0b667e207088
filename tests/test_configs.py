"""The configurations that come with mtcl: found in every folder, listed, printed, and each accepted.

python -m pytest tests/test_configs.py
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mtcl.configuration.yaml_files import found, load, read, reference_folder
from mtcl.errors import ConfigError
from tests.conftest import ROOT, Run

NAMES = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))


def test_they_are_found_where_there_is_no_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(["configs/demo.yaml"]) == load([str(ROOT / "configs" / "demo.yaml")])
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "demo.yaml").write_text("tasks: {mine: {}}")
    assert load(["configs/demo.yaml"]) == {"tasks": {"mine": {}}}, "a file of the user's own wins"
    assert found(Path("other/demo.yaml")) == Path("other/demo.yaml")
    assert found(Path("demo.yaml")) == Path("demo.yaml")


def test_a_misspelt_name_gets_the_nearest_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"'configs/demmo.yaml'; did you mean 'configs/demo.yaml'"):
        load(["configs/demmo.yaml"])


def test_they_are_listed_and_printed(mtcl_command: Run) -> None:
    listed = mtcl_command("configs").stdout.splitlines()
    assert [line.split()[0] for line in listed] == NAMES
    assert all(len(line.split()) > 3 for line in listed), "each says what it is for"
    assert max(map(len, listed)) <= 100
    for name in ("demo", "configs/demo.yaml"):
        assert mtcl_command("configs", name).stdout == (ROOT / "configs" / "demo.yaml").read_text()
    refused = mtcl_command("configs", "demmo")
    assert (refused.returncode, "did you mean 'demo'" in refused.stderr) == (2, True)


@pytest.mark.parametrize("name", NAMES)
def test_each_has_keys_that_exist(name: str) -> None:
    """Those of a run, of a study or of a comparison."""
    from mtcl.configuration.checks import check
    from mtcl.configuration.run_keys import run_keys
    from mtcl.studies.compare import CompareConfig
    from mtcl.studies.transfer import StudyConfig

    content = read([str(reference_folder() / f"{name}.yaml")])
    if "arms" in content:
        check(StudyConfig(**content).overrides, run_keys())
    elif "encoders" in content:
        assert content.keys() <= CompareConfig.__dataclass_fields__.keys()
    else:
        check(content, run_keys())
