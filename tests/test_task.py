"""The contract of a task class, checked when the class is made.

python -m pytest tests/test_task.py
"""

from __future__ import annotations

from typing import Any

import pytest

from mtcl import MRR, BitextAccuracy, Cluster, Duplicates, LabelText, Parallel, QueryDocument, Rows, Task, TaskError
from mtcl.task.kind import Kind
from mtcl.task.metrics import Metric

SAMPLE = [{"text": "a", "label": "b"}, {"text": "c", "label": "d"}]
RIGHT: dict[str, Any] = {
    "__doc__": "A letter -> the next one.",
    "name": "letters",
    "data": Rows(train=SAMPLE),
    "pairs": LabelText(),
    "metric": MRR(),
    "sample": SAMPLE,
}


def make(bases: tuple[type, ...] = (Task,), /, **changes: Any) -> type[Task]:
    """A right task class, but for the changes; None takes an attribute away."""
    attributes = {name: value for name, value in (RIGHT | changes).items() if value is not None}
    return type("Letters", bases, attributes)


def complaint(**changes: Any) -> str:
    with pytest.raises(TaskError) as error:
        make(**changes)
    return str(error.value)


def test_a_right_class_is_made_and_keeps_the_defaults() -> None:
    task = make()()
    assert (task.name, task.version, task.owner, task.license) == ("letters", 1, "", "")


@pytest.mark.parametrize("name", ["name", "data", "pairs", "metric", "sample"])
def test_a_missing_attribute_is_named_with_what_to_write(name: str) -> None:
    assert complaint(**{name: None}) == f"task class Letters: {name} is missing: declare `{name} = ...`"


@pytest.mark.parametrize(
    ("wrong", "right"), [("metrics", "metric"), ("Name", "name"), ("samples", "sample"), ("pair", "pairs")]
)
def test_an_unknown_attribute_is_told_the_nearest_one(wrong: str, right: str) -> None:
    assert complaint(**{wrong: MRR()}) == f"task class Letters: unknown attribute {wrong!r}: did you mean {right!r}?"


def test_an_unknown_attribute_without_a_near_one_is_told_all() -> None:
    message = complaint(helper=len)
    assert "unknown attribute 'helper'" in message
    assert all(name in message for name in ("name", "version", "owner", "license", "data", "pairs", "metric", "sample"))
    assert "with an underscore" in message


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        (QueryDocument(query="t", document="t"), "pairs have the column 't' as query and as document"),
        (LabelText(text="t", label="t"), "pairs have the column 't' as text and as label"),
        (Cluster(text="t", cluster="t"), "pairs have the column 't' as text and as cluster"),
        (Duplicates(anchor="t", positive="t"), "pairs have the column 't' as anchor and as positive"),
        (QueryDocument(negatives=("n", "document")), "pairs have the column 'document' as document and as negatives"),
        (Parallel(source="t", target=("d", "t")), "pairs have the column 't' as source and as target"),
        (Parallel(target=("d", "f"), negatives=("n", "f")), "pairs have the column 'f' as target and as negatives"),
    ],
)
def test_a_column_is_on_one_side_only(pairs: Any, told: str) -> None:
    """Every text would be its own positive, and the loss would fall to nothing."""
    metric = BitextAccuracy() if isinstance(pairs, Parallel) else MRR()
    assert complaint(pairs=pairs, metric=metric) == f"task class Letters: {told}: name two columns"


def test_an_annotation_without_a_value_is_an_attribute_too() -> None:
    assert "unknown attribute 'batch_size'" in complaint(__annotations__={"batch_size": int})


