"""The table of a comparison (Markdown and JSON) and its plot of quality against size."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
    """An encoder at one number of dimensions; `gains` and `macro_gain` are over the first encoder at full size."""

    encoder: str
    dim: int
    num_bytes: int
    by_task: dict[str, Interval]
    macro: Interval
    gains: dict[str, Interval]
    macro_gain: Interval


def write_report(rows: Sequence[Row], metrics: dict[str, str], folder: Path) -> Path:
    """Write compare.md, compare.json and, if matplotlib is installed, compare.png; return the path of compare.md."""
    write_text(folder / "compare.json", json.dumps([asdict(row) for row in rows], indent=1))
    text = table(rows, metrics)
    try:
        figure = plot(rows)
        with written_whole(folder / "compare.png") as aside:
            figure.savefig(aside, format="png", dpi=120)
        text += "\n![quality against size](compare.png)\n"
    except ImportError:
        log.warning("no plot: matplotlib is not installed (pip install 'mtcl[study]')")
    path = folder / "compare.md"
    write_text(path, text)
    return path


def table(rows: Sequence[Row], metrics: dict[str, str]) -> str:
    """Markdown: the scores, then the differences to the first encoder, with 95 % intervals over items in brackets."""
    tasks = [f"{task} ({metric})" for task, metric in metrics.items()]
    figures, gains = [], []
    first = max((row for row in rows if row.encoder == rows[0].encoder), key=lambda row: row.dim)
    for row in rows:
        levels = [_level(row.by_task[task]) for task in metrics]
        figures.append([row.encoder, f"{row.dim:,}", f"{row.num_bytes:,}", *levels, _level(row.macro)])
        if row is not first:
            gains.append([row.encoder, f"{row.dim:,}", *(str(row.gains[t]) for t in metrics), str(row.macro_gain)])
    text = markdown_table(["encoder", "dimensions", "bytes", *tasks, "macro mean"], figures)
    if gains:
        differences = markdown_table(["encoder", "dimensions", *tasks, "macro mean"], gains)
        text += f"\nMinus {first.encoder} at {first.dim:,} dimensions, item by item:\n\n{differences}"
    return text


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


def _bytes_of(dims: Any) -> Any:
    return dims * BYTES_PER_VALUE


def _dims_of(num_bytes: Any) -> Any:
    return num_bytes / BYTES_PER_VALUE


def _level(interval: Interval) -> str:
    return f"{interval.mean:.4f} [{interval.low:.4f}, {interval.high:.4f}]"
