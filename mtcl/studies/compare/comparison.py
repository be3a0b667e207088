"""Run a comparison: from its configuration to the scores of every encoder.

Every encoder sees the same texts and is scored on the same items, so differences are paired item by item. Intervals
cover the choice of items, and the seeds of an encoder that is given as several runs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mtcl.data.store import prepare
from mtcl.data.tokenizer import Tokenizer
from mtcl.encoder.hub import resolve_model
from mtcl.encoder.precision import best_precision
from mtcl.errors import ConfigError, at
from mtcl.evaluation import Pool, Result, evaluate
from mtcl.files import cache_folder, data_root
from mtcl.studies.compare.config import CompareConfig, EncoderSpec
from mtcl.studies.compare.encoders import Embedder, check_found, encoders_of, endpoint_of
from mtcl.studies.compare.report import BYTES_PER_VALUE, ComparisonReport, Row, write_report
from mtcl.studies.compare.sample import first_rows
from mtcl.studies.item_scores import ItemScores, scores_of
from mtcl.studies.statistics import Differences, bootstrap, macro_bootstrap
from mtcl.task.contract import Task
from mtcl.task.registry import discover

log = logging.getLogger("mtcl")
MAX_LENGTH = 128
Key = tuple[str, int]
"""An encoder's name and the number of dimensions."""


@dataclass(frozen=True)
class Scores:
    """Of one encoder at one number of dimensions: the primary metric's item scores by task, one for each seed, and the
    values of all metrics, also one for each seed. `fewer` has the dimensions of the tasks that have fewer of them.
    """

    items: dict[str, list[ItemScores]] = field(default_factory=dict)
    metrics: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    fewer: dict[str, int] = field(default_factory=dict)


def run_comparison(config: CompareConfig, folder: Path) -> Path:
    """Evaluate every encoder and return the path of the report in `folder`."""
    cache = cache_folder(config.cache)
    for name, spec in config.encoders.items():
        with at(f"encoder {name}: "):
            check_found(spec)
    tokenizer = Tokenizer.load(resolve_model(config.tokenizer))
    tasks = tasks_of(config)
    pools = pools_of(config, tasks, tokenizer, cache)
    _announce(config, pools, tokenizer, cache)
    scores: dict[Key, Scores] = {}
    for name, spec in config.encoders.items():
        for embed in encoders_of(name, spec, cache, config.precision or best_precision()):
            add_scores(name, spec, embed, tasks, pools, config.dims, scores)
        log.info("%s: done", name)
    if unused := sorted(set(config.dims) - {dim for _, dim in scores}):
        log.warning("dims has %d, but no encoder has so many dimensions: it has no effect", unused[0])
    return write_report(report_of(scores, {pool.name: pool.metric.name for pool in pools}, config), folder)


def report_of(scores: Mapping[Key, Scores], metrics: dict[str, str], config: CompareConfig) -> ComparisonReport:
    """A row per encoder and dimension; all are compared with the first encoder at its full size, and the configured
    pairs of encoders with each other, each at its full size.
    """
    full = {name: max(dim for other, dim in scores if other == name) for name, _ in scores}
    first = next(iter(full))
    pairs = [((one, full[one]), (other, full[other])) for one, other in config.differences]
    return ComparisonReport(
        [_row(key, scores[key], config.groups) for key in scores],
        [
            _row(key, scores[key], config.groups, minus=((first, full[first]), scores[first, full[first]]))
            for key in scores
            if key != (first, full[first])
        ],
        [_row(one, scores[one], config.groups, minus=(other, scores[other])) for one, other in pairs],
        metrics,
        {name: _means(scores[name, dim]) for name, dim in full.items()},
    )


