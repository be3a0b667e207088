"""Intervals against simulated studies whose true effect is known, and against closed forms.

python -m pytest tests/test_statistics.py     # tests/benchmarks/coverage.py has the whole table
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mtcl import DataError
from mtcl.studies.statistics import Differences, Interval, bootstrap, macro_bootstrap, on_every_task
from tests.benchmarks.coverage import Setting, rates

SETTINGS = [
    Setting(3, 100, 0.0, 0.5),
    Setting(3, 100, 0.03, 0.5),
    Setting(3, 100, 1.0, 0.5),
    Setting(3, 100, 0.03, 0.2, "skewed"),
    Setting(5, 100, 0.0, 0.2),
    Setting(5, 100, 0.1, 0.5, "hits"),
    Setting(5, 100, 1.0, 0.0),
    Setting(5, 100, 0.03, 0.5, cluster_size=4),
    Setting(1, 100, 0.0, 0.0, cluster_size=16),
    Setting(1, 100, 0.0, 0.0, cluster_size=25),
    Setting(3, 100, 0.0, 0.5, cluster_size=16),
]


def noisy(seeds: int, items: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(seeds, items))


def width(differences: Differences) -> float:
    interval = bootstrap(differences)
    return interval.high - interval.low


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_coverage_and_false_alarms(setting: Setting) -> None:
    found = rates(setting, num_studies=1500, num_draws=500, seed=SETTINGS.index(setting), truth=0.2)
    assert 0.92 <= found.covered <= 0.98
    assert found.false_gain <= 0.06


def test_a_real_effect_is_seen() -> None:
    """Power: an effect of 3 standard errors is nearly always above 0."""
    assert rates(Setting(3, 400, 0.0, 0.5), num_studies=100, num_draws=500, truth=0.0).covered > 0.9
    seen = [bootstrap(Differences(0.2 + noisy(3, 400, s)), num_draws=500).low > 0 for s in range(100)]
    assert np.mean(seen) > 0.9


def test_one_seed_is_the_bootstrap_of_items() -> None:
    scores = noisy(1, 400)
    interval = bootstrap(Differences(scores))
    error = scores.std(ddof=1) / 20
    assert interval.mean == pytest.approx(scores.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.03)


def test_items_that_do_not_vary_leave_student_t() -> None:
    """Where only seeds differ, the interval is the textbook's t interval of their means."""
    means = np.array([0.1, 0.3, 0.2, 0.7])
    interval = bootstrap(Differences(np.repeat(means[:, None], 50, axis=1)), num_draws=100_000)
    low, high = stats.t.interval(0.95, 3, loc=means.mean(), scale=stats.sem(means))
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-3)


def test_clusters_of_copies_weigh_as_one_item() -> None:
    """An item that stands four times brings no more certainty than once."""
    once = noisy(3, 60)
    copied = Differences(np.repeat(once, 4, axis=1), np.repeat(np.arange(60) * 7, 4))
    expected, found = bootstrap(Differences(once)), bootstrap(copied)
    assert found.num_units == 60
    assert (found.mean, found.low, found.high) == pytest.approx((expected.mean, expected.low, expected.high))
    named, unnamed = Differences(copied.scores_SI[:1], copied.clusters_I), Differences(copied.scores_SI[:1])
    assert width(unnamed) == pytest.approx(width(named) / 2, rel=0.05)


def test_order_of_seeds_and_of_cluster_names_is_nothing() -> None:
    scores, clusters = noisy(3, 50), np.arange(50) // 5
    one = bootstrap(Differences(scores, clusters))
    other = bootstrap(Differences(scores[::-1], clusters + 100))
    assert (other.mean, other.low, other.high) == pytest.approx((one.mean, one.low, one.high))
    assert bootstrap(Differences(scores, clusters), seed=1) != one


def test_macro_mean_is_surer_than_its_tasks() -> None:
    """Nine tasks whose items alone vary: a third of the width of one."""
    tasks = [Differences(np.repeat(noisy(1, 200, seed), 3, axis=0)) for seed in range(9)]
    macro = macro_bootstrap(tasks)
    assert macro.mean == pytest.approx(np.mean([task.scores_SI.mean() for task in tasks]))
    assert macro.high - macro.low == pytest.approx(np.mean([width(task) for task in tasks]) / 3, rel=0.05)


def test_macro_mean_keeps_what_seeds_do_to_all_tasks() -> None:
    """A seed that is good on every task does not average out over tasks."""
    luck = np.array([[-0.5], [0.0], [0.5]])
    tasks = [Differences(luck + 0.01 * noisy(3, 100, seed)) for seed in range(9)]
    low, high = stats.t.interval(0.95, 2, scale=stats.sem(luck[:, 0]))
    assert macro_bootstrap(tasks).high - macro_bootstrap(tasks).low == pytest.approx(high - low, rel=0.02)


def test_on_every_task_fails_with_its_worst() -> None:
    good, even = Interval(0.1, 0.05, 0.2, 3, 100), Interval(0.0, -0.004, 0.004, 3, 100)
    assert on_every_task({"a": good, "b": even}, margins={"a": 0.0, "b": 0.005}).holds
    verdict = on_every_task({"a": good, "b": even}, margins={"a": 0.0, "b": 0.004})
    assert not verdict.holds
    assert verdict.failing == ("b",)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Differences.between(noisy(2, 10), noisy(2, 11)), "paired arms need the same items"),
        (lambda: Differences(noisy(2, 1)), r"give \(seeds, items\)"),
        (lambda: Differences(np.array([[0.0, np.nan]])), "not finite"),
        (lambda: Differences(noisy(2, 3), np.zeros(2, dtype=int)), "2 cluster ids for 3 items"),
        (lambda: Differences(noisy(2, 3), np.zeros(3, dtype=int)), "all items are in one cluster"),
        (lambda: macro_bootstrap([Differences(noisy(2, 3)), Differences(noisy(3, 3))]), r"tasks have \[2, 3\] seeds"),
        (lambda: bootstrap(Differences(noisy(2, 3)), confidence=95), "confidence is 95"),
        (lambda: on_every_task({"a": Interval(0, 0, 0, 1, 2)}, margins={"a": -1}), "margin of 'a' is -1"),
        (lambda: on_every_task({}, margins={}), "needs at least one"),
    ],
)
def test_wrong_input(make: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make()  # type: ignore[operator]
