"""The board: names in TensorBoard, what is shown of a validation, and files, without a run.

python -m pytest tests/test_board.py
"""

from __future__ import annotations

import json
import logging
import re
import urllib.parse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mtcl import AveragePrecision, ConfigError, MtclDataModule
from mtcl.data.plan import Plan, PlanTask
from mtcl.evaluation import Pool, evaluate
from mtcl.evaluation.pool import Items, PoolVectors, embed_shared
from mtcl.training import metrics
from mtcl.training.board import exposure, hparams, points
from mtcl.training.board.callback import Board
from mtcl.training.board.drawing import Bar, bars, matrix
from mtcl.training.board.gains import NORMAL, gain_of
from mtcl.training.board.judging import Judging
from mtcl.training.board.names import PICTURES, Names, deep_link, in_summary, layout
from mtcl.training.board.neighbours import NUM_ANCHORS, markdown, neighbours_of, shortened
from mtcl.training.board.pictures import mean_cosines
from mtcl.training.board.points import MOST_POINTS, Point
from mtcl.training.board.projector import AFTER, BEFORE, Projector
from mtcl.training.board.spread import spread_of
from mtcl.training.board.start import read_start, write_start
from mtcl.training.board.texts import data_report
from mtcl.training.board.watched import Before
from tests.board_runs import EIGHT, write_tasks
from tests.test_resume import plain

PRIMARY = {"jobs": "ndcg@10", "search_two": "mrr"}


# Names


def test_a_tasks_values_are_in_one_group() -> None:
    names = Names(PRIMARY)
    shown = {"train_loss/jobs": 1.0, "val_ndcg@10/jobs": 2.0, "train_gradient_cosine/jobs-search_two": 3.0}
    assert names.on_board(shown) == {
        "task_jobs/train_loss": 1.0,
        "task_jobs/val_ndcg@10": 2.0,
        "train_gradient_cosine/jobs-search_two": 3.0,
    }
    assert names.primary_on_board("search_two") == "task_search_two/val_mrr"


def test_the_summary_repeats_what_to_look_at_first() -> None:
    shown = dict.fromkeys(
        [metrics.VAL_MEAN, metrics.VAL_GAIN, metrics.LEARNING_RATE, metrics.TOKENS_PER_S, metrics.gain_tag("jobs")], 1.0
    )
    shown[metrics.mean_of_role_tag("val", "held_out")] = 1.0
    found = set(Names(PRIMARY).on_board(shown))
    assert shown.keys() - {metrics.gain_tag("jobs")} <= found, "they keep their names, too"
    assert {tag for tag in found if tag.startswith("summary/")} == {
        "summary/mean",
        "summary/mean_gain_on_base",
        "summary/mean_held_out",
        "summary/learning_rate",
        "summary/speed_tokens_per_s",
        "summary/task_gain_jobs",
    }


def test_the_summary_sorts_first() -> None:
    """TensorBoard compares names part by part, of which slashes and underscores are the ends; numbers play no role."""
    shown = {tag: 0.0 for task in PRIMARY for tag in (metrics.gain_tag(task), metrics.train_tag("loss", task))}
    shown |= dict.fromkeys(metrics.training_tags(PRIMARY) | {metrics.VAL_MEAN}, 0.0)
    tags = sorted([*Names(PRIMARY).on_board(shown), *PICTURES], key=lambda tag: re.split("[/_]", tag))
    groups = list(dict.fromkeys(tag.partition("/")[0] for tag in tags))
    assert groups[:3] == ["summary", "task_jobs", "task_search_two"]
    assert tags[-1].startswith("val")
    summary = [tag for tag in tags if tag.startswith("summary/")]
    gains = [tag for tag in summary if "task_gain" in tag]
    assert summary[-len(gains) :] == gains, "fifty gains would push the other cards to the fifth page"


def test_names_can_be_read_back() -> None:
    shown = dict.fromkeys(metrics.training_tags(PRIMARY) | {"val_ndcg@10/jobs", metrics.VAL_MEAN}, 0.0)
    back = [plain(tag) for tag in Names(PRIMARY).on_board(shown)]
    assert sorted(tag for tag in back if tag) == sorted(shown)


