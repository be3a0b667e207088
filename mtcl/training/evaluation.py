"""The evaluations of a run: before its first step, at each validation, and on the test splits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mtcl.arrays import IntArray
from mtcl.distributed import together
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.heads import through
from mtcl.errors import ConfigError, at
from mtcl.evaluation import Pool, Result, embed_shared, primary_of, score
from mtcl.evaluation.groups import check_installed
from mtcl.evaluation.pool import PoolVectors
from mtcl.training.callback_checks import check_before_training, warn_of_late_callbacks
from mtcl.training.metric_log import MetricLog
from mtcl.training.run import Run
from mtcl.training.run_encoder import RunEncoder


@dataclass(frozen=True)
class Evaluated:
    """A pool's evaluation: its vectors, by the module's own encoder or by the base encoder, and through which head."""

    pool: Pool
    vectors: PoolVectors
    result: Result
    is_own: bool
    head: nn.Module | None


class Evaluation:
    """Evaluates a run's model and keeps and logs the results. `results` are those of the last evaluation, by task.

    Pools are also evaluated with each of `dims` leading dimensions, and by their groups if `groups` is set.
    """

    def __init__(
        self,
        run: Run,
        run_encoder: RunEncoder,
        metric_log: MetricLog,
        *,
        dims: Sequence[int] = (),
        groups: bool = False,
    ) -> None:
        if groups:
            with at(groups="model.eval_groups"):
                check_installed()
        full = run.model.encoder.dim
        if odd := [dim for dim in dims if not 0 < dim < full]:
            raise ConfigError(f"model.eval_dims has {odd[0]}: give 1 to {full - 1}; the encoder has {full}")
        if twice := [dim for dim in dims if dims.count(dim) > 1]:
            raise ConfigError(f"model.eval_dims has {twice[0]} twice: name each number once")
        self.run, self.run_encoder, self.metric_log = run, run_encoder, metric_log
        self.dims, self.groups = tuple(dims), groups
        self.results: dict[str, Result] = {}
        self.watchers: list[Callable[[Evaluated], None]] = []
        """Called after each evaluation of a pool, on this rank."""
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
            self.results[pool.name] = self._evaluate(pool, self._base)
        else:
            self.results[pool.name] = self._evaluate(pool, model.encoder, model.head_of(pool.name))

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
            results = {pool.name: self._evaluate(pool, encoder) for pool in missing}
            run.base_figures |= primary_of(results)
            if is_in_memory:
                self.metric_log.show_at_start(results)
        if is_first_step and not is_base and with_start:
            results = {pool.name: self._evaluate(pool, model.encoder) for pool in pools}
            run.start_figures = primary_of(results)
            self.metric_log.show_at_start(results)
        logged = self.metric_log.names_of(results) if len(results) == len(pools) else set()
        check_before_training(run.module, run.data.evaluated, run.data.tasks, logged)
        warn_of_late_callbacks(run.module.trainer)

    def _evaluate(self, pool: Pool, encoder: Encoder, head: nn.Module | None = None) -> Result:
        """The result of a pool's evaluation. Call it on all ranks."""
        run, model, cached = self.run, self.run.model, None
        if encoder is model.encoder and encoder.is_frozen and run.trainer.state.fn == "fit":
            with together():
                cached = self.run_encoder.pooled_file(pool.store)

        def embed(texts: IntArray) -> Tensor:
            if cached is None:
                return self.run_encoder.embed(pool.store.tokens.take(texts), encoder, head=head)
            pooled_TH = torch.from_numpy(np.load(cached, mmap_mode="r")[texts]).to(run.module.device)
            with run.trainer.precision_plugin.forward_context(), torch.no_grad():
                return through(head, encoder.finish(pooled_TH)).cpu()

        dim = model.encoder.dim if head is None else model.dim_of(pool.name)
        dims = [d for d in self.dims if d < dim]
        vectors = embed_shared(pool.texts, embed)
        result = score(pool, vectors, dims=dims, groups=self.groups)
        for watch in self.watchers:
            watch(Evaluated(pool, vectors, result, encoder is model.encoder, head))
        return result
