"""Training on few pairs of each label, and without the pairs of some texts.

python -m pytest tests/test_subset.py
"""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtcl import ConfigError, DataError, MtclDataModule
from mtcl.data.plan import Plan, PlanTask
from mtcl.data.rows import TaskData
from mtcl.data.steps import StepDataset
from mtcl.data.store import TokenStore, prepare
from mtcl.data.subset import digest_of, few_per_label, labels_of, without_texts
from mtcl.data.tokenizer import Tokenizer
from mtcl.task.contract import Task
from mtcl.task.metrics import MRR
from mtcl.task.pairs import Cluster, LabelText, QueryDocument, Tags
from mtcl.task.pairs.log_q import log_shares
from mtcl.task.sources import Rows
from tests.conftest import Run

Make = Any
NUM_OF_LABEL = {"red": 9, "green": 6, "blue": 2}
POSTS = [{"text": f"{label} post {n}", "label": label} for label, num in NUM_OF_LABEL.items() for n in range(num)]


@pytest.fixture
def make(tiny_model: Path, cache: Path) -> Make:
    """A store of rows."""

    def made(given: Any, rows: list[dict[str, Any]] = POSTS) -> TokenStore:
        class Made(Task):
            """A task of a test."""

            name = "made"
            data = Rows(train=rows, validation=rows)
            pairs = given
            metric = MRR()
            sample = rows

        return prepare(Made(), "train", root=None, tokenizer=Tokenizer.load(tiny_model), max_length=16, cache=cache)

    return made


def examples(store: TokenStore) -> dict[int, set[int]]:
    """The anchors of each label."""
    labels = labels_of(store.pairs)
    return {
        label: set(np.asarray(store.pairs.anchors)[labels == label].tolist()) for label in np.unique(labels).tolist()
    }


@pytest.mark.parametrize(
    "pairs",
    [LabelText(), LabelText(by="example"), LabelText(by="both"), Cluster(cluster="label")],
    ids=["label", "example", "both", "cluster"],
)
def test_so_many_of_each_label_and_nested(make: Make, pairs: Any) -> None:
    """2 within 4 within 8 for one seed; others for another seed; labels with fewer examples have all."""
    whole = make(pairs)
    found = {n: few_per_label(whole, n, seed=1, name="made") for n in (2, 4, 8)}
    for n, store in found.items():
        assert sorted(len(anchors) for anchors in examples(store).values()) == sorted(
            min(n, num) for num in NUM_OF_LABEL.values()
        )
        assert all(store.num_whole == len(whole) for store in found.values())
    for small, large in ((2, 4), (4, 8)):
        for label, anchors in examples(found[small]).items():
            assert anchors <= examples(found[large])[label]
    assert examples(few_per_label(whole, 4, seed=2, name="made")) != examples(found[4])
    assert examples(few_per_label(whole, 4, seed=1, name="other")) != examples(found[4])
    assert len(few_per_label(whole, 100, seed=1, name="made")) == len(whole)


def test_by_label_and_by_example_have_the_same_examples(make: Make) -> None:
    found = [
        examples(few_per_label(make(LabelText(by=by)), 3, seed=5, name="made")) for by in ("label", "example", "both")
    ]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("pairs", [LabelText(by="example"), LabelText(by="both"), Cluster(cluster="label")])
def test_positives_are_drawn_among_the_examples(make: Make, pairs: Any) -> None:
    """Over many epochs, no text is seen but those of the chosen examples and the labels' own."""
    store = few_per_label(make(pairs), 3, seed=1, name="made")
    chosen = set().union(*examples(store).values())
    posts = {row for row, text in enumerate(store.pairs.texts.to_pylist()) if "post" in text}
    dataset = StepDataset(Plan((PlanTask("made", len(store), 4),), seed=3), [TaskData(store)])
    seen = {int(text) for step in range(60) for part in _rows(dataset, step) for text in np.concatenate(part.texts)}
    assert seen & posts == chosen


def _rows(dataset: StepDataset, step: int) -> list[Any]:
    return [dataset.rows(draw) for draw in dataset.plan.draws(step)]


