"""A task without negatives is refused before the first step.

python -m pytest tests/test_learnable.py
"""

from __future__ import annotations

import logging
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtcl import (
    MRR,
    AveragePrecision,
    Cluster,
    ConfigError,
    Labelled,
    LabelText,
    MtclDataModule,
    MtclModule,
    QueryDocument,
    Rows,
    Scored,
    Spearman,
    Task,
    TaskConfig,
)
from mtcl.commands import tasks
from mtcl.losses import DistillKL, InfoNCE, MarginMSE, TeacherMSE, WeightedSum
from mtcl.task.kind import Kind
from tests.conftest import quiet_trainer

COLOURS = ["red", "green", "blue"]
ANIMALS = ["dog", "cat", "bird"]
TEXTS = [f"{colour} {animal} {letter}" for colour in COLOURS for animal in ANIMALS for letter in "abc"]


METRICS = {Kind.GRADED: Spearman(), Kind.BINARY: AveragePrecision()}


def task_of(pairs: Any, rows: list[dict[str, Any]], prompt: Any = None) -> Task:
    metric = METRICS.get(pairs.kind, MRR())
    given = {"__doc__": "A task.", "name": "asked", "pairs": pairs, "metric": metric, "prompt": prompt}
    kind = type("Asked", (Task,), {**given, "data": Rows(train=rows, validation=rows, test=rows), "sample": rows[:2]})
    return kind()  # type: ignore[no-any-return]