def test_helpers_with_an_underscore_are_the_author_s_own() -> None:
    assert make(_clean=len)()._clean is len  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("name", 3, "name must be str, not 3"),
        ("version", "2", "version must be int, not '2'"),
        ("owner", ["me"], "owner must be str, not ['me']"),
        ("license", 4, "license must be str, not 4"),
        ("data", "folder", "data must be Source or a method, not 'folder'"),
        ("data", Rows, "data must be Source or a method, not <class 'mtcl.task.sources.Rows'>"),
        ("pairs", [1], "pairs must be Pairs or a method, not [1]"),
        ("pairs", LabelText, "pairs must be Pairs or a method, not <class 'mtcl.task.pairs.labels.LabelText'>"),
        ("metric", "mrr", "metric must be Metric, not 'mrr'"),
        ("metric", MRR, "metric must be Metric, not <class 'mtcl.task.metrics.retrieval.MRR'>"),
        ("sample", {"text": "a"}, "sample must be list, not {'text': 'a'}"),
    ],
)
def test_a_wrong_type_is_named_with_the_value_found(name: str, value: object, wanted: str) -> None:
    assert complaint(**{name: value}) == f"task class Letters: {wanted}"


@pytest.mark.parametrize("name", ["Letters", "two words", "a-b", "1st", "_x", "", "é"])
def test_a_bad_name_is_refused(name: str) -> None:
    assert f"name {name!r} must be lower case letters, digits and underscores" in complaint(name=name)


@pytest.mark.parametrize("doc", ["", "  \n "])
def test_a_task_says_what_it_teaches(doc: str) -> None:
    assert complaint(__doc__=doc) == "task class Letters: no docstring: say in a sentence what the task teaches"


@pytest.mark.parametrize("sample", [[], ["text"], [{"text": "a"}, None]])
def test_a_sample_is_rows(sample: list[object]) -> None:
    assert complaint(sample=sample) == "task class Letters: sample must hold a few rows, each a dict"


def test_all_problems_come_in_one_message() -> None:
    message = complaint(__doc__="", name="Bad", metrics=MRR(), metric=None, sample=[], data=3)
    for part in ("no docstring", "name 'Bad'", "'metrics'", "metric is missing", "sample must hold", "data must be"):
        assert part in message
    assert "\n" not in message


def test_data_and_pairs_may_be_methods() -> None:
    def data(self: Task, split: str, root: object) -> list[dict[str, str]]:
        return [{"text": split}]

    def pairs(self: Task, rows: object, corpus: object = None) -> object:
        return rows

    task = make(data=data, pairs=pairs)()
    assert task.data("train", None) == [{"text": "train"}]
    assert task.pairs("rows") == "rows"
    assert make(data=staticmethod(lambda split, root: split))().data("test", None) == "test"  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    ("name", "method", "call"),
    [
        ("data", lambda self, split: [], "data(split, root)"),
        ("data", lambda self, split, root, more: [], "data(split, root)"),
        ("pairs", lambda self: None, "pairs(rows, corpus=None)"),
    ],
)
def test_a_method_of_another_signature_is_refused(name: str, method: object, call: str) -> None:
    assert f"{name} cannot be called as {call}: " in complaint(**{name: method})


def test_a_metric_of_ones_own_derives_from_what_its_pairs_are_judged_by() -> None:
    class Own(Metric):
        kinds = frozenset({Kind.POSITIVE})
        name = "own"

    assert "metric own must derive from RankingMetric for positive pairs" in complaint(metric=Own())


def test_a_metric_is_never_a_method() -> None:
    assert "metric must be Metric, not <function" in complaint(metric=lambda self: MRR())


def test_an_abstract_base_is_not_checked_but_what_it_gives_is_inherited() -> None:
    class Base(Task, abstract=True):
        pairs = LabelText()
        metric = MRR()
        owner = "@us"

    task = make((Base,), pairs=None, metric=None)()
    assert task.owner == "@us"
    assert task.pairs is Base.pairs
    with pytest.raises(TaskError, match=r"^task class Letters: data is missing"):
        make((Base,), data=None)


def test_what_an_abstract_base_misspells_is_found_in_its_subclass() -> None:
    class Base(Task, abstract=True):
        metrics = MRR()

    with pytest.raises(TaskError, match="unknown attribute 'metrics': did you mean 'metric'"):
        make((Base,))


def test_a_task_that_extends_another_needs_a_docstring_of_its_own() -> None:
    first = make()
    with pytest.raises(TaskError, match=r"^task class Second: no docstring"):
        type("Second", (first,), {"name": "second"})
    second = type("Second", (first,), {"name": "second", "__doc__": "The same, once more."})
    assert second().pairs is first.pairs
