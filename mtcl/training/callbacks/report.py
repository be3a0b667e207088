"""A run's report: one line at each validation and a table at the end."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from mtcl.console import line_of
from mtcl.evaluation import Result, evaluated_on, primary_of
from mtcl.training.metrics import mean_groups
from mtcl.training.module import MtclModule
from mtcl.training.selection import WEIGHTED_MEAN

if TYPE_CHECKING:
    from rich.table import Table

log = logging.getLogger("mtcl")


Values = dict[str, tuple[str, str, dict[str, float | None]]]
"""By task: what the metric is computed on (1,200 queries), its name, and its value in each column of the table."""


class Report(Callback):
    """Logs a line for the base encoder, for the start and for each validation. Needs an `MtclModule`."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: MtclModule, batch: object, batch_idx: int) -> None:  # type: ignore[override]
        if not trainer.is_global_zero or batch_idx or trainer.global_step:
            return
        origins = {"base encoder": pl_module.run.base_figures, "start": pl_module.run.start_figures}
        for origin, figures in origins.items():
            if figures:
                log.info("step 0: %s (%s)", _said(pl_module.metric_log.means_of("val", figures)), origin)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: MtclModule) -> None:  # type: ignore[override]
        if trainer.is_global_zero and trainer.state.fn == "fit" and not trainer.sanity_checking:
            now = pl_module.metric_log.means_of("val", primary_of(pl_module.results))
            known = {"base": pl_module.run.base_figures, "start": pl_module.run.start_figures}
            over = pl_module.metric_log.means_over
            means = {origin: over(pl_module.results, figures) for origin, figures in known.items()}
            log.info("step %d of %d: %s", trainer.global_step, trainer.max_steps, _said(now, means))


def _said(now: dict[str, float], means: dict[str, dict[str, float]] | None = None) -> str:
    """For example `val/mean 0.6123 (base +0.1021, start +0.0173)`."""

    def against(tag: str) -> str:
        found = [f"{origin} {now[tag] - mean[tag]:+.4f}" for origin, mean in (means or {}).items() if tag in mean]
        return f" ({', '.join(found)})" if found else ""

    return ", ".join(f"{tag} {mean:.4f}{against(tag)}" for tag, mean in now.items())


def fit_table(module: MtclModule) -> Table:
    """The best validation, that of the best checkpoint, compared with the base encoder.

    If the run started from a checkpoint, it is compared with that start: what the run forgot is a negative number.
    """
    run, means_of = module.run, module.metric_log.means_of
    chosen_by = run.selection.tag
    step = max(run.history, key=lambda s: means_of("val", run.history[s])[chosen_by])
    primary = run.history[step]
    columns: dict[str, dict[str, float]] = {"base": run.base_figures}
    if run.start_figures:
        columns = ({"base": run.base_figures} if run.base_figures else {}) | {"start": run.start_figures}
    columns["now"] = primary
    sizes = {pool.name: evaluated_on(pool) for pool in module.data.pools("validation")}
    limits = module.data.pair_limits()
    return comparison(
        {
            name: (
                sizes[name],
                _metric_name(module, name),
                {column: figures.get(name) for column, figures in columns.items()},
            )
            for name in primary
        },
        title=f"validation, best checkpoint (step {step})",
        groups=mean_groups("val", primary, module.data.roles.apart),
        trained_on={name: f"{limit.num_used:,} of {limit.num_whole:,}" for name, limit in limits.items()},
        weighted={chosen_by: {column: means_of("val", columns[column]).get(chosen_by) for column in columns}}
        if chosen_by == WEIGHTED_MEAN
        else {},
    )


def results_table(
    results: dict[str, Result], base: dict[str, Result] | None, *, module: MtclModule, split: str
) -> Table:
    """The results of one evaluation (val or test), compared with the base encoder's if there are any."""
    sizes = {pool.name: evaluated_on(pool) for pool in module.data.pools("validation" if split == "val" else split)}
    values = {
        name: (
            sizes[name],
            _metric_name(module, name),
            {"base": base[name].primary if base else None, "now": result.primary},
        )
        for name, result in results.items()
    }
    return comparison(values, title=split, groups=mean_groups(split, results, module.data.roles.apart))


def comparison(
    values: Values,
    *,
    title: str,
    groups: dict[str, list[str]],
    trained_on: Mapping[str, str] = MappingProxyType({}),
    weighted: Mapping[str, Mapping[str, float | None]] = MappingProxyType({}),
) -> Table:
    """A table of `values` with the macro mean of each group of tasks. The difference is that of the last two columns;
    the last one has a value for every task.

    `trained_on` has the number of training pairs of tasks that do not train on all of theirs; they get a column of
    their own. `weighted` has rows for the end, by their names.
    """
    from rich.table import Table

    columns = list(next(iter(values.values()))[2])
    table = Table(title=title)
    table.add_column("task", no_wrap=True)
    about = ("evaluated on", *["trained on"] * bool(trained_on), "metric")
    for column in about:
        table.add_column(column, justify="right", overflow="fold")
    for column in (*columns, "difference"):
        table.add_column(column, justify="right", no_wrap=True)
    for mean, names in groups.items():
        for name in names:
            items, metric, figures = values[name]
            pairs = [trained_on.get(name, "")] * bool(trained_on)
            table.add_row(name, str(items), *pairs, line_of(metric), *_cells([figures[column] for column in columns]))
        table.add_section()
        means = [_mean([values[name][2][column] for name in names]) for column in columns]
        table.add_row(mean, *[""] * len(about), *_cells(means))
        table.add_section()
    for name, of_column in weighted.items():
        table.add_row(name, *[""] * len(about), *_cells([of_column[column] for column in columns]))
    return table


def _mean(figures: list[float | None]) -> float | None:
    """The mean; None if one of them is missing, since means are compared over the same tasks only."""
    known = [figure for figure in figures if figure is not None]
    return sum(known) / len(known) if len(known) == len(figures) else None


def _cells(figures: list[float | None]) -> list[str]:
    *_, before, now = figures
    difference = "" if before is None or now is None else f"{now - before:+.4f}"
    return [*("" if figure is None else f"{figure:.4f}" for figure in figures), difference]


def _metric_name(module: MtclModule, task: str) -> str:
    return str(module.data.evaluated[task].metric.name)
