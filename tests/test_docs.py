"""What docs/training.md says is so: its names exist, its tables are complete. Every page's configurations are parsed.

python -m pytest tests/test_docs.py
"""

from __future__ import annotations

import ast
import dataclasses
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import mtcl
import mtcl.losses
from mtcl.data.mixture import Cycle
from mtcl.task.pairs import Pairs
from mtcl.weighting import Weighting
from tests.conftest import ROOT, Run
from tests.pages import PAGES, blocks

PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
LOSSES = (ROOT / "docs" / "reference" / "losses.md").read_text(encoding="utf-8")
SITE = [page for page in PAGES if page.is_relative_to(ROOT / "docs")]
BLOCKS = [block for page in SITE for block in blocks(page, "yaml") if re.search(r"^tasks: *(\{|$)", block, flags=re.M)]
"""The configurations of runs; those of comparisons have a list of tasks."""


def first_column(title: str, page: str = PAGE) -> set[str]:
    """Names in the first column of the table under a heading."""
    section = page.split(f"## {title}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)`", section, flags=re.M))


def test_all_pairs_are_in_the_table() -> None:
    assert first_column("Kinds of pairs") == {
        name
        for name in mtcl.__all__
        if isinstance(v := getattr(mtcl, name), type) and issubclass(v, Pairs) and v is not Pairs
    }


def test_all_losses_are_in_the_table() -> None:
    base = mtcl.losses.Loss
    assert first_column("Losses at a glance", LOSSES) == {
        name
        for name in mtcl.losses.__all__
        if isinstance(v := getattr(mtcl.losses, name), type) and issubclass(v, base) and v is not base
    }


def test_columns_of_pairs_are_those_of_the_classes() -> None:
    (block,) = re.findall(r"```python\n(QueryDocument.*?)```", PAGE, flags=re.S)
    calls = [statement.value for statement in ast.parse(block).body if isinstance(statement, ast.Expr)]
    shown = {ast.unparse(c.func): [(k.arg, ast.literal_eval(k.value)) for k in c.keywords] for c in calls}  # type: ignore[attr-defined]
    for name, given in shown.items():
        assert given == [(field.name, field.default) for field in dataclasses.fields(getattr(mtcl, name))]
    assert set(shown) == first_column("Kinds of pairs")


def test_kinds_in_the_table_are_those_of_the_classes() -> None:
    for name in first_column("Kinds of pairs"):
        (kind,) = re.findall(rf"^\| `{name}` \|[^|]*\| (\w+) \|", PAGE, flags=re.M)
        assert getattr(mtcl, name).kind == kind


@pytest.mark.parametrize("block", BLOCKS)
def test_configurations_are_parsed(block: str, mtcl_command: Run, tmp_path: Path, tiny_model: Path) -> None:
    """With tasks of those names; training is not reached, for there is no data."""
    if "GradientWeighting" in block:
        pytest.importorskip("torchjd", reason="needs the extra `weighting`")
    kinds = {"translation": ("Parallel()", "BitextAccuracy()"), "hashtags": ("Tags()", "MRR()")}
    for name in yaml.safe_load(block)["tasks"]:
        pairs, metric = kinds.get(name, ("QueryDocument()", "MRR()"))
        (tmp_path / "tasks").mkdir(exist_ok=True)
        (tmp_path / "tasks" / f"{name}.py").write_text(
            f'from mtcl import *\n\nclass T(Task):\n    """T."""\n    name = "{name}"\n    data = Files("{name}")\n'
            f"    pairs = {pairs}\n    metric = {metric}\n    sample = [{{}}]\n"
        )
    (tmp_path / "run.yaml").write_text(block)
    done = mtcl_command(
        *("fit", "--config", "run.yaml", "--model.encoder.name", str(tiny_model), "--trainer.max_steps", "2000"),
        *("--model.encoder.dim", "32", "--data.root", str(tmp_path)),
    )
    message = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2
    if "Matryoshka" in block:
        assert "Matryoshka dims are [128, 50]: give less than the embedding's 32" in message
    elif "replay:" in block:
        assert "data.replay is 0.05, but there is no task to replay" in message, "it needs --init_from"
    else:
        assert "DataError" in message, message


def test_weightings_are_named() -> None:
    import mtcl.weighting

    for name in mtcl.weighting.__all__:
        value = getattr(mtcl.weighting, name)
        if isinstance(value, type) and issubclass(value, Weighting) and name not in ("Weighting", "Mean"):
            assert f"`{name}`" in PAGE


def test_a_paused_task_has_no_slot() -> None:
    """As the page says of weight 0."""
    assert Cycle((0.0, 1.0)).per_cycle.tolist()[0] == 0


def test_the_readme_adds_a_task(mtcl_command: Run, demo_root: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Its task file, its configuration and its commands, in the order in which a reader comes to them."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8").split("## Add a task")[1].split("\n## ")[0]
    (file,) = re.findall(r"```python\n(.*?)```", readme, flags=re.S)
    (run,) = re.findall(r"```yaml\n(.*?)```", readme, flags=re.S)
    commands = [
        line.removeprefix("mtcl ").split()
        for block in re.findall(r"```bash\n(.*?)```", readme, flags=re.S)
        for line in block.strip().splitlines()
    ]
    assert [command[0] for command in commands] == ["tasks", "tasks", "fit"]
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    shutil.copytree(demo_root, tmp_path / "data" / "demo")
    (tmp_path / "data" / "demo" / "careers").mkdir()
    rows = [{"query": f"dog {n}", "positive": f"cat {n % 9}", "doc_id": str(n % 9)} for n in range(80)]
    for split in ("train", "validation", "test"):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / "demo" / "careers" / f"{split}.parquet")
    (tmp_path / "my_run.yaml").write_text(run)
    new, check, fit = commands
    assert mtcl_command(*new).returncode == 0
    (tmp_path / "tasks" / "careers.py").write_text(file)
    checked = mtcl_command(*check)
    assert checked.returncode == 0, checked.stderr
    small = {"model.encoder.name": tiny_model, "trainer.max_steps": 2, "trainer.val_check_interval": 2}
    small["model.optimizer.warmup_steps"] = 0
    done = mtcl_command(*fit, *(word for key, value in small.items() for word in (f"--{key}", str(value))))
    assert done.returncode == 0, done.stderr
    assert "careers" in done.stdout
    assert "translation" not in done.stdout
