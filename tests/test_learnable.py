"""A task without negatives is refused before the first step.

python -m pytest tests/test_learnable.py
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from mtcl import MRR, ConfigError, LabelText, MtclDataModule, MtclModule, QueryDocument, Rows, Task, TaskConfig
from mtcl.losses import InfoNCE, WeightedSum
from mtcl.losses.distill import TeacherMSE
from tests.conftest import quiet_trainer

COLOURS = ["red", "green", "blue"]
ANIMALS = ["dog", "cat", "bird"]
TEXTS = [f"{colour} {animal} {letter}" for colour in COLOURS for animal in ANIMALS for letter in "abc"]


def task_of(pairs: Any, rows: list[dict[str, Any]], prompt: str | None = None) -> Task:
    given = {"__doc__": "A task.", "name": "asked", "pairs": pairs, "metric": MRR(), "prompt": prompt}
    kind = type("Asked", (Task,), {**given, "data": Rows(train=rows, validation=rows, test=rows), "sample": rows[:2]})
    return kind()  # type: ignore[no-any-return]


def fit(task: Task, model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    monkeypatch.setattr("mtcl.training.datamodule.discover", lambda _: {"asked": task})
    config = TaskConfig(loss=options.pop("loss", None))
    data = MtclDataModule(
        tasks={"asked": config}, cache=str(cache), num_workers=0, **{"batch_size": 8, "max_length": 16, **options}
    )
    quiet_trainer(max_steps=1).fit(MtclModule(encoder={"name": str(model)}, evaluate_base=False), data)


ONE_LABEL = [{"text": text, "label": "job"} for text in TEXTS]
COARSE = [{"query": text, "document": f"post {text}", "site": "news"} for text in TEXTS]
FINE = [{"query": text, "document": f"post {text}"} for text in TEXTS]


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        (task_of(LabelText(), ONE_LABEL), {}, r"learn nothing: in its first .* check the columns of LabelText"),
        (task_of(QueryDocument(document_id="site"), COARSE), {}, r"all texts share a key.*document_id='site'"),
        (task_of(QueryDocument(), FINE, "a b c d e f g h i j k l m n "), {}, "its texts have equal tokens, 16 of them"),
    ],
    ids=["one label", "coarse id", "prompt as long as the text"],
)
def test_nothing_to_learn(
    task: Task,
    options: dict[str, Any],
    words: str,
    tiny_model: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConfigError, match=f"task 'asked' would .*{words}"):
        fit(task, tiny_model, cache, monkeypatch, **options)


@pytest.mark.parametrize(
    "loss", [InfoNCE(keys=False), WeightedSum([InfoNCE(), TeacherMSE()])], ids=["keys are ignored", "a teacher teaches"]
)
def test_a_loss_that_needs_no_keys(loss: Any, tiny_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(task_of(LabelText(), ONE_LABEL), tiny_model, cache, monkeypatch, loss=loss)


def test_few_negatives_are_worth_a_warning(
    tiny_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("mtcl"), "propagate", True)
    rows = [*ONE_LABEL[:-1], {"text": TEXTS[-1], "label": "news"}]
    fit(task_of(LabelText(), rows), tiny_model, cache, monkeypatch, batch_size=27)
    (line,) = {message for message in caplog.messages if "negatives of each other" in message}
    assert line.startswith("task 'asked': only 7.4 %")  # 2 x 26 of 27 x 26 pairs
    caplog.clear()
    fit(task_of(QueryDocument(), FINE), tiny_model, cache, monkeypatch)
    assert not [message for message in caplog.messages if "negatives of each other" in message]
