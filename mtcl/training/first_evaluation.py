"""The evaluation before the first step: of the base encoder, and of the weights that the run starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtcl.evaluation import Result, primary_of
from mtcl.training.callback_checks import check_before_training

if TYPE_CHECKING:
    from mtcl.training.module import MtclModule


def evaluate_start(module: MtclModule) -> None:
    """Evaluate what is not known yet, and keep the primary metrics as `base.figures` and `start_figures`.

    A resumed run knows the base encoder's, apart from those of tasks that are new. Raises `ConfigError` if a callback
    monitors a metric that the run will not have. Call it on all ranks.
    """
    vectors, base, is_first_step = module.vectors, module.base, module.global_step == 0
    from_checkpoint = module.start.saved is not None
    pools = module.data.pools("validation")
    results: dict[str, Result] = {}
    missing = [pool for pool in pools if pool.name not in base.figures]
    if missing and module.evaluate_base:
        is_base = is_first_step and not from_checkpoint  # the module's own encoder, which is in memory
        encoder = module.encoder if is_base else base.encoder(module.device)
        results = {pool.name: vectors.evaluate(pool, encoder) for pool in missing}
        base.figures |= primary_of(results)
        if is_base:
            module.metric_log.show_at_start(results)
    if is_first_step and from_checkpoint and module.evaluate_start:
        results = {pool.name: vectors.evaluate(pool, module.encoder) for pool in pools}
        module.start_figures = primary_of(results)
        module.metric_log.show_at_start(results)
    logged = module.metric_log.names_of(results) if len(results) == len(pools) else set()
    check_before_training(module, module.data.evaluated, module.data.tasks, logged)
