"""`mtcl tasks check` on flawed data sets, one flaw each: it says what is wrong, and says nothing of a sound one.

python -m pytest tests/test_advice.py
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mtcl import MRR, BitextAccuracy, Duplicates, LabelText, Parallel, QueryDocument, Rows, Scored, Spearman, pair_table
from mtcl.commands import tasks
from mtcl.evaluation.bitext import item_values
from mtcl.evaluation.pool import Items, Result
from mtcl.losses import DistillKL, Loss, TeacherMSE
from mtcl.training.advice.baseline import Baseline, random_result, score_without
from mtcl.training.advice.reading import scripts_of
from mtcl.training.advice.rows import left_out
from mtcl.training.advice.split import Split
from mtcl.training.advice.suggestion import suggestions
from mtcl.training.advice.untokenised import untokenised
from tests.conftest import WORDS
from tests.test_learnable import fit, task_of

Made = list[dict[str, Any]]


def numbers(start: int, count: int) -> range:
    return range(start, start + count)


def words(seed: int, count: int = 6) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def search(start: int, count: int) -> Made:
    return [{"query": words(n, 4), "document": words(10_000 + n, 8)} for n in numbers(start, count)]


def labels(start: int, count: int, num_labels: int = 8) -> Made:
    return [{"text": words(n, 7), "label": WORDS[26 + n % num_labels]} for n in numbers(start, count)]


def scored(start: int, count: int) -> Made:
    return [{"first": words(n), "second": words(5000 + n), "score": n % 11 / 10} for n in numbers(start, count)]


SIZES = {"train": (0, 240), "validation": (1000, 120), "test": (2000, 120)}


def made(pairs: Any, make: Any, prompt: Any = None, **instead: Made) -> Any:
    """A task with sound rows of `make`, but for the splits that are given."""
    rows = {split: make(*size) for split, size in SIZES.items()} | instead
    task = task_of(pairs, rows["train"], prompt)
    type(task).data = Rows(**rows)
    return task


def written_twice(change: Callable[[str], str]) -> dict[str, Made]:
    """All splits with two spellings of each label."""
    return {
        split: [r | {"label": change(r["label"])} if n % 16 < 8 else r for n, r in enumerate(labels(*size))]
        for split, size in SIZES.items()
    }


SOUND = search(*SIZES["train"])
LABELS = labels(*SIZES["train"])
SCORED = scored(*SIZES["train"])
PAIRS = [{"anchor": row["query"], "positive": row["document"]} for row in SOUND]
FLAWED: dict[str, tuple[Any, str]] = {
    "empty texts": (
        made(QueryDocument(), search, train=[*SOUND, *[{"query": " ", "document": "a b"}] * 40]),
        "14% of the rows of train make no pair: empty query (40)",
    ),
    "repeated rows": (
        made(QueryDocument(), search, train=SOUND + SOUND),
        "50% of the rows of train make no pair: duplicate pair (240)",
    ),
    "overlapping splits": (
        made(QueryDocument(), search, test=SOUND[:30] + search(2000, 90)),
        "30 of the 120 texts that test asks with (25.0%) are training texts too",
    ),
    "near copies across splits": (
        made(QueryDocument(), search, test=[r | {"query": f"{r['query']} !"} for r in SOUND[:30]] + search(2000, 90)),
        "30 of the 120 texts that test asks with (25.0%) are near copies of training texts",
    ),
    "a frequent label": (
        made(LabelText(), labels, train=[row | {"label": "job"} for row in LABELS[:200]] + LABELS[200:]),
        "the same positive, 'job', so most texts of a batch cannot be negatives",
    ),
    "a frequent score": (
        made(Scored(), scored, train=[row | {"score": 0.5} for row in SCORED[:230]] + SCORED[230:]),
        "of the pairs of train have the score 0.5",
    ),
    "a pair judged twice": (
        made(Scored(), scored, train=[*SCORED, SCORED[0] | {"score": 0.9}]),
        "1 pairs of train occur again with another score",
    ),
    "the query in the document": (
        made(QueryDocument(), search, train=[r | {"document": f"{r['query']} {r['document']}"} for r in SOUND]),
        "in 100% of the pairs of train one text contains the other",
    ),
    "lost characters": (
        made(QueryDocument(), search, train=[r | {"query": f"{r['query']} caf\ufffd"} for r in SOUND]),
        "of the texts of train have the character \ufffd",
    ),
    "a small validation split": (
        made(QueryDocument(), search, validation=search(1000, 20)),
        "validation has only 20 queries: by chance alone the metric varies by about 0.22",
    ),
    "one text to find": (
        made(QueryDocument(), search, test=[row | {"document": "red dog"} for row in search(2000, 120)]),
        "test: there is only one text to find",
    ),
    "labels that training lacks": (
        made(LabelText(), labels, validation=labels(1000, 120, num_labels=10)),
        "2 of the 10 labels to find in validation are never a positive in training",
    ),
    "two spellings of a label": (
        made(LabelText(), labels, **written_twice(str.upper)),
        "texts to find in validation differ from another one only in case or spacing (for example",
    ),
    "two labels": (made(LabelText(), lambda *size: labels(*size, num_labels=2)), "random vectors reach mrr 0.7"),
    "few negatives": (
        made(LabelText(), labels, train=[row | {"label": "job"} for row in LABELS[:-2]] + LABELS[-2:]),
        "of the texts in a batch are negatives of each other",
    ),
    "fewer pairs than a batch": (
        made(QueryDocument(), search, train=SOUND[:50]),
        "has 50 pairs, fewer than its batch size 64",
    ),
}
ALSO = ("overlapping splits", "two spellings of a label", "one text to find", "two labels", "few negatives")
"""Flaws that have consequences of which the check warns too."""
UNREAD: dict[str, tuple[Any, str]] = {
    "texts that are cut": (
        made(QueryDocument(), search, train=[r | {"document": words(7000 + n, 60)} for n, r in enumerate(SOUND)]),
        "50% of the texts of train are longer than max_length 32, and 44% of all tokens are cut off",
    ),
    "an alphabet that the encoder lacks": (
        made(QueryDocument(), search, train=[r | {"query": f"\u043f\u0435\u0441 {r['query']}"} for r in SOUND]),
        "of the tokens of train are unknown to the encoder",
    ),
    "a long prompt": (
        made(QueryDocument(), search, "a b c d e f g h i j k l m n o p q r s "),
        "the prompt takes 21 of 32 tokens",
    ),
    "a prompt that ends without a space": (
        made(QueryDocument(), search, "query"),
        "the prompt 'query' ends without a space",
    ),
    "labels that differ only in accents": (
        made(LabelText(), labels, **written_twice(lambda label: f"{label[0]}\u0301{label[1:]}")),
        "have the same tokens as another one (for example",
    ),
    "documents of other queries": (
        made(QueryDocument(), search),
        "is no better than random vectors",
    ),
    "nothing left to learn": (
        made(
            Duplicates(),
            lambda *size: [
                {"anchor": f"{words(n)} dog", "positive": f"{words(n)} cat"} for n in range(size[0], sum(size))
            ],
        ),
        "there is little left to learn",
    ),
}


def run(task: Any, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("mtcl.training.run_tasks.discover", lambda _: {"asked": task})
    monkeypatch.setattr("mtcl.commands.tasks.discover", lambda _: {"asked": task})
    return tasks.main("tasks", ["check", "asked", *more])


def warnings_in(output: str) -> list[str]:
    """The warnings after the table, each as one line."""
    found: list[str] = []
    for line in output.partition("\n\n")[2].splitlines():
        head, text = line[:10].strip(), line[10:].strip()
        if head or not found:
            found.append(f"{head} {text}")
        else:
            found[-1] += f" {text}"
    return [line for line in found if line.startswith("warning:")]


@pytest.mark.parametrize("flaw", FLAWED)
def test_a_flaw_of_the_rows(flaw: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    task, told = FLAWED[flaw]
    assert run(task, monkeypatch) == 0
    warnings = warnings_in(capsys.readouterr().out)
    assert any(told in line for line in warnings), warnings
    assert len(warnings) == 1 or flaw in ALSO, warnings


@pytest.mark.parametrize("make", [search, labels, scored])
def test_sound_rows_give_no_warning(
    make: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = {search: QueryDocument(), labels: LabelText(), scored: Scored()}[make]
    assert run(made(pairs, make), monkeypatch) == 0
    output = capsys.readouterr().out
    assert "warning:" not in output
    assert max(map(len, output.splitlines())) <= 100
    assert "task 'asked' is ready" in output


def test_a_task_without_a_test_split_can_be_trained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(made(QueryDocument(), search, test=[]), monkeypatch) == 0
    output = capsys.readouterr().out
    assert "no test split: the task can be trained; `mtcl test` and `mtcl predict` need one" in output
    assert "task 'asked' is ready" in output


@pytest.mark.parametrize("flaw", UNREAD)
def test_a_flaw_that_an_encoder_shows(
    flaw: str,
    tiny_model: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    task, told = UNREAD[flaw]
    monkeypatch.setenv("MTCL_CACHE", str(cache))
    assert run(task, monkeypatch, "--model", str(tiny_model), "--max_length", "32", "--batch_size", "8") == 0
    output = capsys.readouterr().out
    assert any(told in line for line in warnings_in(output)), output
    assert "for an epoch of 240 pairs here" in output
    assert "model.optimizer.lr 5e-05" in output


@pytest.mark.parametrize("flaw", ["overlapping splits", "a frequent label", "empty texts", *list(UNREAD)[2:5]])
def test_a_run_repeats_it(
    flaw: str, tiny_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before its first step, once, with the task's name. A run has no test split, so the overlap is with validation."""
    monkeypatch.setattr(logging.getLogger("mtcl"), "propagate", True)
    task, told = {**FLAWED, **UNREAD}[flaw]
    if flaw == "overlapping splits":
        task, told = made(QueryDocument(), search, validation=SOUND[:30] + search(1000, 90)), "(25.0%) are training"
    fit(task, tiny_model, cache, monkeypatch, max_length=32)
    found = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    (line,) = [line for line in found if told in line]
    assert line.startswith("task 'asked': ")