def test_lean_keeps_few_values() -> None:
    shown = dict.fromkeys(
        metrics.training_tags(PRIMARY) | {"val_ndcg@10/jobs", "val_mrr/jobs", "val_gain/jobs", "test_ndcg@10/jobs"}, 0.0
    )
    kept = Names(PRIMARY, "lean").kept(shown)
    assert {tag for tag in kept if tag.endswith("/jobs")} == {
        "train_loss/jobs",
        "val_ndcg@10/jobs",
        "val_gain/jobs",
        "test_ndcg@10/jobs",
    }
    assert metrics.TRAIN_LOSS in kept
    assert metrics.GRADIENT_NORM not in kept
    assert Names(PRIMARY).kept(shown) == shown


def test_custom_charts_are_the_same_for_all_tasks() -> None:
    """TensorBoard matches regular expressions from a tag's beginning."""
    shown = dict.fromkeys(metrics.training_tags(PRIMARY) | {metrics.gain_tag(task) for task in PRIMARY}, 0.0)
    tags = list(Names(PRIMARY).on_board(shown))
    for charts in layout().values():
        for title, (kind, (pattern,)) in charts.items():  # type: ignore[misc]
            matched = [tag for tag in tags if re.match(str(pattern), tag)]
            assert kind == "Multiline"
            assert len(matched) == len(PRIMARY), title
    lean = Names(PRIMARY, "lean").on_board(Names(PRIMARY, "lean").kept(shown))
    for charts in layout("lean").values():
        for _, (pattern,) in charts.values():  # type: ignore[misc]
            assert any(re.match(str(pattern), tag) for tag in lean)


def test_the_link_pins_cards_that_exist() -> None:
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(deep_link("my run", level="full")).query)
    cards = json.loads(query["pinnedCards"][0])
    assert [card["tag"] for card in cards] == [
        "summary/gain_by_task",
        "summary/mean",
        "summary/mean_gain_on_base",
        "summary/loss",
        "summary/speed_tokens_per_s",
    ]
    assert cards[0]["runId"] == "defaultExperimentId/my run"
    assert {card["plugin"] for card in json.loads(urllib.parse.unquote(deep_link("r", level="lean")).split("=")[1].split("&")[0])} == {"scalars"}  # fmt: skip  # noqa: E501


def test_an_unknown_level_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="board is 'ful': give lean or full, or null for scalars only"):
        Board(tmp_path, "ful")  # type: ignore[arg-type]


# A validation


@pytest.fixture(scope="module")
def pools(
    demo_root: Path, cache: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Pool, PoolVectors]]:
    """Pools of eight tasks, one per kind of pairs and more, with random vectors."""
    from mtcl import EncoderConfig

    folder = tmp_path_factory.mktemp("tasks")
    write_tasks(demo_root, folder)
    data = MtclDataModule(
        root=str(demo_root),
        cache=str(cache),
        tasks={name: {} for name in EIGHT},  # type: ignore[misc]
        tasks_dir=str(folder),
        encoder=EncoderConfig(name=str(tiny_model)),
        max_length=32,
    )
    generator = torch.Generator().manual_seed(0)

    def vectors(pool: Pool) -> PoolVectors:
        return embed_shared(
            pool.texts, lambda texts: F.normalize(torch.randn(len(texts), 6, generator=generator), dim=1)
        )

    return {pool.name: (pool, vectors(pool)) for pool in data.pools("validation")}


def scored(pool: Pool, vectors: PoolVectors) -> Any:
    return evaluate(pool, vectors.of)


