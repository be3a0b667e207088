"""What a run says in words: a line at each validation and a table at the end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from mtcl.board import mean_tag
from mtcl.evaluation import Result, macro_mean

if TYPE_CHECKING:
    from rich.table import Table

    from mtcl.module import MtclModule

log = logging.getLogger("mtcl")


class Report(Callback):
    """Needs an `MtclModule`."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: MtclModule, batch: object, batch_idx: int) -> None:  # type: ignore[override]
        if trainer.is_global_zero and batch_idx == 0 and trainer.global_step == 0:
            base = sum(pl_module.base.values()) / len(pl_module.base)
            log.info("step 0: val/mean %.4f (base encoder)", base)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: MtclModule) -> None:  # type: ignore[override]
        if trainer.is_global_zero and trainer.state.fn == "fit" and pl_module.base:
            mean, base = macro_mean(pl_module.results), sum(pl_module.base.values()) / len(pl_module.base)
            log.info(
                "step %d of %d: val/mean %.4f (base %+.4f)", trainer.global_step, trainer.max_steps, mean, mean - base
            )


def fit_table(module: MtclModule) -> Table:
    """Base against the best validation: the checkpoint a user would take on."""
    step = max(module.history, key=lambda s: sum(module.history[s].values()))
    rows = {name: len(module.data.store(name, "validation")) for name in module.base}
    return comparison(
        {
            name: (rows[name], _metric_name(module, name), module.base[name], now)
            for name, now in module.history[step].items()
        },
        title=f"validation, best checkpoint (step {step})",
        mean=mean_tag("val"),
    )


def results_table(
    results: dict[str, Result], base: dict[str, Result] | None, *, module: MtclModule, split: str
) -> Table:
    """Results of one evaluation, against those of the base encoder where there are any."""
    values = {
        name: (result.num_queries, _metric_name(module, name), base[name].primary if base else None, result.primary)
        for name, result in results.items()
    }
    return comparison(values, title=split, mean=mean_tag(split))


def comparison(values: dict[str, tuple[int, str, float | None, float]], *, title: str, mean: str) -> Table:
    """A table of task -> (rows, metric, base, now), and their macro mean."""
    from rich.table import Table

    table = Table(title=title)
    table.add_column("task")
    for column in ("rows", "metric", "base", "now", "difference"):
        table.add_column(column, justify="right")
    for name, (rows, metric, base, now) in values.items():
        table.add_row(name, f"{rows:,}", metric, *_figures(base, now))
    bases = [base for _, _, base, _ in values.values() if base is not None]
    nows = [now for _, _, _, now in values.values()]
    table.add_section()
    table.add_row(mean, "", "", *_figures(sum(bases) / len(bases) if bases else None, sum(nows) / len(nows)))
    return table


def _figures(base: float | None, now: float) -> tuple[str, str, str]:
    if base is None:
        return "", f"{now:.4f}", ""
    return f"{base:.4f}", f"{now:.4f}", f"{now - base:+.4f}"


def _metric_name(module: MtclModule, task: str) -> str:
    return str(module.data.tasks[task].metric.name)