def test_capped_clusters(make: Make) -> None:
    """A cluster of `max_pairs` drawn pairs has no more pairs than examples, of these examples."""
    store = few_per_label(make(Cluster(cluster="label", max_pairs=4)), 3, seed=1, name="made")
    assert Counter(labels_of(store.pairs).tolist()).most_common() == [(0, 3), (1, 3), (2, 2)]
    assert store.pairs.groups is not None
    assert sorted(store.pairs.groups.lengths().tolist()) == [2, 3, 3]


def test_tags(make: Make) -> None:
    rows = [{"text": f"post {n}", "tags": ["red", *(["blue"] if n % 2 else [])]} for n in range(9)]
    store = few_per_label(make(Tags(), rows), 3, seed=1, name="made")
    assert [len(anchors) for anchors in examples(store).values()] == [3, 3]


def test_one_example_has_no_other_to_meet(make: Make) -> None:
    with pytest.raises(DataError, match="no pair is left"):
        few_per_label(make(Cluster(cluster="label")), 1, seed=1, name="made")
    assert len(few_per_label(make(LabelText(by="both")), 1, seed=1, name="made")) == len(NUM_OF_LABEL)


def test_the_share_of_each_text_is_that_of_the_fewer_pairs(make: Make) -> None:
    """As a table of just these rows has."""
    store = few_per_label(make(LabelText()), 2, seed=1, name="made")
    texts = store.pairs.texts.to_pylist()
    rows = [
        {"text": texts[a], "label": texts[p]} for a, p in zip(store.pairs.anchors, store.pairs.positives, strict=True)
    ]
    table = LabelText()(pa.Table.from_pylist(rows))
    expected = dict(zip(table.texts.to_pylist(), log_shares(table).positive.tolist(), strict=True))
    found = dict(zip(texts, store.log_q.positive.tolist(), strict=True))
    assert {label: found[label] for label in NUM_OF_LABEL} == pytest.approx(
        {label: expected[label] for label in NUM_OF_LABEL}
    )


def test_it_survives_pickling(make: Make) -> None:
    store = few_per_label(make(LabelText(by="both")), 3, seed=1, name="made")
    other = pickle.loads(pickle.dumps(store))
    assert other.limit is not None
    assert (digest_of(other.pairs), other.num_whole) == (digest_of(store.pairs), store.num_whole)
    assert np.array_equal(other.log_q.positive, store.log_q.positive)
    assert isinstance(other.pairs.keys.values, np.memmap), "what has a row for each text is mapped, not pickled"
    assert digest_of(other.pairs) != digest_of(few_per_label(make(LabelText(by="both")), 3, seed=2, name="made").pairs)


def rows_of(store: TokenStore, *texts: str) -> Any:
    return np.flatnonzero(np.isin(np.array(store.pairs.texts.to_pylist()), texts))


def test_pairs_of_texts_are_left_out(make: Make) -> None:
    whole = make(LabelText())
    store = without_texts(whole, rows_of(whole, "red post 1", "blue"))
    texts = np.array(store.pairs.texts.to_pylist())
    assert len(store) == sum(NUM_OF_LABEL.values()) - 1 - NUM_OF_LABEL["blue"]
    assert not {"red post 1", "blue"} & {*texts[store.pairs.anchors], *texts[store.pairs.positives]}
    again = few_per_label(store, 2, seed=1, name="made")
    assert again.num_whole == len(whole)
    assert again.limit.left_out.tolist() == store.limit.left_out.tolist()
    with pytest.raises(DataError, match="no pair is left"):
        without_texts(whole, rows_of(whole, *NUM_OF_LABEL))


def test_members_and_hard_negatives_are_left_out(make: Make) -> None:
    whole = make(Cluster(cluster="label"))
    store = without_texts(whole, rows_of(whole, "blue post 0", "red post 3"))
    assert store.pairs.groups is not None
    assert sorted(store.pairs.groups.lengths().tolist()) == [1, 6, 8]
    assert len(store) == 6 + 8
    rows = [{"query": f"q {n}", "document": f"d {n}", "bad": [f"d {n + 1}", "bird"]} for n in range(4)]
    asked = make(QueryDocument(negatives="bad"), rows)
    assert without_texts(asked, rows_of(asked, "bird")).pairs.negatives.lengths().tolist() == [1, 1, 1, 1]
    fewer = without_texts(asked, rows_of(asked, "bird", "d 1", "d 2", "d 3", "d 4"))
    assert fewer.pairs.negatives is None
    assert len(fewer) == 1