@pytest.mark.parametrize("name", ["interest", "hashtag", "storyline", "search", "translation", "rewording"])
def test_positives_and_hardest_negatives(pools: dict[str, tuple[Pool, PoolVectors]], name: str) -> None:
    """Against a loop over queries and candidates."""
    pool, vectors = pools[name]
    judging, store = Judging(pool), pool.store
    found = spread_of(judging, vectors, scored(pool, vectors)).cosines
    positives, negatives = [], []
    keys = [set(store.pairs.keys[row].tolist()) for row in range(len(store.tokens))]
    candidates = judging.candidates.tolist()
    for query in judging.queries.tolist():
        related = [c for c in candidates if keys[query] & keys[c] and not (store.pairs.exclude_self and c == query)]
        others = [c for c in candidates if not keys[query] & keys[c]]
        for kept, some in ((positives, related), (negatives, others)):
            if some:
                cosines = vectors.of(np.array(some)) @ vectors.of(np.array([query]))[0]
                kept.append(float(cosines.max()))
    assert sorted(found["positives"]) == pytest.approx(sorted(positives), abs=1e-6)
    assert sorted(found["hardest_negatives"]) == pytest.approx(sorted(negatives), abs=1e-6)


def test_judged_pairs_have_a_curve(pools: dict[str, tuple[Pool, PoolVectors]]) -> None:
    pool, vectors = pools["same_topic"]
    spread = spread_of(Judging(pool), vectors, scored(pool, vectors))
    assert spread.labels_P is not None
    assert spread.cosines_P is not None
    assert set(spread.labels_P.tolist()) == {0.0, 1.0}
    assert len(spread.cosines["positives"]) == spread.labels_P.sum()
    graded = spread_of(Judging(pools["closeness"][0]), pools["closeness"][1], scored(*pools["closeness"]))
    assert set(graded.cosines) == {"pairs"}
    assert graded.labels_P is not None
    assert set(graded.labels_P.tolist()) == {0.0, 1.0}, "a score of at least half the highest is a 1"


def test_neighbours_are_marked_as_the_evaluation_judges(pools: dict[str, tuple[Pool, PoolVectors]]) -> None:
    """The share of right first neighbours of all queries is accuracy@1."""
    for name in ("interest", "storyline", "search"):
        pool, vectors = pools[name]
        judging = Judging(pool)
        (block,) = judging.blocks(vectors)
        first = block.cosines_NC.argmax(dim=1).numpy()
        right = block.relevant_NC[np.arange(len(first)), first]
        assert right.mean() == pytest.approx(scored(pool, vectors).metrics["accuracy@1"])


def test_the_table_of_neighbours(pools: dict[str, tuple[Pool, PoolVectors]]) -> None:
    pool, vectors = pools["storyline"]
    judging, result = Judging(pool), scored(pool, vectors)
    found = neighbours_of(judging, vectors, result)
    assert list(found) == list(neighbours_of(Judging(pool), vectors, result)), "the same anchors each time"
    assert 0 < len(found) <= NUM_ANCHORS
    assert all(one.text != anchor for anchor, several in found.items() for one in several)
    table = markdown(judging, None, found)
    assert table.count("\n") == len(found) + 2
    assert "not known" in table
    assert "✘" in table
    assert "not known" not in markdown(judging, found, found)


def test_the_table_of_judged_pairs(pools: dict[str, tuple[Pool, PoolVectors]]) -> None:
    pool, vectors = pools["closeness"]
    judging = Judging(pool)
    found = neighbours_of(judging, vectors, scored(pool, vectors))
    pair, (one,) = next(iter(found.items()))
    cosine = vectors.of(pool.store.pairs.anchors[[pair]]) @ vectors.of(pool.store.pairs.positives[[pair]]).T
    assert one.cosine == pytest.approx(float(cosine), abs=1e-6)
    assert f"{one.cosine:.2f}" in markdown(judging, found, found)


@pytest.mark.parametrize(
    ("text", "shown"), [("a *b* `c`", r"a \*b\* \`c\`"), ("<b> & c", "&lt;b&gt; &amp; c"), ("x\n\ty", "x y")]
)
def test_texts_are_shown_as_they_are(text: str, shown: str) -> None:
    assert shortened(text) == shown


def test_a_long_text_is_cut() -> None:
    assert len(shortened("word " * 100)) == 90


# Gains


def items(scores: Any, clusters: Any = None, names: tuple[str, ...] = ("mrr",)) -> Items:
    scores = np.asarray(scores, dtype=np.float64)
    scores = scores[:, None] if scores.ndim == 1 else scores
    number = np.arange(len(scores))
    return Items(number, number if clusters is None else np.asarray(clusters), names, scores)


