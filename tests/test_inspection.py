"""A step as a person sees it says what training does: pairs, who is left out and why, what is cut.

python -m pytest tests/test_inspection.py
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mtcl import ConfigError, MtclDataModule, inspect_batch
from mtcl.data.rows import TaskData
from mtcl.data.steps import StepDataset
from mtcl.losses.relation import shares_key
from tests.conftest import Run

FILE = """
from mtcl import *


class {name}(Task):
    \"\"\"T.\"\"\"

    name = "{name}"
    pairs = {pairs}
    metric = {metric}
    sample = {rows!r}
    data = Rows(train=sample, validation=sample, test=sample)
"""
SEARCH = [
    {"query": "red dog", "document": "a dog that is red", "id": "d1"},
    {"query": "dog in red", "document": "a dog of red colour", "id": "d1"},
    {"query": "blue cat", "document": "a cat that is blue", "id": "d2"},
    {"query": "green bird", "document": "a bird " * 12, "id": "d3"},
]
LABELS = [{"text": f"post {c}", "label": "news" if c in "ab" else f"topic {c}"} for c in "abcd"]
MINED = [{"query": f"query {c}", "document": f"cat {c}", "no": [f"dog {c}"] if c < "c" else []} for c in "abcd"]
TASKS = {
    "asked": ("QueryDocument(document_id='id')", "NDCG(k=10)", SEARCH),
    "topic": ("LabelText()", "MRR()", LABELS),
    "mined": ("QueryDocument(negatives='no')", "MRR()", MINED),
    "graded": (
        "Scored()",
        "Spearman()",
        [{"first": f"{c} red", "second": f"{c} dog", "score": n / 4} for n, c in enumerate("abcd")],
    ),
    "twins": ("Duplicates()", "MRR()", [{"anchor": f"{c} one", "positive": f"{c} two"} for c in "abcd"]),
}


@pytest.fixture
def data(tmp_path: Path, tiny_model: Path) -> MtclDataModule:
    for name, (pairs, metric, rows) in TASKS.items():
        (tmp_path / "more").mkdir(exist_ok=True)
        text = FILE.format(name=name, pairs=pairs, metric=metric, rows=rows)
        (tmp_path / "more" / f"{name}.py").write_text(text)
    return MtclDataModule(
        tasks={name: {} for name in TASKS},  # type: ignore[misc]
        tasks_dir=str(tmp_path / "more"),
        batch_size=4,
        max_length=16,
        cache=str(tmp_path / "cache"),
        encoder={"name": str(tiny_model)},  # type: ignore[arg-type]
    )


def test_a_step_is_what_training_sees(data: MtclDataModule) -> None:
    """Every sub-batch, its texts, and exactly the candidates that the relation leaves out."""
    step = inspect_batch(data, 2)
    tasks = [TaskData(data.store(name, "train"), 1) for name in data.tasks]
    dataset = StepDataset(data.plan, tasks)
    draws = data.plan.draws(2)
    assert [task.name for task in step.tasks] == [list(data.tasks)[draw.task] for draw in draws]
    for task, draw in zip(step.tasks, draws, strict=True):
        rows, texts = dataset.rows(draw), data.store(task.name, "train").pairs.texts
        assert [pair.anchor for pair in task.pairs] == [texts[int(i)].as_py() for i in rows.texts[0]]
        assert [pair.positive for pair in task.pairs] == [texts[int(i)].as_py() for i in rows.texts[1]]
        shared_NC = shares_key(*(torch.from_numpy(keys_NK) for keys_NK in rows.keys[:2]))
        left_out = {(row, one.row) for row, pair in enumerate(task.pairs) for one in pair.left_out}
        assert left_out == {(int(n), int(c)) for n, c in shared_NC.nonzero().tolist() if n != c}


def test_the_key_is_named(data: MtclDataModule) -> None:
    tasks = {task.name: task for task in inspect_batch(data).tasks}
    (one, other) = (pair for pair in tasks["asked"].pairs if "red" in pair.anchor)
    assert [out.key for out in one.left_out] == ["both have id 'd1'"]
    assert one.left_out[0].text == other.positive
    news = [pair for pair in tasks["topic"].pairs if pair.positive == "news"]
    assert {out.key for pair in news for out in pair.left_out} == {"both have label 'news'"}
    assert not [out for pair in tasks["twins"].pairs for out in pair.left_out]


def test_scores_hard_negatives_and_cuts_are_shown(data: MtclDataModule) -> None:
    tasks = {task.name: task for task in inspect_batch(data).tasks}
    assert sorted(pair.score or 0.0 for pair in tasks["graded"].pairs) == [0, 0.25, 0.5, 0.75]
    mined = {pair.anchor: pair.hard_negatives for pair in tasks["mined"].pairs}
    assert mined["query a"] == ("dog a",)
    assert mined["query d"] == (), "a filled place is no negative"
    assert (tasks["asked"].num_cut_texts, tasks["asked"].num_cut_tokens) == (1, 12 * 2 + 2 - 16)
    assert tasks["topic"].num_cut_texts == 0
    text = inspect_batch(data).text(num_pairs=2)
    assert "... and 2 more pairs" in text
    assert "cut at 16 tokens: 1 texts, 10 tokens" in text


def test_a_step_before_the_first(data: MtclDataModule) -> None:
    with pytest.raises(ConfigError, match="step is -1: give 0 or more"):
        inspect_batch(data, -1)


def test_command(data: MtclDataModule, mtcl_command: Run, tiny_model: Path, tmp_path: Path) -> None:
    """Of a task alone, and of a run whose configuration is given."""
    common = ("--tasks_dir", "more", "--model", str(tiny_model))
    done = mtcl_command("tasks", "batch", "asked", *common)
    assert done.returncode == 0, done.stderr
    assert "~ row" in done.stdout
    assert "both have id 'd1'" in done.stdout
    (tmp_path / "run.yaml").write_text(
        "tasks: {asked: {loss: {class_path: InfoNCE}}, topic: {}}\ndata: {batch_size: 2}\n"
    )
    done = mtcl_command("tasks", "batch", "topic", *common, "--config", "run.yaml", "--step", "1")
    assert done.returncode == 0, done.stderr
    assert "topic: 2 pairs" in done.stdout
    assert "asked" not in done.stdout
    refused = mtcl_command("tasks", "batch", "topc", *common, "--config", "run.yaml")
    assert refused.returncode == 2
    assert "no task 'topc'; did you mean 'topic'" in refused.stderr
