"""A run's report: one line at each validation and a table at the end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from mtcl.evaluation import Result, primary_of
from mtcl.training.metrics import VAL_MEAN, mean_groups

if TYPE_CHECKING:
    from rich.table import Table

    from mtcl.training.module import MtclModule

log = logging.getLogger("mtcl")


class Report(Callback):
    """Logs a line for the base encoder and for each validation. Needs an `MtclModule`."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: MtclModule, batch: object, batch_idx: int) -> None:  # type: ignore[override]
        if trainer.is_global_zero and batch_idx == 0 and trainer.global_step == 0 and pl_module.base.figures:
            base = pl_module.metric_log.means_of("val", pl_module.base.figures)
            log.info("step 0: %s (base encoder)", ", ".join(f"{tag} {mean:.4f}" for tag, mean in base.items()))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: MtclModule) -> None:  # type: ignore[override]
        if trainer.is_global_zero and trainer.state.fn == "fit" and not trainer.sanity_checking:
            now = pl_module.metric_log.means_of("val", primary_of(pl_module.results))
            base = pl_module.metric_log.base_means(pl_module.results)
            against = {tag: f" (base {now[tag] - mean:+.4f})" for tag, mean in base.items()}
            said = ", ".join(f"{tag} {mean:.4f}{against.get(tag, '')}" for tag, mean in now.items())
            log.info("step %d of %d: %s", trainer.global_step, trainer.max_steps, said)


def fit_table(module: MtclModule) -> Table:
    """The best validation, that of the best checkpoint, compared with the base encoder."""
    step = max(module.history, key=lambda s: module.metric_log.means_of("val", module.history[s])[VAL_MEAN])
    primary = module.history[step]
    rows = {name: len(module.data.store(name, "validation")) for name in primary}
    return comparison(
        {
            name: (rows[name], _metric_name(module, name), module.base.figures.get(name), now)
            for name, now in primary.items()
        },
        title=f"validation, best checkpoint (step {step})",
        groups=mean_groups("val", primary, module.data.held_out),
    )


def results_table(
    results: dict[str, Result], base: dict[str, Result] | None, *, module: MtclModule, split: str
) -> Table:
    """The results of one evaluation, compared with the base encoder's if there are any."""
    values = {
        name: (result.num_items, _metric_name(module, name), base[name].primary if base else None, result.primary)
        for name, result in results.items()
    }
    return comparison(values, title=split, groups=mean_groups(split, results, module.data.held_out))


def comparison(
    values: dict[str, tuple[int, str, float | None, float]], *, title: str, groups: dict[str, list[str]]
) -> Table:
    """A table of `values`, task -> (rows, metric, base, now), with the macro mean of each group of tasks."""
    from rich.table import Table

    table = Table(title=title)
    table.add_column("task")
    for column in ("rows", "metric", "base", "now", "difference"):
        table.add_column(column, justify="right")
    for mean, names in groups.items():
        for name in names:
            rows, metric, base, now = values[name]
            table.add_row(name, f"{rows:,}", metric, *_figures(base, now))
        bases = [base for _, _, base, _ in map(values.__getitem__, names) if base is not None]
        nows = [now for _, _, _, now in map(values.__getitem__, names)]
        of_all = sum(bases) / len(bases) if len(bases) == len(nows) else None
        table.add_section()
        table.add_row(mean, "", "", *_figures(of_all, sum(nows) / len(nows)))
        table.add_section()
    return table


def _figures(base: float | None, now: float) -> tuple[str, str, str]:
    if base is None:
        return "", f"{now:.4f}", ""
    return f"{base:.4f}", f"{now:.4f}", f"{now - base:+.4f}"


def _metric_name(module: MtclModule, task: str) -> str:
    return str(module.data.evaluated[task].metric.name)