def test_the_interval_of_a_mean(pools: dict[str, tuple[Pool, PoolVectors]]) -> None:
    """That of independent items is the textbook's; clusters of equal items are as wide as one item of each."""
    pool, generator = pools["interest"][0], np.random.default_rng(0)
    before, after = generator.random(200), generator.random(200)
    gain = gain_of(pool, items(before), items(after))
    assert gain is not None
    assert gain.gain == pytest.approx((after - before).mean())
    assert gain.half_width == pytest.approx(NORMAL * (after - before).std(ddof=1) / np.sqrt(200))
    twice = np.repeat(np.arange(200), 2)
    clustered = gain_of(pool, items(before[twice], twice), items(after[twice], twice))
    assert clustered is not None
    assert clustered.half_width == pytest.approx(gain.half_width)


def test_a_gain_is_over_the_items_that_both_have(pools: dict[str, tuple[Pool, PoolVectors]]) -> None:
    pool = pools["interest"][0]
    after = items([0.5, 0.7, 0.9])
    gain = gain_of(pool, items([0.1, 0.2]), after)
    assert gain is not None
    assert gain.gain == pytest.approx(0.45)
    assert gain_of(pool, replace(after, items=after.items + 10), after) is None
    assert gain_of(pool, items([0.1, 0.2, 0.3], names=("ndcg@10",)), after) is None, "the start had another metric"
    twice = replace(after, items=np.array([0, 0, 1]))
    repeated = gain_of(pool, replace(items([0.1, 0.2, 0.3]), items=twice.items), twice)
    assert repeated is not None
    assert repeated.gain == pytest.approx(0.5), "of all three, two of which are queries of equal texts"
    single = gain_of(pool, items([0.1, 0.2], [5, 5]), items([0.1, 0.4], [5, 5]))
    assert single is not None
    assert single.half_width is None, "one cluster has no spread"


def test_the_gain_of_a_metric_of_pairs(pools: dict[str, tuple[Pool, PoolVectors]]) -> None:
    pool, generator = pools["same_topic"][0], np.random.default_rng(0)
    label = (generator.random(150) < 0.4).astype(float)
    before, after = (np.stack([label * up + generator.random(150), label], axis=1) for up in (0.2, 0.6))
    names = ("cosine", "score")
    gain = gain_of(pool, items(before, names=names), items(after, names=names))
    assert gain is not None
    metric = AveragePrecision()
    assert gain.gain == pytest.approx(metric(after[:, 0], label) - metric(before[:, 0], label))
    assert gain.half_width is not None
    assert 0.02 < gain.half_width < gain.gain
    same = gain_of(pool, items(before, names=names), items(before, names=names))
    assert same is not None
    assert (same.gain, same.half_width) == (0, 0)


# Points


def test_points_are_stratified(pools: dict[str, tuple[Pool, PoolVectors]]) -> None:
    only = [pool for pool, _ in pools.values()]
    chosen = points.sample(only, most=80)
    assert set(chosen) == set(EIGHT)
    assert all(0 < len(texts) <= 10 for texts in chosen.values())
    assert sum(map(len, points.sample(only).values())) <= MOST_POINTS
    translation = pools["translation"][0]
    languages = points.languages_of(translation.store.pairs, chosen["translation"])
    assert set(languages) == {-1, *range(len(translation.store.pairs.language_names))}, "each language, and the sources"
    again = points.sample(only, most=80)
    assert all(np.array_equal(chosen[name], again[name]) for name in chosen)


def test_points_have_labels(pools: dict[str, tuple[Pool, PoolVectors]]) -> None:
    interest, storyline, translation = (pools[name][0] for name in ("interest", "storyline", "translation"))
    texts = interest.store.pairs.texts
    query = int(interest.store.pairs.queries[0])
    (point,) = points.described(interest, np.array([query]))
    pair = int(np.flatnonzero(np.asarray(interest.store.pairs.anchors) == query)[0])
    assert point.label == texts[int(interest.store.pairs.positives[pair])].as_py()
    assert all(one.label.startswith("cluster ") for one in points.described(storyline, storyline.texts[:5]))
    found = {one.language for one in points.described(translation, translation.texts)}
    assert found == {"none", *translation.store.pairs.language_names}


