"""The built wheel carries the reference tasks and configurations and works in an empty folder.

python -m pytest tests/test_wheel.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.usefixtures("starts_processes")


def test_tasks_and_configurations_of_the_wheel(tmp_path: Path) -> None:
    hatchling = pytest.importorskip("hatchling.build", reason="needs the extra `dev`")
    source = tmp_path / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    here = Path.cwd()
    os.chdir(source)
    try:
        wheel = source / hatchling.build_wheel(str(source))
    finally:
        os.chdir(here)
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    assert (tmp_path / "installed" / "mtcl" / "py.typed").exists()
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    code = """
import mtcl, sys
from mtcl.__main__ import main
from mtcl.configuration.yaml_files import load
print(mtcl.__file__, list(load(['configs/demo.yaml'])['tasks']), flush=True)
sys.exit(main(['tasks', 'list']) or print() or main(['configs']))
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=empty, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert str(tmp_path / "installed") in first
    assert "'storyline', 'search'" in first, "the keys of configs/demo.yaml"
    parts = rest[: rest.index("")], rest[rest.index("") + 1 :]
    tasks, configurations = ({line.split()[0] for line in part if not line.startswith(" ")} for part in parts)
    assert tasks == {p.stem for p in (ROOT / "tasks").rglob("*.py")}
    assert configurations == {p.stem for p in (ROOT / "configs").glob("*.yaml")}
