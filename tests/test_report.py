"""What `mtcl fit` says at the end: a row a task, base beside now; without the base where it was not asked for.

python -m pytest tests/test_report.py
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from mtcl.console import print_table
from mtcl.training.callbacks.report import Values, comparison
from tests.conftest import ROOT, Run


@pytest.mark.parametrize("with_base", [True, False])
def test_fit_table(tmp_path: Path, tiny_model: Path, demo_root: Path, mtcl_command: Run, with_base: bool) -> None:
    done = mtcl_command(
        *(
            "fit",
            *([] if with_base else ["--no_base"]),
            "--tasks_dir",
            str(ROOT / "tasks" / "demo"),
            "--run_dir",
            "run",
        ),
        *("--tasks.interest.weight", "1", "--data.held_out", "[search]", "--data.root", str(demo_root)),
        *("--model.encoder.name", str(tiny_model), "--data.max_length", "32", "--data.num_workers", "0"),
        *("--trainer.max_steps", "2", "--trainer.enable_progress_bar", "false", "--trainer.precision", "32-true"),
    )
    assert done.returncode == 0, done.stderr
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["mtcl"]
    rows = {line.split()[1]: re.findall(r"[+-]?\d\.\d{4}", line) for line in done.stdout.splitlines() if "0." in line}
    assert set(rows) == {"interest", "search", "val/mean", "val/held_out_mean"}
    for name in ("interest", "search"):
        now = saved["history"][2][name]
        if with_base:
            base = saved["base"][name]
            assert rows[name] == [f"{base:.4f}", f"{now:.4f}", f"{now - base:+.4f}"]
        else:
            assert rows[name] == [f"{now:.4f}"]
    assert ("step 0:" in done.stderr) is with_base
    assert ("(base " in done.stderr.split("step 2 of 2: ")[1]) is with_base


def test_means_are_compared_over_the_same_tasks() -> None:
    values: Values = {
        "a": (1, "mrr", {"base": 0.2, "now": 0.3}),
        "b": (1, "mrr", {"base": None, "now": 0.9}),
    }
    groups = {"both": ["a", "b"], "one": ["a"]}
    means = {group: comparison(values, title="", groups={"mean": tasks}) for group, tasks in groups.items()}
    cells = {group: [list(column.cells)[-1] for column in table.columns[3:]] for group, table in means.items()}
    assert cells == {"both": ["", "0.6000", ""], "one": ["0.2000", "0.3000", "+0.1000"]}


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_figure_is_cut_off(
    width: int, is_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR" if is_terminal else "NO_COLOR", "1")
    columns: dict[str, float | None] = {"base": 0.25, "start": 0.375, "now": 0.5}
    names = ("jobs", "a_task_with_a_very_long_name_of_52_characters_in_all")
    values: Values = dict.fromkeys(names, ("12,345 queries", "average_precision", columns))
    print_table(comparison(values, title="", groups={"val/replay_mean": list(values)}))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "difference" in shown
    for name in (*values, "val/replay_mean"):
        (line,) = [line for line in shown.splitlines() if line.split()[1:2] == [name]]
        assert re.findall(r"[+]?\d\.\d{4}", line) == ["0.2500", "0.3750", "0.5000", "+0.1250"]
    assert "…" not in shown
    assert ("average_precision" in shown) is (width == 200 or not is_terminal)
