"""The plan is a pure function of (seed, step): shares, epochs, permutations, positives drawn afresh.

python -m pytest tests/test_plan.py
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtcl.arrays import group
from mtcl.data.plan import Plan, PlanTask
from mtcl.data.pseudorandom import mix, permute
from mtcl.data.rows import draw_positives
from mtcl.errors import ConfigError


def plan_of(sizes: list[int], *, batch_size: int = 4, **options: object) -> Plan:
    return Plan(tuple(PlanTask(f"t{i}", n, batch_size) for i, n in enumerate(sizes)), **options)  # type: ignore[arg-type]


@given(size=st.integers(1, 5000), key=st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None)
def test_permute_is_a_permutation(size: int, key: int) -> None:
    assert np.array_equal(np.sort(permute(np.arange(size), size=size, key=key)), np.arange(size))


def test_a_limit_chooses_a_nested_subset_by_seed() -> None:
    """100 pairs are among the 300 of the same seed; each epoch covers just them; another seed has others."""

    def used(limit: int, seed: int) -> set[int]:
        plan = Plan((PlanTask("t", 1000, 10, limit=limit),), seed=seed)
        epochs = [
            np.concatenate([plan.draws(s)[0].pairs for s in range(e * limit // 10, (e + 1) * limit // 10)])
            for e in (0, 1)
        ]
        assert np.array_equal(np.sort(epochs[0]), np.sort(epochs[1]))
        assert not np.array_equal(*epochs)
        assert len(set(epochs[0].tolist())) == limit
        return set(epochs[0].tolist())

    assert used(100, 1) < used(300, 1)
    assert used(100, 1) != used(100, 2)
    assert max(used(300, 1)) > 900


def test_a_limit_counts_for_shares_and_may_exceed_the_pairs() -> None:
    few = Plan((PlanTask("a", 1000, 4, limit=50), PlanTask("b", 50, 4, limit=50)))
    assert few.shares() == (0.5, 0.5)
    with pytest.raises(ConfigError, match=r"^limit is 1"):
        Plan((PlanTask("a", 1000, 4, limit=1),))


def test_permute_looks_random() -> None:
    """Positions and values are uncorrelated, and keys give different orders."""
    first = permute(np.arange(10_000), size=10_000, key=1)
    second = permute(np.arange(10_000), size=10_000, key=2)
    assert abs(np.corrcoef(np.arange(10_000), first)[0, 1]) < 0.04
    assert (first == second).mean() < 0.002


def test_permute_reaches_100_million_pairs_at_once() -> None:
    size = 100_000_000
    found = permute(np.array([0, 1, size // 2, size - 1]), size=size, key=7)
    assert len(set(found.tolist())) == 4
    assert found.min() >= 0
    assert found.max() < size


@given(
    sizes=st.lists(st.integers(5, 300), min_size=1, max_size=6),
    tasks_per_step=st.one_of(st.none(), st.integers(1, 4)),
    alpha=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_each_epoch_covers_each_pair_once_and_epochs_differ(
    sizes: list[int], tasks_per_step: int | None, alpha: float, seed: int
) -> None:
    plan = plan_of(sizes, tasks_per_step=tasks_per_step, alpha=alpha, seed=seed)
    streams: dict[int, list[tuple[int, int]]] = {i: [] for i in range(len(sizes))}
    for step in range(120):
        for draw in plan.draws(step):
            streams[draw.task] += zip(draw.epochs.tolist(), draw.pairs.tolist(), strict=True)
    for task, stream in streams.items():
        orders = {e: [p for epoch, p in stream if epoch == e] for e in {e for e, _ in stream}}
        complete = [order for e, order in sorted(orders.items()) if e < max(orders)]
        assert all(sorted(order) == list(range(sizes[task])) for order in complete)
        if sizes[task] >= 20 and len(complete) > 1:
            assert complete[0] != complete[1]


def test_a_step_does_not_depend_on_what_was_asked_before() -> None:
    asked_in_order = plan_of([50, 500, 70])
    expected = [asked_in_order.draws(step) for step in range(300)]
    fresh = plan_of([50, 500, 70])
    for step in (299, 3, 150, 0):
        for a, b in zip(expected[step], fresh.draws(step), strict=True):
            assert a.task == b.task
            assert np.array_equal(a.pairs, b.pairs)
            assert np.array_equal(a.epochs, b.epochs)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("tasks_per_step", [1, 2, None])
def test_shares_are_met_in_every_stretch(alpha: float, tasks_per_step: int | None) -> None:
    plan = plan_of([100, 1000, 4000], alpha=alpha, tasks_per_step=tasks_per_step)
    tasks = np.array([draw.task for step in range(600) for draw in plan.draws(step)])
    for start, end in ((0, len(tasks)), (100, 400), (777 % len(tasks), len(tasks))):
        counts = np.bincount(tasks[start:end], minlength=3)
        assert np.abs(counts - np.array(plan.shares()) * (end - start)).max() < 4


def test_equal_shares_put_every_task_in_every_step() -> None:
    plan = plan_of([10, 200, 3000], alpha=0.0)
    assert all(sorted(draw.task for draw in plan.draws(step)) == [0, 1, 2] for step in range(1000))


def test_cap_weights_and_alpha() -> None:
    tasks = (PlanTask("a", 100, 4, weight=2.0), PlanTask("b", 10_000, 4))
    assert Plan(tasks, alpha=1.0, cap=100).shares() == pytest.approx((2 / 3, 1 / 3))
    assert Plan(tasks, alpha=0.5).shares() == pytest.approx((2 / 12, 10 / 12))


@given(seed=st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_positives_are_other_members_of_the_group(seed: int) -> None:
    generator = np.random.default_rng(seed)
    members = [np.sort(generator.choice(100, generator.integers(2, 9), replace=False)) for _ in range(6)]
    groups = group(np.repeat(np.arange(6), [len(m) for m in members]), np.concatenate(members), num_rows=6)
    of = generator.integers(0, 6, 200)
    anchors = np.array([generator.choice(members[g]) for g in of])
    drawn = draw_positives(groups, anchors, of, bits=mix(np.arange(200, dtype=np.uint64) + np.uint64(seed)))
    assert all(p in members[g] and p != a for p, g, a in zip(drawn, of, anchors, strict=True))


def test_positives_are_drawn_evenly() -> None:
    groups = group(np.zeros(4, dtype=np.int64), np.array([3, 5, 8, 9]), num_rows=1)
    keys = mix(np.arange(6000, dtype=np.uint64))
    drawn = draw_positives(groups, np.full(6000, 5), np.zeros(6000, dtype=np.int64), bits=keys)
    assert {p: pytest.approx(2000, abs=150) for p in (3, 8, 9)} == dict(
        zip(*np.unique(drawn, return_counts=True), strict=True)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1.0}, "^alpha is -1.0"),
        ({"cap": 0}, "^cap is 0"),
        ({"tasks_per_step": 0}, "^tasks_per_step is 0"),
        ({"batch_size": 1}, "^batch_size is 1"),
    ],
)
def test_values_that_make_no_plan(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of([10], **options)  # type: ignore[arg-type]


def test_no_tasks_and_no_weight() -> None:
    with pytest.raises(ConfigError, match=r"^tasks is empty"):
        Plan(())
    with pytest.raises(ConfigError, match=r"^weight is 0\.0"):
        PlanTask("a", 10, 4, weight=0.0)


def test_weights_change_at_their_steps_and_no_pair_is_lost() -> None:
    """A pause, a change and a return; each task's stream of pairs goes on where it was."""
    tasks = (
        PlanTask("a", 100, 10, schedule=((40, 0.0), (80, 3.0))),
        PlanTask("b", 70, 7),
    )
    plan = Plan(tasks, alpha=0.0, tasks_per_step=2)
    counts = np.array([np.bincount([d.task for d in plan.draws(step)], minlength=2) for step in range(160)])
    assert counts[:40].sum(axis=0).tolist() == [40, 40]
    assert counts[40:80].sum(axis=0).tolist() == [0, 80]
    assert counts[80:].sum(axis=0).tolist() == [120, 40]
    for task, size in ((0, 100), (1, 70)):
        draws = [d for step in range(160) for d in plan.draws(step) if d.task == task]
        pairs = np.concatenate([d.pairs for d in draws])
        whole = pairs[: len(pairs) // size * size].reshape(-1, size)
        assert all(sorted(epoch) == list(range(size)) for epoch in whole.tolist())


@pytest.mark.parametrize(
    ("schedules", "message"),
    [
        ((((0, 1.0),), ()), "steps of at least 1"),
        ((((5, -1.0),), ()), "weights of 0 or more"),
        ((((5, 0.0),), ((5, 0.0),)), "all tasks have weight 0 from step 5 on"),
    ],
)
def test_bad_schedules_are_refused(schedules: tuple[tuple[tuple[int, float], ...], ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Plan(tuple(PlanTask(n, 10, 2, schedule=s) for n, s in zip("ab", schedules, strict=True))).draws(0)
