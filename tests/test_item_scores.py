"""Scores of single items: as written, and as pseudo-values where the metric is no mean over items.

python -m pytest tests/test_item_scores.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mtcl import MRR, AveragePrecision, DataError, RocAuc, Spearman
from mtcl.evaluation import Items, Pool, evaluate
from mtcl.studies.item_scores import read_scores, scores_of
from mtcl.studies.statistics import Differences, bootstrap
from mtcl.task.metrics import PairMetric
from tests.test_evaluation import KINDS, ROWS, store_of


def judged(num_pairs: int, *, noise: float = 1.0) -> Items:
    generator = np.random.default_rng(0)
    score = generator.normal(size=num_pairs)
    cosine = score + noise * generator.normal(size=num_pairs)
    numbers = np.arange(num_pairs)
    return Items(numbers, numbers, ("cosine", "score"), np.stack([cosine, score], axis=1))


def test_a_file_holds_what_the_evaluation_found(tmp_path: Path) -> None:
    items = Items(
        np.array([3, 5, 9]), np.array([0, 0, 1]), ("mrr", "map"), np.array([[1.0, 0.5], [0.2, 0.1], [0.5, 0.3]])
    )
    items.write(tmp_path / "a" / "scores.parquet")
    found = read_scores(tmp_path / "a" / "scores.parquet", MRR())
    assert found.items_I.tolist() == [3, 5, 9]
    assert found.clusters_I is not None
    assert found.clusters_I.tolist() == [0, 0, 1]
    assert found.scores_I.tolist() == [1.0, 0.2, 0.5]
    assert np.array_equal(scores_of(items, MRR(), where="here").scores_I, found.scores_I)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_is_the_metric_that_mtcl_test_reports(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    pairing, metric = KINDS[kind]
    store = store_of(pairing, ROWS, tiny_model, tmp_path, metric=metric)
    vectors_TD = F.normalize(torch.randn(len(store.tokens), 8, generator=torch.Generator().manual_seed(3)), dim=1)
    result = evaluate(Pool("toy", store, metric), lambda texts: vectors_TD[torch.from_numpy(texts)])
    assert scores_of(result.items, metric, where="here").scores_I.mean() == pytest.approx(result.primary, abs=1e-12)


@pytest.mark.parametrize("metric", [Spearman(), AveragePrecision(), RocAuc()])
@pytest.mark.parametrize("num_units", [7, 100])
def test_the_mean_is_the_metric_over_languages_of_clusters(metric: PairMetric, num_units: int) -> None:
    """With few positives the plain pseudo-values of average precision are far from it."""
    generator = np.random.default_rng(2)
    clusters = np.sort(generator.integers(num_units, size=300))
    language, label = generator.integers(3, size=300), (generator.uniform(size=300) < 0.15).astype(float)
    cosine = 0.5 * label + 0.4 * generator.normal(size=300)
    items = Items(
        np.arange(300), clusters, ("cosine", "score", "language"), np.stack([cosine, label, language], axis=1)
    )
    wanted = np.mean([metric(cosine[language == one], label[language == one]) for one in range(3)])
    assert scores_of(items, metric, where="here").scores_I.mean() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("num_pairs", [300, 600, 750, 2000])
def test_pseudo_values_have_the_metrics_mean_and_spread(num_pairs: int) -> None:
    """The interval's width is that of resampling the pairs themselves, the correlation computed anew each time."""
    items = judged(num_pairs)
    found = scores_of(items, Spearman(), where="here")
    cosine, score = items.scores.T
    interval = bootstrap(Differences(found.scores_I[None], found.clusters_I))
    assert interval.mean == pytest.approx(Spearman()(cosine, score), abs=1e-12)
    generator = np.random.default_rng(1)
    draws = [Spearman()(cosine[rows], score[rows]) for rows in generator.integers(num_pairs, size=(400, num_pairs))]
    assert interval.high - interval.low == pytest.approx(np.subtract(*np.quantile(draws, [0.975, 0.025])), rel=0.15)


def test_several_languages_weigh_alike_as_in_the_evaluation() -> None:
    """The second language has other cosines and a tenth of the pairs: over both together the correlation is another."""
    many, few = judged(1000, noise=0.5), judged(100, noise=2.0)
    scores = np.concatenate([many.scores, few.scores + np.array([5.0, -5.0])])
    language = np.repeat([0.0, 1.0], [1000, 100])
    numbers = np.arange(1100)
    items = Items(numbers, numbers, ("cosine", "score", "language"), np.column_stack([scores, language]))
    found = scores_of(items, Spearman(), where="here")
    wanted = np.mean([Spearman()(*one.scores.T) for one in (many, few)])
    assert found.scores_I.mean() == pytest.approx(wanted, abs=1e-12)
    assert abs(Spearman()(*scores.T) - wanted) > 0.1


@pytest.mark.parametrize("num_few", [2, 3, 5])
def test_a_language_of_few_pairs_stays_in_the_mean(num_few: int) -> None:
    """Without one of its pairs it may have no value: that must not throw it out of the mean of that turn."""
    many, few = judged(300), judged(num_few, noise=0.1)
    scores, language = np.concatenate([many.scores, few.scores]), np.repeat([0.0, 1.0], [300, num_few])
    scores[300:, 1] = np.arange(num_few) == 0  # one of them is right: without it all scores are alike
    numbers = np.arange(len(scores))
    items = Items(numbers, numbers, ("cosine", "score", "language"), np.column_stack([scores, language]))
    wanted = np.mean([Spearman()(*scores[:300].T), Spearman()(*scores[300:].T)])
    assert scores_of(items, Spearman(), where="here").scores_I.mean() == pytest.approx(wanted, abs=0.1)


def test_what_belongs_together_is_left_out_together() -> None:
    """Ten copies of each pair bring no more certainty than one."""
    once = judged(120)
    clusters = np.repeat(np.arange(120), 10)
    copies = Items(np.arange(1200), clusters, once.names, np.repeat(once.scores, 10, axis=0))
    one, ten = (scores_of(items, Spearman(), where="here") for items in (once, copies))
    assert ten.scores_I[::10] == pytest.approx(one.scores_I, abs=0.02 * one.scores_I.std())
    widths = [i.high - i.low for i in (bootstrap(Differences(s.scores_I[None], s.clusters_I)) for s in (one, ten))]
    assert widths[1] == pytest.approx(widths[0], rel=0.05)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read scores from"):
        read_scores(tmp_path / "none.parquet", MRR())
    with pytest.raises(DataError, match="here has no scores of 'mrr'"):
        scores_of(judged(5), MRR(), where="here")
