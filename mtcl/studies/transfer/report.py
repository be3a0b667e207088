"""The report of a study: Markdown with tables, the same as JSON, plots, and everything for TensorBoard.

It does not depend on when or where the runs were made: the same scores give the same report.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from mtcl.console import markdown_table
from mtcl.files import written_whole
from mtcl.studies.statistics import Interval
from mtcl.studies.transfer.findings import Claim, Comparison, Findings, LevelFindings
from mtcl.studies.transfer.plots import plots_of

HEAD = """# Transfer study

{tasks} trained jointly for {steps:,} steps, {seeds}, evaluated on the {split} splits. Differences are in units of each
task's own metric, from 0 to 1, with 95 % intervals over seeds and items in brackets (see docs/evidence.md).
"""
ONE_SEED = "With one seed the intervals cover the choice of items but not of seeds.\n"


def write_report(findings: Findings, folder: Path) -> Path:
    """Write report.md, report.json, plots and TensorBoard events, all or nothing; replaces an earlier report.

    No other process may write to the folder.
    """
    plots = plots_of(findings)
    text = markdown(findings, images=list(plots))
    with written_whole(folder, alone=True) as aside:
        aside.mkdir()
        for name, figure in plots.items():
            figure.savefig(aside / f"{name}.png", dpi=100)
        (aside / "report.json").write_text(json.dumps(asdict(findings), indent=1), encoding="utf-8")
        (aside / "report.md").write_text(text, encoding="utf-8")
        _write_events(findings, text, aside, images=list(plots))
        shutil.rmtree(folder, ignore_errors=True)  # a folder cannot replace an earlier one
    return folder / "report.md"


def markdown(findings: Findings, *, images: Iterable[str] = ()) -> str:
    """The report as text."""
    seeds = "1 seed" if len(findings.seeds) == 1 else f"{len(findings.seeds)} seeds"
    parts = [HEAD.format(tasks=", ".join(findings.tasks), steps=findings.steps, seeds=seeds, split=findings.split)]
    parts += [ONE_SEED] if len(findings.seeds) == 1 else []
    parts.append(markdown_table(["task", "metric", "training pairs", "part"], _task_rows(findings)))
    for level in findings.levels:
        parts += [f"## {level_name(level)}\n", *_level(level)]
    parts += [f"![{name}]({name}.png)\n" for name in images]
    return "\n".join(parts)


def level_name(level: LevelFindings) -> str:
    """The heading of a data setting."""
    return "All pairs" if level.pairs_per_task is None else f"{level.pairs_per_task:,} pairs per task"


def _level(level: LevelFindings) -> list[str]:
    parts = []
    for comparison in level.comparisons:
        parts.append(f"### {comparison.title[0].upper()}{comparison.title[1:]}\n")
        parts += [_claim(comparison.claim)] if comparison.claim else []
        parts.append(_comparison(comparison))
    tasks = list(next(iter(level.matrix.values()))) if level.matrix else []
    rows = [[arm, *(f"{scores[task]:.4f}" for task in tasks)] for arm, scores in level.matrix.items()]
    parts += ["### Every arm on every task\n", markdown_table(["arm", *tasks], rows)]
    if level.given:
        given = [[task, *(str(row[other]) for other in tasks)] for task, row in level.given.items()]
        parts += [
            "### What each task gives: joint minus the joint run without it\n",
            markdown_table(["task left out", *(f"on {task}" for task in tasks)], given),
        ]
    return parts


def _claim(claim: Claim) -> str:
    margins = ", ".join(f"{task} {margin:g}" for task, margin in claim.margins.items())
    worse = "No task is worse" if claim.is_no_task_worse else f"Not shown to be no worse: {', '.join(claim.failing)}"
    mean = "better" if claim.is_mean_better else "not shown to be better"
    return (
        f"**{worse}** than in the better of its single arms (lower ends of the intervals against the margins, declared "
        f"before: {margins}); **the macro mean is {mean}** (lower end against 0).\n"
    )


def _comparison(comparison: Comparison) -> str:
    rows = [
        [gain.task, gain.against, f"{gain.theirs:.4f}", f"{gain.ours:.4f}", *_interval(gain.interval)]
        for gain in comparison.gains
    ]
    rows.append(["**macro mean**", "", "", "", *_interval(comparison.macro)])
    return markdown_table(["task", "against", "theirs", "ours", "difference", "interval", "independent items"], rows)


def _interval(interval: Interval) -> list[str]:
    return [f"{interval.mean:+.4f}", f"[{interval.low:+.4f}, {interval.high:+.4f}]", f"{interval.num_units:,}"]


def _task_rows(findings: Findings) -> list[list[str]]:
    roles = {"trained": findings.tasks, "held out": findings.held_out}
    return [
        [task, metric, f"{findings.num_train_pairs[task]:,}" if task in findings.num_train_pairs else "", role]
        for role, metrics in roles.items()
        for task, metric in metrics.items()
    ]


def _write_events(findings: Findings, text: str, folder: Path, *, images: list[str]) -> None:
    """Scalars by data setting (the step is the number of pairs, 0 for all), the plots and the report."""
    from matplotlib.image import imread
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for level in findings.levels:
            step = level.pairs_per_task or 0
            for comparison in level.comparisons:
                group = comparison.title.replace(" ", "_").replace(":", "")
                named = {gain.task: gain.interval for gain in comparison.gains} | {"macro_mean": comparison.macro}
                for task, interval in named.items():
                    for end in ("mean", "low", "high"):
                        writer.add_scalar(f"{group}/{task}/{end}", getattr(interval, end), step)
        for name in images:
            writer.add_image(name, imread(folder / f"{name}.png"), dataformats="HWC")
        writer.add_text("report", text)
