"""Run a comparison: from its configuration to the scores of every encoder.

Every encoder sees the same texts and is scored on the same items, so differences are paired item by item. Intervals
cover the choice of items.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mtcl.data.store import prepare
from mtcl.data.tokenizer import Tokenizer
from mtcl.encoder.hub import resolve_model
from mtcl.errors import ConfigError
from mtcl.evaluation import Pool, evaluate
from mtcl.files import cache_folder, data_root
from mtcl.studies.compare.config import CompareConfig, EncoderSpec
from mtcl.studies.compare.encoders import encoder_of, endpoint_of
from mtcl.studies.compare.report import BYTES_PER_VALUE, Row, write_report
from mtcl.studies.item_scores import ItemScores, scores_of
from mtcl.studies.statistics import Differences, bootstrap, macro_bootstrap
from mtcl.task.contract import Task
from mtcl.task.registry import discover

log = logging.getLogger("mtcl")
Scores = dict[str, ItemScores]
"""Scores of the primary metric by task."""
MAX_LENGTH = 128


def run_comparison(config: CompareConfig, folder: Path) -> Path:
    """Evaluate every encoder and return the path of the report in `folder`."""
    cache = cache_folder(config.cache)
    tokenizer = Tokenizer.load(resolve_model(config.tokenizer))
    registry = discover(config.tasks_dir)
    tasks = [registry[name] for name in config.tasks]
    pools = _pools(config, tasks, tokenizer, cache)
    _announce(config, pools, tokenizer, cache)
    scores: dict[tuple[str, int], Scores] = {}
    for name, spec in config.encoders.items():
        scores |= {(name, dim): found for dim, found in _scores(spec, tasks, pools, config.dims, cache).items()}
        log.info("%s: done", name)
    return write_report(rows_of(scores), {pool.name: pool.metric.name for pool in pools}, folder)


def rows_of(scores: dict[tuple[str, int], Scores]) -> list[Row]:
    """A row per encoder and dimension; all are compared with the first encoder at its full size."""
    first = scores[max(key for key in scores if key[0] == next(iter(scores))[0])]
    rows = []
    for (name, dim), found in scores.items():
        against = {task: _differences(own, first[task]) for task, own in found.items()}
        rows.append(
            Row(
                encoder=name,
                dim=dim,
                num_bytes=dim * BYTES_PER_VALUE,
                by_task={task: bootstrap(_differences(own)) for task, own in found.items()},
                macro=macro_bootstrap([_differences(own) for own in found.values()]),
                gains={task: bootstrap(differences) for task, differences in against.items()},
                macro_gain=macro_bootstrap(list(against.values())),
            )
        )
    return rows


def _differences(ours: ItemScores, theirs: ItemScores | None = None) -> Differences:
    """Differences with a single "seed", the encoder as it is; without `theirs`, the scores themselves."""
    scores_I = ours.scores_I if theirs is None else ours.scores_I - theirs.scores_I
    return Differences(scores_I[None], ours.clusters_I)


def _scores(
    spec: EncoderSpec, tasks: Sequence[Task], pools: Sequence[Pool], dims: Sequence[int], cache: Path
) -> dict[int, Scores]:
    """Scores by dimension: each text is embedded once; longer vectors are cut and normalised again.

    An mtcl run gets the prompts and the maximum text length that it was trained with, a model those it declares.
    """
    embed = encoder_of(spec, cache)
    found: dict[int, Scores] = {}
    for task, pool in zip(tasks, pools, strict=True):
        texts = spec.as_sent(pool.store, embed.prompt_of(task))
        vectors_TD = embed(texts, embed.length_of(task), task=task.name)
        full = vectors_TD.shape[1]
        for dim in sorted({min(dim, full) for dim in (*dims, full)}):
            found.setdefault(dim, {})[pool.name] = _item_scores(pool, F.normalize(vectors_TD[:, :dim], dim=1))
    return found


def _item_scores(pool: Pool, vectors_TD: Tensor) -> ItemScores:
    result = evaluate(pool, lambda texts: vectors_TD[torch.from_numpy(np.asarray(texts))])
    return scores_of(result.items, pool.metric, where=pool.name)


def _pools(config: CompareConfig, tasks: Sequence[Task], tokenizer: Tokenizer, cache: Path) -> list[Pool]:
    root = data_root(config.root)
    pools = []
    for task in tasks:
        store = prepare(
            task, config.split, root=root, tokenizer=tokenizer, max_length=MAX_LENGTH, cache=cache, apart=True
        )
        pools.append(Pool(task.name, store, task.metric))
    return pools


def _announce(config: CompareConfig, pools: Sequence[Pool], tokenizer: Tokenizer, cache: Path) -> None:
    """Log how much will be sent to endpoints, before sending. Raises `ConfigError` above `max_tokens`."""
    total = 0
    for name, spec in config.encoders.items():
        if spec.endpoint:
            texts = [text for pool in pools for text in spec.as_sent(pool.store)]
            endpoint = endpoint_of(spec, cache)
            if missing := endpoint.missing(texts):
                endpoint.check_key()
            num_tokens = sum(len(ids) for ids in tokenizer.backend(missing)["input_ids"]) if missing else 0
            total += num_tokens
            log.info(
                "%s: sends %d of %d texts, about %d tokens (the others are cached)",
                name,
                len(missing),
                len(dict.fromkeys(texts)),
                num_tokens,
            )
    if config.max_tokens is not None and total > config.max_tokens:
        raise ConfigError(
            f"{total:,} tokens would be sent, max_tokens is {config.max_tokens:,}: raise it or take fewer"
        )
