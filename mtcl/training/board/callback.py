"""Shows a run in TensorBoard beyond its scalars. Only the first process works, and nothing here changes the training.

At the start: command, configuration, data report, HParams, and a link with the useful cards pinned. At each validation,
from the vectors that the evaluation has just computed: pictures, histograms, PR curves, nearest neighbours, and the
projector's files. So no text is embedded for the board alone, except the sampled points of tasks with a head of their
own, whose validation has other vectors.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import lightning.pytorch as pl
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from mtcl.errors import ConfigError
from mtcl.training.board import exposure, hparams, pictures, points, texts
from mtcl.training.board.drawing import Image
from mtcl.training.board.gains import Gain, gain_of
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
from mtcl.training.board.neighbours import markdown, neighbours_of
from mtcl.training.board.projector import AFTER, BEFORE, Projector
from mtcl.training.board.spread import BINS, DRIFT_BINS, spread_of
from mtcl.training.board.start import read_start, write_start
from mtcl.training.board.watched import Before, Now, Watched
from mtcl.training.evaluation import Evaluated
from mtcl.training.metrics import VAL_GAIN, VAL_MEAN
from mtcl.training.module import MtclModule

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
        self._projector = Projector(folder)
        self._watched: dict[str, Watched] = {}
        self._start: dict[str, Before] = {}
        self._now: dict[str, Now] = {}

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
            self._drawn, self._has_hparams, self._start = {}, False, {}
        pl_module.metric_log.set_level(self.level)
        pl_module.metric_log.pairs_drawn = self._drawn
        self._is_begun = False
        self._trainer, self._module = trainer, pl_module
        self._watched = {}
        if self.level == "full" and _writer(trainer) is not None and trainer.is_global_zero:
            pools = pl_module.data.pools("validation")
            sampled = points.sample(pools)
            self._watched = {pool.name: Watched(pool, sampled[pool.name]) for pool in pools}
            pl_module.evaluation.watchers.append(self._see)

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
        if self._watched:
            self._keep_start()
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
        if self._see in module.evaluation.watchers:
            module.evaluation.watchers.remove(self._see)
        self._now = {}

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

    def _keep_start(self) -> None:
        """Write the values of the start's evaluation; in a resumed run, read them."""
        pools = [watched.pool for watched in self._watched.values()]
        if self._module.global_step == 0:
            write_start(self.folder, pools, self._start)
            if self._start:
                self._write_points(BEFORE, self._start)
            else:
                log.info("the board has no start to compare with: the weights were not evaluated before the first step")
            return
        self._start = read_start(self.folder, pools)
        sampled = [watched for watched in self._watched.values() if watched.points.size]
        before_ND = self._projector.read(BEFORE, [point for watched in sampled for point in watched.described])
        if before_ND is not None:
            parts = torch.split(before_ND, [len(watched.points) for watched in sampled])
            for watched, vectors_TD in zip(sampled, parts, strict=True):
                name = watched.pool.name
                if name in self._start:
                    self._start[name] = replace(self._start[name], vectors_TD=vectors_TD)

    # Validation

    def _see(self, evaluated: Evaluated) -> None:
        """Compute what the board shows from a pool's vectors, so that they need not be kept."""
        trainer, watched = self._trainer, self._watched.get(evaluated.pool.name)
        if watched is None or not evaluated.is_own or trainer.sanity_checking:
            return
        if not trainer.validating and trainer.global_step:
            return
        name, result = evaluated.pool.name, evaluated.result
        neighbours = neighbours_of(watched.judging, evaluated.vectors, result)
        if evaluated.head is None:
            vectors_TD = evaluated.vectors.of(watched.points)
        else:
            vectors_TD = self._module.run_encoder.embed(watched.pool.store.tokens.take(watched.points))
        if trainer.validating:
            spread = spread_of(watched.judging, evaluated.vectors, result)
            self._now[name] = Now(result, neighbours, spread, vectors_TD)
        else:
            self._start[name] = Before(result.items, neighbours, vectors_TD)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: MtclModule) -> None:  # type: ignore[override]
        writer = _writer(trainer)
        if trainer.state.fn != "fit" or trainer.sanity_checking or not self._now or writer is None:
            return
        step = trainer.global_step
        self._show_pictures(writer, pl_module, step)
        for name, now in self._now.items():
            self._show_task(writer, name, now, step)
        self._write_points(AFTER, self._now)
        self._now = {}

    def _show_pictures(self, writer: Any, module: MtclModule, step: int) -> None:
        def show(tag: str, image: Image) -> None:
            writer.add_image(tag, image, step, dataformats="HWC")

        if gains := self._gains(module):
            over = "start" if module.run.start_figures else "base encoder"
            show(GAIN_BY_TASK, pictures.gain_by_task(gains, over=over, step=step))
        done = step * int(module.trainer.accumulate_grad_batches)
        show(EXPOSURE, pictures.exposure(exposure.exposures(module.data.plan, self._drawn, num_steps=done), step=step))
        if len(self._now) > 1:
            vectors = {name: now.vectors_TD for name, now in self._now.items()}
            show(SIMILARITY, pictures.similarity(list(vectors), points.similarity(vectors), step=step))
        if sums := module.metric_log.take_cosines():
            trained = [name for name in module.data.tasks if any(name in pair for pair in sums)]
            values_KK = pictures.mean_cosines(sums, trained)
            show(GRADIENT_COSINES, pictures.gradient_cosines(trained, values_KK, step=step))

    def _gains(self, module: MtclModule) -> dict[str, Gain]:
        """Each task's gain over the start: with an interval if the items of the start are known."""
        figures = module.run.start_figures or module.run.base_figures
        found: dict[str, Gain] = {}
        for name, now in self._now.items():
            start = self._start.get(name)
            gain = gain_of(self._watched[name].pool, start.items, now.result.items) if start is not None else None
            if gain is None and name in figures:
                gain = Gain(now.result.primary - figures[name])
            if gain is not None:
                found[name] = gain
        return found

    def _show_task(self, writer: Any, name: str, now: Now, step: int) -> None:
        start, spread = self._start.get(name), now.spread
        for what, cosines in spread.cosines.items():
            if len(cosines):
                tag = of_task(name, f"val_cosine_{what}")
                writer.add_histogram(tag, cosines.clip(BINS[0], BINS[-1]), step, bins=BINS)
        if start and start.vectors_TD is not None and start.vectors_TD.shape == now.vectors_TD.shape:
            moved = points.drift(start.vectors_TD, now.vectors_TD)
            writer.add_histogram(of_task(name, "val_drift_from_start"), moved, step, bins=DRIFT_BINS)
        if spread.labels_P is not None and spread.cosines_P is not None:
            shares = (1 + spread.cosines_P.clip(-1, 1)) / 2
            writer.add_pr_curve(of_task(name, "val_pr_curve"), spread.labels_P, shares, step)
        table = markdown(self._watched[name].judging, start.neighbours if start else None, now.neighbours)
        writer.add_text(of_task(name, "val_neighbours"), table, step)

    def _write_points(self, name: str, seen: Mapping[str, Before | Now]) -> None:
        rows, parts = [], []
        for task, watched in self._watched.items():
            vectors_TD = seen[task].vectors_TD if task in seen else None
            if vectors_TD is not None and watched.points.size:
                rows += watched.described
                parts.append(vectors_TD.float())
        if parts:
            self._projector.write(name, torch.cat(parts), rows)


def _writer(trainer: pl.Trainer) -> Any:
    """The event writer of the first `TensorBoardLogger`; None if there is none."""
    return next((logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)), None)
