"""A new task is one file: written, filled in, checked and trained beside another, with no other file touched.

python -m pytest tests/test_new_task.py
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import Run

LABELS = ("dog", "cat", "bird", "fish")
CHANGES = [
    ("One line: what goes in and what it should be near to.", "Animals by their letters, for a test."),
    ("NDCG, Files, QueryDocument, Task", "MRR, Files, LabelText, Task"),
    ("What the task teaches, and where its data comes from.", "A line of letters -> the animal it stands for."),
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
