"""The table of a comparison (Markdown and JSON) and its plot of quality against size."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtcl.console import markdown_table
from mtcl.files import write_text, written_whole
from mtcl.studies.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BYTES_PER_VALUE = 4
log = logging.getLogger("mtcl")


@dataclass(frozen=True)
class Row:
    """An encoder at one number of dimensions: its levels, or its differences from the encoder `minus`. `fewer` are the
    tasks whose own head has fewer dimensions, with their number.
    """

    encoder: str
    dim: int
    num_bytes: int
    by_task: dict[str, Interval]
    by_group: dict[str, Interval]
    macro: Interval
    minus: str = ""
    fewer: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ComparisonReport:
    """A comparison's results.

    Attributes:
        levels: Every encoder at every number of dimensions.
        gains: The same, but for the first one at its full size, minus that one.
        pairs: The configured pairs of encoders.
        primary: The primary metric's name by task.
        metrics: The values of all metrics by encoder and task, at full size.
    """

    levels: Sequence[Row]
    gains: Sequence[Row]
    pairs: Sequence[Row]
    primary: dict[str, str]
    metrics: dict[str, dict[str, dict[str, float]]]


def write_report(report: ComparisonReport, folder: Path) -> Path:
    """Write compare.md, compare.json and, if matplotlib is installed, plots; return the path of compare.md."""
    write_text(folder / "compare.json", json.dumps(asdict(report), indent=1))
    text = table(report)
    try:
        figures = {"compare.png": ("quality against size", plot(report.levels))}
        if report.gains and len(report.gains[0].by_group) == 2:
            figures["groups.png"] = (" against ".join(reversed(report.gains[0].by_group)), plot_groups(report.gains))
        for name, (title, figure) in figures.items():
            with written_whole(folder / name) as aside:
                figure.savefig(aside, format="png", dpi=120)
            text += f"\n![{title}]({name})\n"
    except ImportError:
        log.warning("no plot: matplotlib is not installed (pip install 'mtcl[study]')")
    path = folder / "compare.md"
    write_text(path, text)
    return path


def table(report: ComparisonReport) -> str:
    """Markdown: the scores, the differences from the first encoder and between the configured pairs, with 95 %
    intervals in brackets, and all metrics.
    """
    groups = list(report.levels[0].by_group)
    head = [*(f"{task} ({metric})" for task, metric in report.primary.items()), *groups, "macro mean"]

    def cells(row: Row, shown: Callable[[Interval], str]) -> list[str]:
        return [shown(row.by_task[t]) for t in report.primary] + [*map(shown, row.by_group.values()), shown(row.macro)]

    levels = [[row.encoder, f"{row.dim:,}", f"{row.num_bytes:,}", *cells(row, _level)] for row in report.levels]
    text = markdown_table(["encoder", "dimensions", "bytes", *head], levels)
    fewer = {(row.encoder, task): dim for row in report.levels for task, dim in row.fewer.items()}
    for (encoder, task), dim in fewer.items():
        text += f"\n{encoder} has a head for {task}: its vectors have {dim:,} dimensions in every row above that.\n"
    if report.gains:
        gains = [[row.encoder, f"{row.dim:,}", *cells(row, str)] for row in report.gains]
        differences = markdown_table(["encoder", "dimensions", *head], gains)
        text += f"\nMinus {report.gains[0].minus}, item by item:\n\n{differences}"
    if report.pairs:
        pairs = [[f"{row.encoder} minus {row.minus}", *cells(row, str)] for row in report.pairs]
        text += f"\nPairs, item by item:\n\n{markdown_table(['encoders', *head], pairs)}"
    encoders = list(report.metrics)
    rows = [
        [task, name, *(f"{report.metrics[encoder][task][name]:.4f}" for encoder in encoders)]
        for task in report.primary
        for name in report.metrics[encoders[0]][task]
    ]
    return text + f"\nAll metrics, at full size:\n\n{markdown_table(['task', 'metric', *encoders], rows)}"


def plot(rows: Sequence[Row]) -> Figure:
    """Macro mean with its interval against dimensions; the upper axis has bytes per float32 vector."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    panel = figure.subplots()
    for name in dict.fromkeys(row.encoder for row in rows):
        own = sorted((row for row in rows if row.encoder == name), key=lambda row: row.dim)
        means = np.array([row.macro.mean for row in own])
        ends = np.abs(np.array([[row.macro.low, row.macro.high] for row in own]).T - means)
        panel.errorbar([row.dim for row in own], means, yerr=ends, marker="o", capsize=3, label=name)
    panel.set_xscale("log", base=2)
    panel.set_xlabel("dimensions")
    panel.set_ylabel("macro mean, with 95 % interval")
    above = panel.secondary_xaxis("top", functions=(_bytes_of, _dims_of))
    above.set_xlabel("bytes per vector (float32)")
    panel.legend(fontsize=8)
    return figure


def plot_groups(gains: Sequence[Row]) -> Figure:
    """The gain of the second group against that of the first, with intervals: up and to the right is better."""
    from matplotlib.figure import Figure

    across, up = gains[0].by_group
    figure = Figure(figsize=(6, 5), layout="constrained")
    panel = figure.subplots()
    panel.axhline(0, color="grey", linewidth=0.8)
    panel.axvline(0, color="grey", linewidth=0.8)
    for row in gains:
        x, y = row.by_group[across], row.by_group[up]
        panel.errorbar(
            [x.mean],
            [y.mean],
            xerr=[[x.mean - x.low], [x.high - x.mean]],
            yerr=[[y.mean - y.low], [y.high - y.mean]],
            marker="o",
            capsize=3,
            label=f"{row.encoder}, {row.dim:,}",
        )
    panel.set_xlabel(f"{across}: mean minus {gains[0].minus}, 95 % interval")
    panel.set_ylabel(f"{up}: the same")
    panel.legend(fontsize=8)
    return figure


def _bytes_of(dims: Any) -> Any:
    return dims * BYTES_PER_VALUE


def _dims_of(num_bytes: Any) -> Any:
    return num_bytes / BYTES_PER_VALUE


def _level(interval: Interval) -> str:
    return f"{interval.mean:.4f} [{interval.low:.4f}, {interval.high:.4f}]"