def test_similarity_of_tasks() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = (F.normalize(torch.randn(n, 4, generator=generator), dim=1) for n in (5, 7))
    found = points.similarity({"one": one, "other": other})
    assert found[0, 1] == found[1, 0] == pytest.approx(float((one @ other.T).mean()), abs=1e-6)
    own = one @ one.T
    assert found[0, 0] == pytest.approx(float(own[~torch.eye(5, dtype=torch.bool)].mean()), abs=1e-6)
    assert np.isnan(points.similarity({"one": one[:1], "other": other})[0, 0])


def test_drift() -> None:
    start = torch.eye(2)
    assert points.drift(start, torch.tensor([[1.0, 0.0], [1.0, 0.0]])).tolist() == [0.0, 1.0]


# Files


POINTS = [Point("jobs", "one", "none", "a text"), Point("jobs", "two", "de", "ein Text")]


def test_the_projectors_files(tmp_path: Path) -> None:
    """Raw little-endian floats, a table of four columns, and a configuration with relative paths."""
    projector = Projector(tmp_path)
    before, after = torch.arange(6.0).reshape(2, 3), torch.ones(2, 3)
    projector.write(BEFORE, before, POINTS)
    projector.write(AFTER, after, POINTS)
    assert (tmp_path / "projector" / "before.bytes").read_bytes() == np.arange(6, dtype="<f4").tobytes()
    lines = (tmp_path / "projector" / "before.tsv").read_text().splitlines()
    assert lines == ["task\tlabel\tlanguage\ttext", "jobs\tone\tnone\ta text", "jobs\ttwo\tde\tein Text"]
    config = (tmp_path / "projector_config.pbtxt").read_text()
    assert re.findall(r'tensor_name: "(\w+)"', config) == ["before", "after"]
    assert re.findall(r"tensor_shape: (\d+)", config) == ["2", "3", "2", "3"]
    assert all((tmp_path / path).is_file() for path in re.findall(r'path: "(.*)"', config))


def test_vectors_of_other_points_are_not_read(tmp_path: Path) -> None:
    projector = Projector(tmp_path)
    assert projector.read(BEFORE, POINTS) is None
    projector.write(BEFORE, torch.ones(2, 3), POINTS)
    found = projector.read(BEFORE, POINTS)
    assert found is not None
    assert torch.equal(found, torch.ones(2, 3))
    assert projector.read(BEFORE, [POINTS[1], POINTS[0]]) is None


def test_the_start_is_kept_for_a_resumed_run(pools: dict[str, tuple[Pool, PoolVectors]], tmp_path: Path) -> None:
    pool, vectors = pools["interest"]
    result = scored(pool, vectors)
    before = Before(result.items, neighbours_of(Judging(pool), vectors, result))
    write_start(tmp_path, [pool], {"interest": before})
    found = read_start(tmp_path, [pool])["interest"]
    assert found.neighbours == before.neighbours
    assert np.array_equal(found.items.scores, result.items.scores)
    assert found.items.names == result.items.names
    moved = replace(pool, store=replace(pool.store, folder=Path("another")))
    assert read_start(tmp_path, [moved]) == {}, "the pool has changed"