def data_of(root: Path, cache: Path, **options: Any) -> MtclDataModule:
    tasks = options.pop("tasks", {"interest": {}, "search": {}})
    return MtclDataModule(str(root), tasks, batch_size=4, max_length=16, cache=str(cache), num_workers=0, **options)


def test_refusals(demo_root: Path, cache: Path) -> None:
    for options, told in (
        (
            {"pairs_per_label": 4},
            "data.pairs_per_label is 4, but the pairs of task 'search' (QueryDocument) ",
        ),
        ({"tasks": {"search": {"pairs_per_label": 4}}}, "tasks.search.pairs_per_label is 4, but the pairs of task"),
        ({"pairs_per_label": 4, "tasks": {"translation": {}}}, "'translation' (Parallel) have no labels: give tasks."),
        ({"pairs_per_label": 0}, "data.pairs_per_label is 0: give at least 1"),
        ({"pairs_per_label": 4, "pairs_per_task": 8}, "data.pairs_per_label is 4 and pairs_per_task 8: give one"),
        ({"tasks": {"search": {"pairs_per_task": 1}}}, "tasks.search.pairs_per_task is 1: give at least 2 pairs"),
        (
            {"tasks": {"interest": {"watch": True, "pairs_per_label": 4}, "search": {}}},
            "tasks.interest.pairs_per_label has no effect on a task with watch: true",
        ),
    ):
        with pytest.raises(ConfigError) as error:
            data_of(demo_root, cache, **options)
        assert told in str(error.value)


def test_a_tasks_own_limit_wins(demo_root: Path, cache: Path, tiny_model: Path) -> None:
    from mtcl import EncoderConfig

    tasks = {"interest": {}, "hashtag": {"pairs_per_label": 2}, "search": {"pairs_per_task": 10}}
    data = data_of(
        demo_root, cache, tasks=tasks, pairs_per_label=3, encoder=EncoderConfig(name=str(tiny_model)), seed=1
    )
    limits = data.pair_limits()
    assert [limits["interest"].per_label, limits["hashtag"].per_label, limits["search"].per_label] == [3, 2, None]
    assert limits["search"].num_used == 10
    assert limits["interest"].num_used == 3 * limits["interest"].num_labels
    assert str(limits["search"]) == f"10 of {len(data.store('search', 'train')):,} pairs"
    replayed = data_of(
        demo_root, cache, tasks={"interest": {}, "search": {"replay": True}}, pairs_per_label=3, replay=0.1
    )
    assert replayed.mixture.per_label(replayed.task_configs) == {"interest": 3}


def test_a_run_shows_its_numbers(
    demo_root: Path, tiny_model: Path, tmp_path: Path, mtcl_command: Run, cache: Path
) -> None:
    """In the log and in the table at the end; a run of other examples is not resumed."""
    arguments = [
        *("fit", "--run_dir", "run", "--tasks.interest.weight", "1", "--data.root", str(demo_root)),
        *("--model.encoder.name", str(tiny_model), "--data.max_length", "16", "--data.num_workers", "1"),
        *("--data.start_method", "spawn", "--data.batch_size", "4", "--no_base"),
        *("--data.pairs_per_label", "4", "--trainer.max_steps", "2", "--trainer.enable_progress_bar", "false"),
    ]
    done = mtcl_command(*arguments)
    assert done.returncode == 0, done.stderr
    num_pairs = pq.read_metadata(demo_root / "interest" / "train.parquet").num_rows
    (said,) = [line for line in done.stderr.splitlines() if "task 'interest' trains on " in line]
    used, rest = said.split("trains on ")[1].split(" of ", 1)
    assert rest.startswith(f"{num_pairs:,} pairs: 4 examples of each of {int(used) // 4} labels")
    (row,) = [line for line in done.stdout.splitlines() if "interest" in line]
    assert f"{used} of {num_pairs:,}" in row
    refused = mtcl_command("fit", "--resume", "run", "--data.pairs_per_label", "3", "--trainer.max_steps", "3")
    assert refused.returncode == 2
    assert "this is a different run" in refused.stderr
    resumed = mtcl_command("fit", "--resume", "run", "--trainer.max_steps", "3")
    assert resumed.returncode == 0, resumed.stderr