def _row(
    key: Key, found: Scores, groups: Mapping[str, Sequence[str]], *, minus: tuple[Key, Scores] | None = None
) -> Row:
    """The levels of an encoder, or its differences from another one."""
    theirs = None if minus is None else minus[1].items
    of_task = {t: _differences(own, None if theirs is None else theirs[t]) for t, own in found.items.items()}
    return Row(
        encoder=key[0],
        dim=key[1],
        num_bytes=key[1] * BYTES_PER_VALUE,
        by_task={task: bootstrap(differences) for task, differences in of_task.items()},
        by_group={group: macro_bootstrap([of_task[t] for t in tasks]) for group, tasks in groups.items()},
        macro=macro_bootstrap(list(of_task.values())),
        fewer=dict(found.fewer),
        minus="" if minus is None else f"{minus[0][0]} at {minus[0][1]:,} dimensions",
    )


def _differences(ours: Sequence[ItemScores], theirs: Sequence[ItemScores] | None = None) -> Differences:
    """Differences by seed, or the scores themselves without `theirs`. An encoder of one seed is compared with each seed
    of the other.
    """
    scores_SI = np.stack([one.scores_I for one in ours])
    if theirs is not None:
        others_SI = np.stack([one.scores_I for one in theirs])
        if 1 not in (len(scores_SI), len(others_SI)) and len(scores_SI) != len(others_SI):
            raise ConfigError(
                f"an encoder of {len(scores_SI)} runs is compared with one of {len(others_SI)}: give as many runs"
            )
        scores_SI = scores_SI - others_SI
    return Differences(scores_SI, ours[0].clusters_I)


def _means(found: Scores) -> dict[str, dict[str, float]]:
    """Each metric of each task, as the mean over seeds."""
    return {
        task: {name: float(np.mean([one[name] for one in of_seeds])) for name in of_seeds[0]}
        for task, of_seeds in found.metrics.items()
    }


def add_scores(
    name: str,
    spec: EncoderSpec,
    embed: Embedder,
    tasks: Sequence[Task],
    pools: Sequence[Pool],
    dims: Sequence[int],
    scores: dict[Key, Scores],
) -> None:
    """Add an encoder's scores by dimension: each text is embedded once; longer vectors are cut and normalised again.

    An mtcl run gets the prompts and the maximum text length that it was trained with, a model those it declares. A task
    whose head has fewer dimensions than other tasks' vectors counts with those it has.
    """
    results: dict[str, dict[int, Result]] = {}
    for task, pool in zip(tasks, pools, strict=True):
        texts = spec.as_sent(pool.store, embed.prompt_of(task))
        vectors_TD = embed(texts, embed.length_of(task), task=task.name)
        own = vectors_TD.shape[1]
        results[task.name] = {
            dim: _result(pool, F.normalize(vectors_TD[:, :dim], dim=1))
            for dim in {min(dim, own) for dim in (*dims, own)}
        }
    full = max(dim for of_task in results.values() for dim in of_task)
    for dim in sorted({min(dim, full) for dim in (*dims, full)}):
        found = scores.setdefault((name, dim), Scores())
        for pool in pools:
            of_task = results[pool.name]
            if (own := max(of_task)) < dim:
                found.fewer[pool.name] = own
            result = of_task[min(dim, own)]
            found.items.setdefault(pool.name, []).append(scores_of(result.items, pool.metric, where=pool.name))
            found.metrics.setdefault(pool.name, []).append(result.metrics)


def _result(pool: Pool, vectors_TD: Tensor) -> Result:
    return evaluate(pool, lambda texts: vectors_TD[torch.from_numpy(np.asarray(texts))])


def tasks_of(config: CompareConfig) -> list[Task]:
    """The tasks, with the configured number of rows."""
    registry = discover(config.tasks_dir)
    tasks = [registry[name] for name in config.tasks]
    return tasks if config.rows is None else [first_rows(task, config.split, config.rows) for task in tasks]


def pools_of(config: CompareConfig, tasks: Sequence[Task], tokenizer: Tokenizer, cache: Path) -> list[Pool]:
    """The pools of the configured split; missing stores are built."""
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