def test_a_malformed_start_is_left_out(
    pools: dict[str, tuple[Pool, PoolVectors]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pool = pools["interest"][0]
    assert read_start(tmp_path, [pool]) == {}
    assert not caplog.records
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / "start.json").write_text('{"interest": 3}')
    with caplog.at_level(logging.WARNING, "mtcl"):
        assert read_start(tmp_path, [pool]) == {}
    assert "cannot be read" in caplog.text


# Pictures and tables


def test_exposure_of_a_plan() -> None:
    """What the plan hands out is what it promises; a task that is paused gets nothing."""
    tasks = (PlanTask("a", 100, 8), PlanTask("b", 300, 4, schedule=((10, 0.0),)))
    plan = Plan(tasks, tasks_per_step=1)
    drawn: dict[str, int] = {}
    for step in range(40):
        for draw in plan.draws(step):
            name = tasks[draw.task].name
            drawn[name] = drawn.get(name, 0) + len(draw.pairs)
    found = {one.task: one for one in exposure.exposures(plan, drawn, num_steps=40)}
    assert sum(one.planned for one in found.values()) == pytest.approx(1)
    assert found["a"].actual == pytest.approx(found["a"].planned, abs=0.02)
    assert found["b"].epochs == pytest.approx(drawn["b"] / 300)


def test_the_data_report_follows_the_schedule(
    demo_root: Path, tiny_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that is paused after a quarter of the run passes its pairs a quarter as often."""
    tasks = {"interest": {"weight_schedule": {10: 0.0}}, "search": {}}
    options = {"encoder": {"name": str(tiny_model)}, "root": demo_root, "cache": cache, "batch_size": 8, "alpha": 0.0}
    data = MtclDataModule(tasks=tasks, tasks_per_step=1, **options)
    data.prepare_data()
    monkeypatch.setattr(MtclDataModule, "num_steps", property(lambda _: 40))
    rows = {row[0]: row for row in map(_cells, data_report(data).splitlines()) if len(row) > 8}
    assert (rows["interest"][-2], float(rows["interest"][-1])) == ("12%", pytest.approx(5 * 8 / 240, rel=0.05))
    assert (rows["search"][-2], float(rows["search"][-1])) == ("88%", pytest.approx(35 * 8 / 93, rel=0.05))


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_mean_cosines() -> None:
    found = mean_cosines({("a", "b"): (1.0, 2)}, ["a", "b", "c"])
    assert found[0, 1] == found[1, 0] == 0.5
    assert np.isnan(found[0, 2])
    assert found[2, 2] == 1


def test_bars_show_value_and_interval() -> None:
    """Blue to the right, red to the left; a wider interval has more ink."""
    image = bars([Bar("up", 0.2, "+0.2", half_width=0.05), Bar("down", -0.2, "-0.2")], title="gain")
    assert image.dtype == np.uint8
    assert image.shape[1:] == (400, 3)
    blue, red = ((image == colour).all(axis=2) for colour in ((66, 133, 196), (214, 96, 77)))
    assert np.argwhere(blue)[:, 1].min() >= np.argwhere(red)[:, 1].max()
    wide = bars([Bar("up", 0.2, "+0.2", half_width=0.1), Bar("down", -0.2, "-0.2")], title="gain")
    assert (wide < 60).all(axis=2).sum() > (image < 60).all(axis=2).sum()


def test_a_matrix_has_a_colour_per_cell() -> None:
    image = matrix(["one", "two"], np.array([[1.0, -1.0], [np.nan, 0.0]]), title="cosines")
    for colour in ((66, 133, 196), (214, 96, 77), (218, 220, 224)):
        assert (image == colour).all(axis=2).any()
    assert matrix([f"task_{n}" for n in range(50)], np.zeros((50, 50)), title="many").shape[1] < 1000


def test_hparams_are_flat_and_few() -> None:
    config = {
        "seed_everything": 1,
        "tasks": {"jobs": {"weight": 2.0, "head": None, "watch": False}, "search": {}},
        "model": {
            "encoder": {"name": "some/model", "dim": 50, "dense": False, "compile": False},
            "optimizer": {"lr": 1e-4},
            "eval_groups": False,
        },
        "data": {"root": "/secret", "batch_size": 64, "alpha": 0.0, "held_out": ["news"], "max_length": None},
        "trainer": {"max_steps": 10, "precision": "32-true"},
    }
    assert hparams.hparams(config) == {
        "batch_size": 64,
        "encoder": "model",
        "lr": 1e-4,
        "max_steps": 10,
        "seed": 1,
        "tasks": "jobs, search",
        "tasks.jobs.weight": 2.0,
        "model.encoder.dim": 50,
        "model.encoder.dense": "false",
        "data.alpha": 0.0,
        "data.held_out": "['news']",
    }


def test_values_with_and_without_a_place_in_the_summary() -> None:
    assert in_summary(metrics.GRADIENT_NORM) is None
    assert in_summary("val_mrr/jobs") is None
    assert in_summary(metrics.mean_of_role_tag("val", "replay")) == "summary/mean_replay"
