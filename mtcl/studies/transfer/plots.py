"""Plots of a study: gains by task with intervals, the matrix of transfer, and learning curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mtcl.errors import ConfigError
from mtcl.studies.transfer.findings import Comparison, Findings, LevelFindings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVES = {
    "joint": "joint",
    "joint_then_single": "joint, then the task alone",
    "single_data": "single, equal own data",
    "single_compute": "single, equal compute",
}


def plots_of(findings: Findings) -> dict[str, Figure]:
    """Figures by file name without extension."""
    figures = {}
    for level in findings.levels:
        suffix = "" if len(findings.levels) == 1 else f"-{level.pairs_per_task or 'all'}"
        if level.comparisons:
            figures[f"gains{suffix}"] = gains_plot(level.comparisons)
        if reference(level) and len(level.matrix) > 1:
            figures[f"matrix{suffix}"] = matrix_plot(level)
    if len(findings.levels) > 1:
        figures["curves"] = curves_plot(findings)
    return figures


def gains_plot(comparisons: tuple[Comparison, ...]) -> Figure:
    """One panel per comparison: difference and interval of each task and of the macro mean."""
    heights = [len(comparison.gains) + 1 for comparison in comparisons]
    figure = new_figure(7, 0.9 * len(comparisons) + 0.3 * sum(heights))
    axes = figure.subplots(len(comparisons), 1, squeeze=False, height_ratios=heights)[:, 0]
    for panel, comparison in zip(axes, comparisons, strict=True):
        intervals = [gain.interval for gain in comparison.gains] + [comparison.macro]
        means = np.array([interval.mean for interval in intervals])
        ends = np.abs(np.array([[i.low, i.high] for i in intervals]).T - means)
        places = -np.arange(len(intervals))
        panel.errorbar(means, places, xerr=ends, fmt="o", capsize=3)
        panel.axvline(0, color="gray", linewidth=0.8)
        panel.set_yticks(places, [*(gain.task for gain in comparison.gains), "macro mean"])
        panel.set_title(comparison.title, fontsize=10)
    axes[-1].set_xlabel("difference, with 95 % interval")
    return figure


def matrix_plot(level: LevelFindings) -> Figure:
    """Each arm's gain over the base encoder on each task."""
    base = reference(level)
    arms = [arm for arm in level.matrix if arm != base]
    tasks = list(level.matrix[base])
    gain = np.array([[level.matrix[arm][task] - level.matrix[base][task] for task in tasks] for arm in arms])
    figure = new_figure(2.5 + 0.9 * len(tasks), 1.5 + 0.32 * len(arms))
    panel = figure.subplots()
    most = max(float(np.abs(gain).max()), 1e-6)
    image = panel.imshow(gain, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
    panel.set_xticks(range(len(tasks)), tasks, rotation=45, ha="right", fontsize=8)
    panel.set_yticks(range(len(arms)), arms, fontsize=8)
    for row, column in np.ndindex(gain.shape):
        color = "white" if abs(gain[row, column]) > 0.6 * most else "black"
        panel.text(column, row, f"{100 * gain[row, column]:+.1f}", ha="center", va="center", fontsize=7, color=color)
    panel.set_title(f"points gained over {base}", fontsize=10)
    figure.colorbar(image)
    return figure


def curves_plot(findings: Findings) -> Figure:
    """One panel per task: scores of the arms against their number of training pairs of the task."""
    tasks = list(findings.tasks)
    figure = new_figure(3.2 * len(tasks), 3)
    for panel, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        _curves(panel, findings, task)
    panel.legend(fontsize=7)
    return figure


def _curves(panel: Axes, findings: Findings, task: str) -> None:
    most = findings.num_train_pairs[task]
    levels = sorted(findings.levels, key=lambda level: level.pairs_per_task or most)
    pairs = [min(level.pairs_per_task or most, most) for level in levels]
    for kind, label in CURVES.items():
        arm = kind if kind == "joint" else f"{kind}-{task}"
        if arm in levels[0].matrix:
            panel.plot(pairs, [level.matrix[arm][task] for level in levels], marker="o", label=label)
    if base := reference(levels[0]):
        panel.axhline(levels[0].matrix[base][task], color="gray", linestyle=":", label=base)
    panel.set_xscale("log")
    panel.set_xlabel("pairs per task")
    panel.set_title(f"{task} ({findings.tasks[task]})", fontsize=10)


def reference(level: LevelFindings) -> str:
    """The base arm that gains are relative to; "" if the study has none."""
    return next((arm for arm in ("base", "base_pca") if arm in level.matrix), "")


def new_figure(width: float, height: float) -> Figure:
    """A figure of this size in inches that needs no screen."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("plots need matplotlib: pip install 'mtcl[study]'") from error
    return Figure(figsize=(width, height), layout="constrained")
