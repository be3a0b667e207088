"""Shows a run in TensorBoard beyond its scalars. Only the first process works, and nothing here changes the training.

At the start: command, configuration, data report, HParams, and a link with the useful cards pinned. At each validation,
from the vectors that the evaluation has just computed: pictures, histograms, PR curves, nearest neighbours, and the
projector's files. So no text is embedded for the board alone, except the sampled points of tasks with a head of their
own, whose validation has other vectors.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any, get_args

import lightning.pytorch as pl
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from mtcl.arrays import IntArray
from mtcl.errors import ConfigError
from mtcl.evaluation.pool import Pool, Result
from mtcl.training.board import exposure, hparams, pictures, points, texts
from mtcl.training.board.drawing import Image
from mtcl.training.board.gains import Gain, gain_of
from mtcl.training.board.judging import Judging
from mtcl.training.board.names import (
    EXPOSURE,
    GAIN_BY_TASK,
    GRADIENT_COSINES,
    SIMILARITY,
    Level,
    deep_link,
    in_summary,
    of_task,
)
from mtcl.training.board.neighbours import Neighbours, markdown, neighbours_of
from mtcl.training.board.projector import AFTER, BEFORE, Projector
from mtcl.training.board.spread import BINS, DRIFT_BINS, Spread, spread_of
from mtcl.training.board.start import BoardStart
from mtcl.training.metrics import VAL_GAIN, VAL_MEAN
from mtcl.training.module import MtclModule
from mtcl.training.vectors import Evaluated

log = logging.getLogger("mtcl")


class Board(Callback):
    """Needs an `MtclModule`. Without a `TensorBoardLogger` it only sets how many scalars are logged.

    Args:
        folder: The run's folder, for what a resumed run compares with, and for the projector's files.
        level: `lean` or `full`.
        config_text: The configuration to show; made from the module and the data if None.
    """

    def __init__(self, folder: Path, level: Level = "full", config_text: str | None = None) -> None:
        if level not in get_args(Level):
            raise ConfigError(f"board is {level!r}: give {' or '.join(get_args(Level))}, or null for scalars only")
        self.folder, self.level, self.text = folder, level, config_text
        self._drawn: dict[str, int] = {}
        self._has_hparams = self._is_begun = False
        self._start, self._projector = BoardStart(), Projector(folder)
        self._clear()

    def _clear(self) -> None:
        """Forget the values of the last validation."""
        self._results: dict[str, Result] = {}
        self._neighbours: dict[str, Neighbours] = {}
        self._spreads: dict[str, Spread] = {}
        self._vectors: dict[str, Tensor] = {}

    # State

    def state_dict(self) -> dict[str, Any]:
        return {"pairs_drawn": dict(self._drawn), "has_hparams": self._has_hparams}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        drawn = state_dict.get("pairs_drawn")
        if isinstance(drawn, dict) and all(isinstance(count, int) for count in drawn.values()):
            self._drawn = {str(task): count for task, count in drawn.items()}
        self._has_hparams = state_dict.get("has_hparams") is True

    # Start of a run

    def on_train_start(self, trainer: pl.Trainer, pl_module: MtclModule) -> None:  # type: ignore[override]
        """Before the module's own hook, which evaluates the weights that the run starts from."""
        if trainer.global_step == 0:
            self._drawn, self._has_hparams, self._start = {}, False, BoardStart()
        pl_module.metric_log.set_level(self.level)
        pl_module.metric_log.pairs_drawn = self._drawn
        self._is_begun = False
        self._trainer, self._module = trainer, pl_module
        self._points: dict[str, IntArray] = {}
        self._judging: dict[str, Judging] = {}
        self._described: dict[str, list[points.Point]] = {}
        if self.level == "full" and _writer(trainer) is not None and trainer.is_global_zero:
            self._points = points.sample(pl_module.data.pools("validation"))
            pl_module.vectors.watchers.append(self._see)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: MtclModule, batch: object, batch_idx: int) -> None:  # type: ignore[override]
        """Not earlier, so that a run that is refused before its first step leaves no files."""
        if self._is_begun:
            return
        self._is_begun = True
        writer = _writer(trainer)
        if writer is None or not trainer.is_global_zero:
            return
        self._show_texts(writer, pl_module)
        if not self._has_hparams:
            self._show_hparams(writer, pl_module)
        if self._points:
            self._keep_start(pl_module.data.pools("validation"))
        if trainer.max_steps > trainer.global_step:
            log.info(
                "charts, with `tensorboard --logdir %s` running: %s",
                self.folder.parent,
                deep_link(self.folder.name, level=self.level),
            )

    def on_fit_end(self, trainer: pl.Trainer, pl_module: MtclModule) -> None:  # type: ignore[override]
        self._leave(pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: MtclModule, exception: BaseException) -> None:  # type: ignore[override]
        self._leave(pl_module)

    def _leave(self, module: MtclModule) -> None:
        if self._see in module.vectors.watchers:
            module.vectors.watchers.remove(self._see)
        self._clear()

    def _show_texts(self, writer: Any, module: MtclModule) -> None:
        step = module.global_step
        writer.add_text("run/command", texts.command(sys.argv), step)
        writer.add_text("run/configuration", texts.configuration(self.text or module.config_text()), step)
        writer.add_text("run/data", texts.data_report(module.data), step)

    def _show_hparams(self, writer: Any, module: MtclModule) -> None:
        names, evaluated = module.metric_log.names, module.data.stores.evaluated_in("validation")
        tags = [in_summary(VAL_MEAN), *([in_summary(VAL_GAIN)] if module.run.base_figures else [])]
        tags += [names.primary_on_board(task) for task in evaluated]
        values = hparams.hparams(yaml.safe_load(module.config_text()))
        for message in hparams.summaries(values, [tag for tag in tags if tag]):
            writer.file_writer.add_summary(message)
        self._has_hparams = True

    def _keep_start(self, pools: list[Pool]) -> None:
        """Write the values of the start's evaluation; in a resumed run, read them."""
        self._described = {pool.name: points.described(pool, self._points[pool.name]) for pool in pools}
        if self._module.global_step == 0:
            self._start.write(self.folder, pools)
            if self._start.vectors:
                self._write_points(BEFORE, self._start.vectors)
            else:
                log.info("the board has no start to compare with: the weights were not evaluated before the first step")
            return
        self._start = BoardStart.read(self.folder, pools)
        known = [name for name in self._points if self._points[name].size]
        before = self._projector.read(BEFORE, [point for name in known for point in self._described[name]])
        if before is not None:
            parts = torch.split(before, [len(self._points[name]) for name in known])
            self._start.vectors = dict(zip(known, parts, strict=True))

    # Validation

    def _see(self, evaluated: Evaluated) -> None:
        """Compute what the board shows from a pool's vectors, so that they need not be kept."""
        trainer, pool = self._trainer, evaluated.pool
        if not evaluated.is_own or trainer.sanity_checking or pool.name not in self._points:
            return
        if not trainer.validating and trainer.global_step:
            return
        if pool.name not in self._judging:
            self._judging[pool.name] = Judging(pool)
        judging = self._judging[pool.name]
        neighbours = neighbours_of(judging, evaluated.vectors, evaluated.result)
        chosen = self._points[pool.name]
        if evaluated.head is None:
            vectors = evaluated.vectors.of(chosen)
        else:
            vectors = self._module.vectors.embed(pool.store.tokens.take(chosen))
        if not trainer.validating:
            self._start.items[pool.name] = evaluated.result.items
            self._start.neighbours[pool.name] = neighbours
            self._start.vectors[pool.name] = vectors
            return
        self._results[pool.name], self._neighbours[pool.name] = evaluated.result, neighbours
        self._spreads[pool.name] = spread_of(judging, evaluated.vectors, evaluated.result)
        self._vectors[pool.name] = vectors

    def on_validation_end(self, trainer: pl.Trainer, pl_module: MtclModule) -> None:  # type: ignore[override]
        writer = _writer(trainer)
        if trainer.state.fn != "fit" or trainer.sanity_checking or not self._results or writer is None:
            return
        step = trainer.global_step
        self._show_pictures(writer, pl_module, step)
        for name, spread in self._spreads.items():
            self._show_task(writer, name, spread, step)
        self._write_points(AFTER, self._vectors)
        self._clear()

    def _show_pictures(self, writer: Any, module: MtclModule, step: int) -> None:
        def show(tag: str, image: Image) -> None:
            writer.add_image(tag, image, step, dataformats="HWC")

        names = list(self._results)
        if gains := self._gains(module):
            over = "start" if module.run.start_figures else "base encoder"
            show(GAIN_BY_TASK, pictures.gain_by_task(gains, over=over, step=step))
        done = step * int(module.trainer.accumulate_grad_batches)
        show(EXPOSURE, pictures.exposure(exposure.exposures(module.data.plan, self._drawn, num_steps=done), step=step))
        if len(names) > 1:
            show(SIMILARITY, pictures.similarity(names, points.similarity(self._vectors), step=step))
        if sums := module.metric_log.take_cosines():
            trained = [name for name in module.data.tasks if any(name in pair for pair in sums)]
            values_KK = pictures.mean_cosines(sums, trained)
            show(GRADIENT_COSINES, pictures.gradient_cosines(trained, values_KK, step=step))

    def _gains(self, module: MtclModule) -> dict[str, Gain]:
        """Each task's gain over the start: with an interval if the items of the start are known."""
        figures = module.run.start_figures or module.run.base_figures
        found: dict[str, Gain] = {}
        for name, result in self._results.items():
            pool, start = self._judging[name].pool, self._start.items.get(name)
            gain = gain_of(pool, start, result.items) if start is not None else None
            if gain is None and name in figures:
                gain = Gain(result.primary - figures[name])
            if gain is not None:
                found[name] = gain
        return found

    def _show_task(self, writer: Any, name: str, spread: Spread, step: int) -> None:
        for what, cosines in spread.cosines.items():
            if len(cosines):
                tag = of_task(name, f"val_cosine_{what}")
                writer.add_histogram(tag, cosines.clip(BINS[0], BINS[-1]), step, bins=BINS)
        if (start := self._start.vectors.get(name)) is not None and start.shape == self._vectors[name].shape:
            moved = points.drift(start, self._vectors[name])
            writer.add_histogram(of_task(name, "val_drift_from_start"), moved, step, bins=DRIFT_BINS)
        if spread.labels_P is not None and spread.cosines_P is not None:
            shares = (1 + spread.cosines_P.clip(-1, 1)) / 2
            writer.add_pr_curve(of_task(name, "val_pr_curve"), spread.labels_P, shares, step)
        table = markdown(self._judging[name], self._start.neighbours.get(name), self._neighbours[name])
        writer.add_text(of_task(name, "val_neighbours"), table, step)

    def _write_points(self, name: str, vectors: dict[str, Tensor]) -> None:
        known = [task for task in self._points if task in vectors and self._points[task].size]
        if known:
            rows = [point for task in known for point in self._described[task]]
            self._projector.write(name, torch.cat([vectors[task].float() for task in known]), rows)


def _writer(trainer: pl.Trainer) -> Any:
    """The event writer of the first `TensorBoardLogger`; None if there is none."""
    return next((logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)), None)