def fit(task: Task, model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    monkeypatch.setattr("mtcl.training.run_tasks.discover", lambda _: {"asked": task})
    given = {name: options.pop(name) for name in ("loss", "hard_negatives") if name in options}
    config = TaskConfig(**given)
    data = MtclDataModule(
        tasks={"asked": config}, cache=str(cache), num_workers=0, **{"batch_size": 8, "max_length": 16, **options}
    )
    quiet_trainer(max_steps=1).fit(MtclModule(encoder={"name": str(model)}, evaluate_base=False), data)


ONE_LABEL = [{"text": text, "label": "job"} for text in TEXTS]
COARSE = [{"query": text, "document": f"post {text}", "site": "news"} for text in TEXTS]
FINE = [{"query": text, "document": f"post {text}"} for text in TEXTS]
ONE_DOCUMENT = [{"query": text, "document": "the post"} for text in TEXTS]
ONE_QUERY = [{"query": "the query", "document": text} for text in TEXTS]
SCORED = [{"first": text, "second": f"post {text}", "score": 0.5} for text in TEXTS]
LABELLED = [{"first": text, "second": f"post {text}", "label": 1} for text in TEXTS]
CLUSTERED = [{"text": text, "cluster_id": 7} for text in TEXTS]
LONG = "a b c d e f g h i j k l m n "
NOTHING: list[tuple[str, Task, dict[str, Any], str]] = [
    ("one label", task_of(LabelText(), ONE_LABEL), {}, "all its 27 positives are the same text: check the .*LabelText"),
    ("one document", task_of(QueryDocument(), ONE_DOCUMENT), {}, "all its 27 positives are the same text"),
    ("one query", task_of(QueryDocument(), ONE_QUERY), {}, "all its 27 anchors are the same text"),
    (
        "coarse id",
        task_of(QueryDocument(document_id="site"), COARSE),
        {},
        "in its first .* all texts share a key.*document_id='site'",
    ),
    ("one cluster", task_of(Cluster(), CLUSTERED), {}, "in its first .* all texts share a key.*Cluster"),
    ("one score", task_of(Scored(), SCORED), {}, r"all its 27 pairs have the score 0\.5: add pairs with other scores"),
    ("one class", task_of(Labelled(), LABELLED), {}, "all its 27 pairs have the score 1"),
    ("a guide", task_of(LabelText(), ONE_LABEL), {"loss": InfoNCE(guide="base")}, "all its 27 positives are the same"),
    ("margins", task_of(LabelText(), ONE_LABEL), {"loss": MarginMSE()}, "all its 27 positives are the same text"),
]
CUT: list[tuple[str, Task, dict[str, Any], str]] = [
    ("a prompt as long as the text", task_of(QueryDocument(), FINE, LONG), {}, "its prompt takes 16 tokens"),
    (
        "a query's prompt",
        task_of(QueryDocument(), FINE, {"query": LONG, "document": ""}),
        {},
        "its prompt takes 16 tokens, and max_length is 16, so nothing of a text is left",
    ),
    (
        "a document's",
        task_of(QueryDocument(), FINE, {"query": "", "document": LONG}),
        {},
        "its prompt takes 16 tokens",
    ),
    ("judged", task_of(Scored(), [r | {"score": n / 27} for n, r in enumerate(SCORED)], LONG), {}, "its prompt takes"),
    ("with a teacher", task_of(QueryDocument(), FINE, LONG), {"loss": TeacherMSE()}, "its prompt takes"),
    (
        "cut to one word",
        task_of(QueryDocument(), [{"query": f"red {t}", "document": f"red dog {t}"} for t in TEXTS]),
        {"max_length": 3},
        "its texts have equal tokens, 3 of them",
    ),
]


@pytest.mark.parametrize(
    ("task", "options", "words"), [case[1:] for case in NOTHING + CUT], ids=[case[0] for case in NOTHING + CUT]
)
def test_nothing_to_learn(
    task: Task,
    options: dict[str, Any],
    words: str,
    tiny_model: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConfigError, match=f"task 'asked' would learn nothing: {words}"):
        fit(task, tiny_model, cache, monkeypatch, **deepcopy(options))


@pytest.mark.parametrize(
    "loss",
    [InfoNCE(keys=False), WeightedSum([InfoNCE(), TeacherMSE()]), DistillKL()],
    ids=["keys are ignored", "a teacher teaches", "a teacher's softmax"],
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


def test_texts_that_are_mostly_equal_when_cut_are_worth_a_warning(
    tiny_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("mtcl"), "propagate", True)
    fit(task_of(QueryDocument(), FINE), tiny_model, cache, monkeypatch, max_length=4, batch_size=9)
    (line,) = {message for message in caplog.messages if "different ones" in message}
    assert line.startswith("task 'asked': its 54 texts are only 12 different ones after they are cut to 4 tokens")


def test_a_batch_larger_than_the_data_is_worth_a_warning(
    tiny_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("mtcl"), "propagate", True)
    fit(task_of(QueryDocument(), FINE), tiny_model, cache, monkeypatch, batch_size=64)
    (line,) = {message for message in caplog.messages if "pairs repeat" in message}
    assert line == (
        "task 'asked' has 27 pairs, fewer than its batch size 64: pairs repeat in a batch, which has at most 26 "
        "negatives per anchor (give a batch_size of at most 27)"
    )


# `mtcl tasks check`


def checked(task: Task, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    monkeypatch.setattr("mtcl.training.run_tasks.discover", lambda _: {"asked": task})
    monkeypatch.setattr("mtcl.commands.tasks.discover", lambda _: {"asked": task})
    return tasks.main("tasks", ["check", "asked", *more])


@pytest.mark.parametrize(
    ("task", "words"), [(c[1], c[3]) for c in NOTHING if not c[2]], ids=[c[0] for c in NOTHING if not c[2]]
)
def test_the_check_finds_it_without_an_encoder(
    task: Task, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=f"task 'asked' would learn nothing: {words}"):
        checked(task, monkeypatch)
    assert "is ready" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("task", "options", "words"), [c[1:] for c in NOTHING + CUT], ids=[c[0] for c in NOTHING + CUT]
)
def test_the_check_finds_it_as_a_run_has_it(
    task: Task,
    options: dict[str, Any],
    words: str,
    tiny_model: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a configuration: its encoder, length, prompts and losses."""
    monkeypatch.setenv("MTCL_CACHE", str(cache))
    loss = options.get("loss")
    asked = {"loss": None if loss is None else loss.described()}
    data = {"max_length": options.get("max_length", 16), "batch_size": 8}
    config = {"model": {"encoder": {"name": str(tiny_model)}}, "data": data, "tasks": {"asked": asked, "other": {}}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match=f"task 'asked' would learn nothing: {words}"):
        checked(task, monkeypatch, "-c", str(tmp_path / "run.yaml"))


def test_the_check_passes_what_can_be_learned(
    tiny_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MTCL_CACHE", str(cache))
    task = task_of(QueryDocument(), FINE)
    assert checked(task, monkeypatch, "--model", str(tiny_model), "--batch_size", "8") == 0
    assert "a batch" not in capsys.readouterr().out
    assert checked(task, monkeypatch) == 0
    shown = capsys.readouterr().out
    assert "warning:  task 'asked' has 27 pairs, fewer than its batch size 64: pairs" in shown
    assert shown.endswith("task 'asked' is ready: add it to a configuration under `tasks:`\n")
    with pytest.raises(ConfigError, match="--max_length 8 counts tokens: give --model or --config too"):
        checked(task, monkeypatch, "--max_length", "8")


def test_the_check_tells_a_split_with_one_text_to_find(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = task_of(QueryDocument(), FINE)
    monkeypatch.setattr(type(task), "data", Rows(train=FINE, validation=ONE_DOCUMENT, test=FINE))
    assert checked(task, monkeypatch, "--batch_size", "8") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert told.count("there is only one text to find, so any encoder has a perfect metric") == 1