@pytest.mark.parametrize(
    ("num_given", "wanted", "loss", "told"),
    [
        (0, 1, None, None),
        (0, 2, None, "hard_negatives is 2, but its training rows have none: leave it out"),
        (3, 4, None, "hard_negatives is 4, but a pair has at most 3; the other places stay empty: give 3"),
        (3, 3, None, None),
        (
            3,
            1,
            None,
            "a pair has up to 3 hard negatives, of which a step takes 1, drawn again in each epoch: give tasks.asked",
        ),
        (3, 0, None, None),
        (
            3,
            1,
            TeacherMSE,
            "hard_negatives is 1, but its loss TeacherMSE uses none, so steps encode them for nothing: give "
            "tasks.asked.hard_negatives 0",
        ),
        (3, 0, TeacherMSE, None),
        (3, 3, DistillKL, None),
    ],
)
def test_a_run_says_how_many_hard_negatives_it_takes(
    num_given: int,
    wanted: int,
    loss: Callable[[], Loss] | None,
    told: str | None,
    tiny_model: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(logging.getLogger("mtcl"), "propagate", True)
    rows = [row | {"negatives": [words(n + 70_000 + k) for k in range(num_given)]} for n, row in enumerate(SOUND)]
    rows[0]["negatives"] = rows[0]["negatives"][:1]
    task = made(QueryDocument(negatives="negatives"), search, train=rows)
    fit(task, tiny_model, cache, monkeypatch, max_length=32, hard_negatives=wanted, **{"loss": loss()} if loss else {})
    found = [record.getMessage() for record in caplog.records if re.search("hard.negatives", record.getMessage())]
    assert [line.partition("task 'asked': ")[2][: len(told or "")] for line in found] == [told] * (told is not None)


@pytest.mark.parametrize(
    ("count", "num_labels", "on_gpu", "size", "steps", "rate"),
    [
        (100_000, None, False, 64, 2000, "2e-05"),
        (100_000, None, True, 256, 1172, "2e-05"),
        (2_000, None, True, 128, 60, "5e-05"),
        (10_000, 6, False, 32, 938, "5e-05"),
        (240, 8, False, 16, 60, "5e-05"),
        (5, None, False, 5, 60, "5e-05"),
    ],
)
def test_suggestions(count: int, num_labels: int | None, on_gpu: bool, size: int, steps: int, rate: str) -> None:
    """The batch fits data, labels and device; the steps pass over the pairs a few times; short runs learn faster."""
    table = pair_table(
        pa.array([f"query {n}" for n in range(count)]),
        pa.array([f"answer {n % (num_labels or count)}" for n in range(count)]),
        candidates=pa.array(["answer 0"]),
    )
    found = suggestions(Split.of("train", table), has_labels=num_labels is not None, on_gpu=on_gpu)
    assert {one.key.rpartition(".")[2]: one.value for one in found} == {
        "batch_size": str(size),
        "max_steps": str(steps),
        "warmup_steps": str(steps // 10),
        "lr": rate,
    }
    assert all(one.reason for one in found)


@pytest.mark.parametrize("count", [5, 8, 20, 40, 63, 64, 100, 600, 100_000])
def test_the_reason_of_a_batch_size_is_true(count: int) -> None:
    queries, answers = (pa.array([f"{what} {n}" for n in range(count)]) for what in ("query", "answer"))
    table = pair_table(queries, answers, candidates=pa.array(["answer 0"]))
    found = suggestions(Split.of("train", table), has_labels=False, on_gpu=False)[0]
    size = int(found.value)
    if match := re.match(r"(\d+) batches or more per epoch", found.reason):
        assert count // size >= int(match[1])
    elif match := re.match(r"the least, for negatives: ([\d.]+) batches per epoch", found.reason):
        assert size == 8
        assert float(match[1]) == pytest.approx(count / size, abs=0.051)
    else:
        assert found.reason in (f"the task has {count:,} pairs", "the default on a CPU")


def test_scripts_are_counted_by_letter() -> None:
    assert scripts_of(["dog 1!", "\u043f\u0451\u0441"]) == {"Latin": 0.5, "Cyrillic": 0.5}
    assert list(scripts_of(["\u72ac\u306f"])) == ["Cjk", "Hiragana"]


def test_the_score_without_seen_rows() -> None:
    """By hand: two seen queries with 1, two others with 0 and 0.5."""
    items = Items(np.arange(4), np.arange(4), ("mrr",), np.array([[1.0], [1.0], [0.0], [0.5]]))
    result = Result("asked", 4, 0.625, {"mrr": 0.625}, items)
    seen_I = np.array([True, True, False, False])
    assert score_without(result, MRR(), seen_I) == 0.25
    (line,) = Baseline("test", MRR(), None, result).inflation(seen_I)
    assert line.startswith("mrr on test is 0.625 for the untrained encoder, and 0.250 without what training has seen")
    (line,) = Baseline("test", MRR(), None, result).inflation(~seen_I)
    assert line.endswith("; remembering the training rows alone gives up to 1.000")


def test_the_score_without_seen_translations() -> None:
    """By hand: pair 2 is in no pool, and pools have another order; hits 0, 1 and 0.5 in one language, 1 in another."""
    pairs, hits = np.array([0, 4, 3, 1]), np.array([0, 1, 0.5, 1])
    scores = np.stack([item_values([hits[:3], hits[3:]]), hits, [0, 0, 0, 1]], axis=1)
    items = Items(pairs, pairs, ("bitext_accuracy", "hit", "language"), scores)
    result = Result("translated", 4, 0.75, {"bitext_accuracy": 0.75}, items)
    baseline = Baseline("test", BitextAccuracy(), None, result)
    (line,) = baseline.inflation(np.array([True, True, True, False, False]))
    assert "is 0.750 for the untrained encoder, and 0.750 without what training has seen" in line
    assert line.endswith("gives up to 0.917")  # (1 + 1 + 0.5) / 3 and 1
    (line,) = baseline.inflation(np.array([False, False, True, True, True]))
    assert "0.500 without" in line  # 0 and 1
    assert baseline.inflation(np.array([False, False, True, False, False])) == []


def test_translations_of_a_language_with_one_pair_are_in_no_pool() -> None:
    """The scores of random vectors and the rows that training has seen are matched by pair."""
    rows = [{"source": f"post {n}", "target": f"Beitrag {n}", "language": "deu"} for n in range(9)]
    rows.insert(2, {"source": "one", "target": "een", "language": "nld"})
    table = Parallel(language="language")(pa.Table.from_pylist(rows))
    result = random_result("translated", untokenised(table), BitextAccuracy())
    assert result is not None
    assert sorted(result.items.items) == [0, 1, *range(3, 10)]
    hits = dict(zip(result.items.items.tolist(), result.items.scores[:, 0].tolist(), strict=True))
    for seen in range(10):
        lines = Baseline("test", BitextAccuracy(), result).inflation(np.arange(10) == seen)
        others = [hit for pair, hit in hits.items() if pair != seen]
        assert [f"{sum(others) / len(others):.3f} without" in line for line in lines] == [True] * (seen != 2)


def test_the_score_without_seen_judged_pairs() -> None:
    """The mean over languages; those with too few other pairs have none, and if all have, there is no such figure."""
    cosine, score, language = [0.1, 0.2, 0.3, 0.3, 0.2, 0.1, 0.5], [0, 0.5, 1, 0, 0.5, 1, 1], [0, 0, 0, 1, 1, 1, 2]
    items = Items(np.arange(7), np.arange(7), ("cosine", "score", "language"), np.array([cosine, score, language]).T)
    baseline = Baseline("test", Spearman(), None, Result("judged", 7, 0.0, {"spearman": 0.0}, items))
    (line,) = baseline.inflation(np.arange(7) == 6)
    assert line == "spearman on test is 0.000 for the untrained encoder, and 0.000 without what training has seen"
    (line,) = baseline.inflation(np.isin(np.arange(7), [3, 4]))
    assert "1.000 without" in line
    (line,) = baseline.inflation(np.isin(np.arange(7), [0, 1, 3, 4]))
    assert line == "spearman on test is 0.000 for the untrained encoder, and training has seen all its rows"


def test_rows_beyond_those_that_are_read_count_as_rows() -> None:
    """A part of 40 of 200 pairs, with 10 repeated rows: 5 % of all rows make no pair, and not 20 %."""
    table = QueryDocument()(pa.Table.from_pylist([*search(0, 200), *search(0, 10)]))
    part = Split.of("train", table, most=40)
    assert (len(part), part.num_rows) == (40, 210)
    assert left_out(part) == left_out(Split.of("train", table)) == []


def test_judgements_of_grade_0_are_not_dirt() -> None:
    """They are made to be judged with; other rows without a pair still count."""
    judged = [row | {"grade": 1} for row in SOUND]
    others = [row | {"grade": 0, "document": f"{row['document']} other"} for row in SOUND]
    pairs = QueryDocument(grade="grade")
    assert left_out(Split.of("train", pairs(pa.Table.from_pylist(judged + others)))) == []
    empty = [{"query": " ", "document": "a b", "grade": 1}] * 60
    told = left_out(Split.of("train", pairs(pa.Table.from_pylist(judged + others + empty))))
    assert told == ["11% of the rows of train make no pair: empty query (60); clean the rows"]


def test_names_are_shown_as_they_are_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Square brackets are no markup of the terminal's."""
    task = made(QueryDocument(), search)
    monkeypatch.setattr(MRR, "name", "f1[/macro] [bold]x[/bold]")
    type(task).metric = MRR()
    assert run(task, monkeypatch) == 0
    assert "f1[/macro] [bold]x[/bold] of random vectors" in capsys.readouterr().out
