"""A new task is one file: written, filled in, checked and trained beside another, with no other file touched.

python -m pytest tests/test_new_task.py
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import mtcl
from mtcl.commands.task_new import TEMPLATES
from mtcl.task.pairs import Pairs
from tests.conftest import ROOT, Run

LABELS = ("dog", "cat", "bird", "fish")
CHANGES = [
    ("One line: what goes in and what it should be near to.", "Animals by their letters, for a test."),
    ("NDCG, Files, QueryDocument, Task", "MRR, Files, LabelText, Task"),
    (
        "What the task teaches (a query -> the document that answers it), and where its data comes from.",
        "A line of letters -> the animal it stands for.",
    ),
    ('QueryDocument(query="query", document="document")', 'LabelText(text="line", label="animal")'),
    ("NDCG(k=10)", "MRR()"),
    (
        '{"query": "first query", "document": "a document that answers the first query"}',
        '{"line": "a b", "animal": "dog"}',
    ),
    (
        '{"query": "second query", "document": "a document that answers the second query"}',
        '{"line": "c d", "animal": "cat"}',
    ),
]


def fill_in(path: Path) -> None:
    """What an author does to the template; each place must be there."""
    text = path.read_text(encoding="utf-8")
    for before, after in CHANGES:
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    path.write_text(text, encoding="utf-8")


def write_rows(root: Path) -> None:
    (root / "animals").mkdir(parents=True)
    for number, split in enumerate(("train", "validation", "test")):
        lines = [f"{a} {b} {number}" for a in "abcdef" for b in "uvwxyz"]
        rows = [{"line": line, "animal": LABELS[n % len(LABELS)]} for n, line in enumerate(lines)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (root / "animals" / f"{split}.jsonl").write_text(text, encoding="utf-8")


def test_from_template_to_co_training(mtcl_command: Run, tmp_path: Path, tiny_model: Path, demo_root: Path) -> None:
    root = tmp_path / "data"
    write_rows(root)
    (root / "search").symlink_to(demo_root / "search")

    written = mtcl_command("tasks", "new", "animals")
    path = tmp_path / "tasks" / "animals.py"
    assert written.returncode == 0, written.stderr
    assert "mtcl tasks check animals" in written.stdout
    fill_in(path)
    assert len(path.read_text().splitlines()) < 30

    checked = mtcl_command("tasks", "check", "animals", "--data.root", str(root))
    assert checked.returncode == 0, checked.stderr
    assert "sample: 2 pairs" in checked.stdout
    shown = " ".join(checked.stdout.replace("│", " ").split())
    assert "pairs 36 36 36" in shown
    assert "distinct texts 40 40 40" in shown
    assert "texts to find 4 4 4" in shown
    assert "'a u 0' -> 'dog'" in shown

    options = {
        "tasks.animals.weight": 1,
        "tasks.search.weight": 1,
        "model.encoder.name": tiny_model,
        "data.root": root,
        "data.batch_size": 8,
        "data.max_length": 32,
        "trainer.max_steps": 4,
        "trainer.accelerator": "cpu",
        "trainer.precision": "32-true",
    }
    trained = mtcl_command("fit", *(word for key, value in options.items() for word in (f"--{key}", str(value))))
    assert trained.returncode == 0, trained.stderr
    assert "animals/train: 36 pairs, 40 texts\n" in trained.stderr
    assert "step 4 of 4: val/mean " in trained.stderr
    rows = [line.split() for line in trained.stdout.splitlines()]
    for task, metric in (("animals", "mrr"), ("search", "ndcg@10")):
        assert any(task in row and metric in row for row in rows), trained.stdout
    assert (tmp_path / "runs" / "run" / "checkpoints" / "best.ckpt").is_file()
    assert [p.name for p in (tmp_path / "tasks").iterdir() if p.is_file()] == ["animals.py"]


def test_the_template_itself_is_a_right_task(mtcl_command: Run, tmp_path: Path) -> None:
    assert mtcl_command("tasks", "new", "two_words").returncode == 0
    assert "class TwoWords(Task):" in (tmp_path / "tasks" / "two_words.py").read_text()
    shown = mtcl_command("tasks", "show", "two_words")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("two_words (version 1)\n")
    checked = mtcl_command("tasks", "check", "two_words")
    assert checked.stdout == "sample: 2 pairs, 4 distinct texts, 2 candidates\n"
    assert (checked.returncode, "no data root" in checked.stderr) == (2, True)


@pytest.mark.parametrize("name", ["none", "true", "class", "task", "files"])
def test_a_word_of_python_is_a_name(name: str, mtcl_command: Run) -> None:
    assert mtcl_command("tasks", "new", name).returncode == 0
    shown = mtcl_command("tasks", "show", name)
    assert shown.returncode == 0, shown.stderr


def test_every_kind_of_pairs_has_a_template() -> None:
    classes = [getattr(mtcl, name) for name in mtcl.__all__]
    assert set(TEMPLATES) == {
        one.__name__ for one in classes if isinstance(one, type) and issubclass(one, Pairs) and one is not Pairs
    }


def test_every_template_runs(mtcl_command: Run, tmp_path: Path, tiny_model: Path) -> None:
    """Written with rows, each passes the check, and all train together."""
    names = {kind: f"of_{kind.lower()}" for kind in TEMPLATES}
    for kind, name in names.items():
        written = mtcl_command("tasks", "new", name, "--kind", kind, "--data.root", "rows")
        assert written.returncode == 0, written.stderr
        command = written.stdout.strip().rpartition("run: mtcl ")[2].split()
        assert command == ["tasks", "check", name, "--data.root", "rows"]
        checked = mtcl_command(*command)
        assert checked.returncode == 0, checked.stderr
        assert f"task {name!r} is ready" in checked.stdout
    options = {"model.encoder.name": tiny_model, "data.root": "rows", "data.batch_size": 8, "trainer.max_steps": 1}
    given = [f"--tasks.{name}.weight=1" for name in names.values()] + [f"--{k}={v}" for k, v in options.items()]
    done = mtcl_command("fit", *given)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in names.values())


def test_templates_are_formatted(mtcl_command: Run, tmp_path: Path) -> None:
    for kind in TEMPLATES:
        assert mtcl_command("tasks", "new", f"of_{kind.lower()}", "--kind", kind).returncode == 0
    files = sorted(tmp_path.glob("tasks/*.py"))
    assert len(files) == len(TEMPLATES)
    for command in (["check", "--config", str(ROOT / "pyproject.toml")], ["format", "--check", "--line-length", "120"]):
        done = subprocess.run(
            [str(Path(sys.executable).with_name("ruff")), *command, *files], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


def test_another_folder_and_rows_that_are_there(mtcl_command: Run, tmp_path: Path) -> None:
    (tmp_path / "rows" / "own").mkdir(parents=True)
    done = mtcl_command("tasks", "new", "own", "--tasks_dir", "more/tasks", "--data.root", "rows")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "more" / "tasks" / "own.py").is_file()
    assert list((tmp_path / "rows" / "own").iterdir()) == [], "rows of a team are left alone"
    assert done.stdout.endswith("mtcl tasks check own --tasks_dir more/tasks --data.root rows\n")
    again = mtcl_command("tasks", "new", "own", "--tasks_dir", "more/tasks")
    assert (again.returncode, "more/tasks/own.py exists" in again.stderr) == (2, True)
    unknown = mtcl_command("tasks", "new", "other", "--kind", "Triplet")
    assert unknown.returncode == 2
    assert "QueryDocument" in unknown.stderr


def test_pages_of_all_tasks(mtcl_command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mtcl_command("tasks", "new", "own", "--kind", "Tags").returncode == 0
    assert mtcl_command("tasks", "docs", "--out", "TASKS.md").returncode == 0
    page = (tmp_path / "TASKS.md").read_text(encoding="utf-8").splitlines()
    assert page[2:5] == ["# Tasks", "", "| task | what it teaches | pairs | metric | owner | licence |"]
    (own,) = [line for line in page if line.startswith("| `own` |")]
    assert own.endswith("| `Tags` | ndcg@10 | @your-team | internal |")
    owners = mtcl_command("tasks", "codeowners")
    assert owners.stdout == "# Written by `mtcl tasks codeowners`.\n/tasks/own.py @your-team\n"
    path = tmp_path / "tasks" / "own.py"
    path.write_text(path.read_text().replace("@your-team", "the team"))
    refused = mtcl_command("tasks", "codeowners")
    assert refused.returncode == 2
    assert "task 'own': owner is 'the team': give @team, @org/team or an address" in refused.stderr


def test_the_list_fits_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from mtcl.__main__ import main

    monkeypatch.setenv("COLUMNS", "80")
    assert main(["tasks", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    place = next(number for number, line in enumerate(lines) if line.split()[0] == "hashtags")
    assert lines[place].split()[1:] == ["Tags,", "ndcg@10"]
    assert lines[place + 1].strip().startswith("A tweet without its hashtags -> ")


def test_an_unknown_task_says_where_it_was_looked_for(mtcl_command: Run, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    refused = mtcl_command("tasks", "show", "serch", "--tasks_dir", "more")
    assert refused.returncode == 2
    assert "unknown task 'serch'; did you mean 'search' or " in refused.stderr
    assert refused.stderr.endswith("(looked in tasks (not found), more, mtcl's own tasks)\n")
