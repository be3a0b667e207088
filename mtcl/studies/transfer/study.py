"""Run a study: from its configuration to its report."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mtcl.data.leaks import TrainedTexts, check_allow_leaks, check_leaks
from mtcl.encoder.config import DEFAULT_MODEL
from mtcl.encoder.hub import resolve_model
from mtcl.errors import ConfigError, DataError
from mtcl.files import data_root
from mtcl.studies.transfer.arms import runs_of
from mtcl.studies.transfer.config import StudyConfig
from mtcl.studies.transfer.findings import findings_of
from mtcl.studies.transfer.outcome import read_outcome
from mtcl.studies.transfer.plots import new_figure
from mtcl.studies.transfer.report import write_report
from mtcl.studies.transfer.runs import Runs, places_of
from mtcl.task.contract import Task, errors_of
from mtcl.task.digests import digest_files
from mtcl.task.kind import Kind
from mtcl.task.pairs import PairTable
from mtcl.task.pairs.shared_keys import components
from mtcl.task.registry import discover
from mtcl.task.rows import pairs_fingerprint, pairs_of

log = logging.getLogger("mtcl")
Tables = Callable[[str, str], PairTable]
"""(task, split) -> its pairs, each read once."""


def run_study(study: StudyConfig, folder: Path, *, jobs: int | None = None) -> Path:
    """Finish the study in `folder` and return the path of its report. Finished runs are not repeated."""
    places = places_of(jobs)
    new_figure(1, 1)  # report a missing extra now, not after the runs
    data: Mapping[str, Any] = study.overrides.get("data") or {}
    registry = discover(data.get("tasks_dir"))
    chosen = [*study.evaluated, *([study.control] if study.control else [])]
    tasks: dict[str, Task] = {name: registry[name] for name in chosen}
    tables = cache(lambda name, split: _pairs(tasks[name], split, data))
    num_pairs = _num_pairs(study, list(tasks), tables)
    _check_units(study, tables)
    tables.cache_clear()
    runs = runs_of(study, num_pairs)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            Runs(study, folder, places, facts_of(study, tasks, data)).complete(runs)
            metrics = {name: task.metric for name, task in tasks.items()}
            return write_report(findings_of(read_outcome(study, folder, metrics, num_pairs)), folder / "report")
    except Timeout as error:
        raise ConfigError(f"{folder} is in use by another process: wait for it, or give another --study_dir") from error


def _num_pairs(study: StudyConfig, tasks: list[str], tables: Tables) -> dict[str, int]:
    """Training pairs of each task. Raises `DataError` if held-out texts occur in them, unless allowed."""
    trained = {name: tables(name, "train") for name in tasks if name not in study.held_out}
    if study.held_out:
        check_allow_leaks(study.allow_leaks, study.held_out, trained)
        check_leaks(
            {name: [tables(name, split).texts for split in ("validation", "test")] for name in study.held_out},
            {name: TrainedTexts(table.texts, table.keys) for name, table in trained.items()},
            allow_leaks=study.allow_leaks,
        )
    return {name: len(table.anchors) for name, table in trained.items()}


def _check_units(study: StudyConfig, tables: Tables) -> None:
    """Raise `DataError` before the runs if no interval could be computed after them."""
    for name in study.evaluated:
        table = tables(name, study.split)
        asked = table.queries if table.kind == Kind.POSITIVE else table.anchors
        if table.tied and len(asked) and components(table.keys.take(asked)).max() == 0:
            raise DataError(
                f"task {name!r}, {study.split}: all {len(asked):,} items belong together (one document, story or "
                "group), so there can be no interval: give rows of at least two"
            )


def facts_of(study: StudyConfig, tasks: Mapping[str, Task], data: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that scores depend on besides the run configurations: data, evaluated tasks, split, base encoder.

    The validation split of a trained task is included because it determines the best checkpoint.
    """
    splits = {
        name: {*[study.split] * (name in study.evaluated), *["train", "validation"] * (name not in study.held_out)}
        for name in tasks
    }
    return {
        "split": study.split,
        "evaluated": study.evaluated,
        "pairs": {f"{n}/{s}": pairs_fingerprint(tasks[n], s, _root(data)) for n in tasks for s in sorted(splits[n])},
        "base": _base_weights(study),
        "environment": {name: value for name, value in os.environ.items() if name.startswith("MTCL_SET_")},
    }


def _base_weights(study: StudyConfig) -> str:
    """A digest of the base encoder's weight files."""
    given: Mapping[str, Any] = (study.overrides.get("model") or {}).get("encoder") or {}
    folder = resolve_model(given.get("name") or DEFAULT_MODEL, revision=given.get("revision"))
    return digest_files(sorted(folder.glob("*.safetensors")))


def _pairs(task: Task, split: str, data: Mapping[str, Any]) -> PairTable:
    with errors_of(task, split):
        return pairs_of(task, split, _root(data))


def _root(data: Mapping[str, Any]) -> Path | None:
    return data_root(data.get("root"))
