"""The evaluations of a run: before its first step, at each validation, and on the test splits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mtcl.encoder.encoder import Encoder
from mtcl.evaluation import Result, primary_of
from mtcl.training.callback_checks import check_before_training, warn_of_late_callbacks
from mtcl.training.metric_log import MetricLog
from mtcl.training.run import Run
from mtcl.training.vectors import Vectors


class Evaluation:
    """Evaluates a run's model and keeps and logs the results. `results` are those of the last evaluation, by task."""

    def __init__(self, run: Run, vectors: Vectors, metric_log: MetricLog) -> None:
        self.run, self.vectors, self.metric_log = run, vectors, metric_log
        self.results: dict[str, Result] = {}
        self.is_of_base = False
        self._base: Encoder | None = None

    @contextmanager
    def of_base(self) -> Iterator[None]:
        """Inside this context, evaluations are of the base encoder, without heads."""
        self.is_of_base = True
        try:
            yield
        finally:
            self.is_of_base, self._base = False, None

    def begin(self) -> None:
        """Start an evaluation; `self.results` is empty again."""
        self.results = {}
        if self.is_of_base:
            self._base = self.run.model.base.encoder(self.run.module.device)

    def add(self, split: str, number: int) -> None:
        """Evaluate one pool of a split. Call it on all ranks."""
        pool, model = self.run.data.pools(split)[number], self.run.model
        if self._base is not None:
            self.results[pool.name] = self.vectors.evaluate(pool, self._base)
        else:
            self.results[pool.name] = self.vectors.evaluate(pool, model.encoder, model.head_of(pool.name))

    def end(self, split: str) -> None:
        """Log the results of `val` or `test`; in training they are also part of the run's history."""
        if self.run.trainer.state.fn == "fit":
            self.run.history[self.run.step] = primary_of(self.results)
        self.metric_log.show_results(split, self.results)

    def before_training(self, *, is_base: bool, with_base: bool, with_start: bool) -> None:
        """Evaluate the base encoder and the weights that the run starts from, as far as their figures are not known.

        `is_base` says whether these weights are the base encoder's.
        A resumed run knows the base encoder's, apart from those of tasks that are new. Raises `ConfigError` if a
        callback monitors a metric that the run will not have. Call it on all ranks.
        """
        run, model, device = self.run, self.run.model, self.run.module.device
        pools, is_first_step = run.data.pools("validation"), run.step == 0
        results: dict[str, Result] = {}
        missing = [pool for pool in pools if pool.name not in run.base_figures]
        if missing and with_base:
            is_in_memory = is_first_step and is_base
            encoder = model.encoder if is_in_memory else model.base.encoder(device)
            results = {pool.name: self.vectors.evaluate(pool, encoder) for pool in missing}
            run.base_figures |= primary_of(results)
            if is_in_memory:
                self.metric_log.show_at_start(results)
        if is_first_step and not is_base and with_start:
            results = {pool.name: self.vectors.evaluate(pool, model.encoder) for pool in pools}
            run.start_figures = primary_of(results)
            self.metric_log.show_at_start(results)
        logged = self.metric_log.names_of(results) if len(results) == len(pools) else set()
        check_before_training(run.module, run.data.evaluated, run.data.tasks, logged)
        warn_of_late_callbacks(run.module.trainer)
