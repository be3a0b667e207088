"""How often the intervals of `studies.statistics` contain a known effect, and how often they claim a gain without one.

python -m tests.benchmarks.coverage     # the table of docs/evidence.md, 10 minutes on one core

The benchmark simulates the difference of two arms: effect + a part of the seed + a part of the item (the same for all
seeds) + a part of both. An item's score has variance 1 without the seed's part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mtcl.console import markdown_head, markdown_row
from mtcl.studies.statistics import Differences, Interval, bootstrap

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """A simulated design. `seed_variance` is the variance of the seed's part, in units of an item's variance. `shared`
    is the share of an item's variance that is the same for all seeds. `kind` of scores: normal, skewed (reciprocal
    ranks) or hits (right or wrong). `cluster_size` items have half of their own part in common."""

    seeds: int
    items: int
    seed_variance: float
    shared: float
    kind: str = "normal"
    cluster_size: int = 1


@dataclass(frozen=True)
class Rates:
    """Shares of simulated studies whose interval contains the truth, and whose interval is above it (a false gain)."""

    covered: float
    false_gain: float


def grid() -> Iterator[Setting]:
    for cluster_size in (1, 4, 10, 16, 25):  # the interval of one seed does not cover others
        yield Setting(1, 100, 0.0, 0.0, cluster_size=cluster_size)
    for seeds in (3, 5):
        for items in (100, 500):
            for shared in (0.0, 0.5, 0.9):
                for seed_variance in (0.0, 1 / items, 3 / items, 10 / items, 1.0):
                    yield Setting(seeds, items, seed_variance, shared)
            for kind in ("skewed", "hits"):
                for seed_variance in (0.0, 3 / items):
                    yield Setting(seeds, items, seed_variance, 0.5, kind)
            for cluster_size in (4, items // 10, items // 6):
                for seed_variance in (0.0, 3 / items):
                    yield Setting(seeds, items, seed_variance, 0.5, cluster_size=cluster_size)


def simulate(setting: Setting, generator: np.random.Generator) -> Differences:
    """One study whose true effect is 0."""
    shape = (setting.seeds, setting.items)
    clusters = np.arange(setting.items) // setting.cluster_size
    together = generator.normal(size=setting.items)[clusters] if setting.cluster_size > 1 else 0.0
    item = np.sqrt(0.5) * together + np.sqrt(0.5) * generator.normal(size=setting.items)
    item = item if setting.cluster_size > 1 else generator.normal(size=setting.items)
    normal = np.sqrt(setting.shared) * item + np.sqrt(1 - setting.shared) * generator.normal(size=shape)
    scores = _shaped(normal, setting.kind)
    scores = scores + np.sqrt(setting.seed_variance) * generator.normal(size=(setting.seeds, 1))
    return Differences(scores, clusters if setting.cluster_size > 1 else None)


def rates(setting: Setting, *, num_studies: int, num_draws: int = 1000, seed: int = 0, truth: float = 0.0) -> Rates:
    generator = np.random.default_rng(seed)
    found: list[Interval] = []
    for number in range(num_studies):
        shifted = simulate(setting, generator)
        shifted = Differences(shifted.scores_SI + truth, shifted.clusters_I)
        found.append(bootstrap(shifted, num_draws=num_draws, seed=number))
    above = float(np.mean([interval.low > truth for interval in found]))
    below = float(np.mean([interval.high < truth for interval in found]))
    return Rates(1 - above - below, above)


def plain_coverage(setting: Setting, *, num_studies: int, num_draws: int = 500, seed: int = 0) -> float:
    """The same for the textbook bootstrap, which also resamples the few seeds."""
    generator = np.random.default_rng(seed)
    held = 0
    for _ in range(num_studies):
        scores_SI = simulate(setting, generator).scores_SI
        items_BI = generator.integers(setting.items, size=(num_draws, setting.items))
        seeds_BS = generator.integers(setting.seeds, size=(num_draws, setting.seeds))
        means_BS = np.stack([row_I[items_BI].mean(axis=1) for row_I in scores_SI], axis=1)
        low, high = np.quantile(np.take_along_axis(means_BS, seeds_BS, axis=1).mean(axis=1), [0.025, 0.975])
        held += low <= 0 <= high
    return held / num_studies


def _shaped(normal_SI: Floats, kind: str) -> Floats:
    """Scores with mean 0 and variance about 1, monotone in the normal scores."""
    if kind == "skewed":
        return (np.exp(normal_SI) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)
    if kind == "hits":  # 5 % of items won, 5 % lost, the others equal
        edge = 1.6448536
        return ((normal_SI > edge).astype(np.float64) - (normal_SI < -edge)) / np.sqrt(0.1)
    return normal_SI


def main() -> None:
    figures = ["covered", "false gain", "plain covers"]
    print(markdown_head(["seeds", "items", "scores", "seed variance x items", "shared", "cluster", *figures]))
    for number, s in enumerate(grid()):
        found = rates(s, num_studies=2000, seed=number)
        plain = f"{plain_coverage(s, num_studies=500, seed=number):.3f}" if s.cluster_size == 1 else ""
        variance = f"{s.seed_variance * s.items:g}"
        shown = [f"{found.covered:.3f}", f"{found.false_gain:.3f}", plain]
        print(markdown_row([s.seeds, s.items, s.kind, variance, s.shared, s.cluster_size, *shown]), flush=True)


if __name__ == "__main__":
    main()
