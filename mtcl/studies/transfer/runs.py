"""Run a study's runs as processes: finished runs are skipped, interrupted ones resumed, several run at once.

A run is `mtcl fit` followed by `mtcl test` (or `validate`) in STUDY/runs/NAME. The configurations are in STUDY/configs
and the output in STUDY/logs, so each run can be repeated by hand. An interrupted run is resumed from its last
checkpoint, and a file in its folder records that a run has been evaluated. So a killed study can always be resumed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from mtcl.configuration.cli import check_config
from mtcl.configuration.overrides import from_environment
from mtcl.configuration.run_keys import run_keys
from mtcl.configuration.yaml_files import load, merge
from mtcl.encoder.paths import BEST, LAST
from mtcl.errors import ConfigError, MtclError
from mtcl.files import has_no_space, write_text
from mtcl.processes import start_tied
from mtcl.studies.transfer.arms import StudyRun
from mtcl.studies.transfer.config import SET_BY_STUDY, StudyConfig

log = logging.getLogger("mtcl")
VERBS = {"test": "test", "validation": "validate"}
SHOWN = 3
"""Changes that a message names."""
Environment = dict[str, str]


class RunError(MtclError):
    """Some runs of a study failed; the others are kept."""


class Stopped(SystemExit):
    """The study was told to stop; its runs have saved their state."""


def _check_environment(runs: list[StudyRun]) -> None:
    """Raise `ConfigError` for a variable that would replace what the study sets in a run."""
    for variable in from_environment(os.environ, "MTCL_SET", run_keys()):
        for run in runs:
            found: Any = run.config
            for name in variable.key.split("."):
                found = found.get(name) if isinstance(found, Mapping) else None
            if found is not None or variable.key in SET_BY_STUDY:
                raise ConfigError(
                    f"{variable.given_as} would replace {variable.key} in every run of the study: unset it, and give "
                    f"{SET_BY_STUDY.get(variable.key, 'the value')} in the study"
                )


@dataclass
class Runs:
    """The runs of one study folder. `places` has an environment per parallel run; `facts` is everything that scores
    depend on besides the configurations.
    """

    study: StudyConfig
    folder: Path
    places: list[Environment]
    facts: dict[str, Any] = field(default_factory=dict)
    _active: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _starting: threading.Lock = field(default_factory=threading.Lock)
    _is_stopping: bool = False

    def complete(self, runs: list[StudyRun]) -> None:
        """Finish every run. If some fail, raises `RunError` after the others are done."""
        _check_environment(runs)
        for sub_folder in ("configs", "logs", "runs"):
            (self.folder / sub_folder).mkdir(parents=True, exist_ok=True)
        for run in runs:
            self._check_unchanged(run)
        for run in runs:
            self._write_configs(run)
        missing = [run for run in runs if not self._state(run).get("is_evaluated")]
        for first in {run.arm.kind: run for run in reversed(missing)}.values():
            self._check_config(first)
        done, failures = len(runs) - len(missing), dict[str, str]()
        log.info("%d runs, %d of them done", len(runs), done)
        free: queue.Queue[Environment] = queue.Queue()
        for place in self.places:
            free.put(place)
        with ThreadPoolExecutor(len(self.places)) as pool:
            try:
                for is_later in (False, True):  # runs that start from another run's weights come after it
                    wave = [run for run in missing if bool(run.start) == is_later and run.start not in failures]
                    futures = {pool.submit(self._complete, run, free): run for run in wave}
                    for future in as_completed(futures):
                        done, error = done + 1, future.exception()
                        log.info("%d/%d %s: %s", done, len(runs), futures[future].name, error or future.result())
                        failures |= {futures[future].name: str(error)} if error else {}
            except BaseException:
                self._stop()
                raise
        if failures:
            raise RunError(
                f"{len(failures)} of {len(runs)} runs failed; run the same command again to retry: "
                f"{next(iter(failures.values()))}"
            )

    def _complete(self, run: StudyRun, free: queue.Queue[Environment]) -> str:
        """Fit and evaluate one run as far as needed; returns a message with the time it took."""
        place, since = free.get(), time.monotonic()
        try:
            with FileLock(f"{self._run_folder(run)}.lock"):  # a run of a killed study may still be saving
                fit = [self._fit_arguments(run)] if run.is_trained else []
            self._process(run, [*fit, self._evaluate_arguments(run)], place)
            self._note(run, is_evaluated=True)
            if run.arm.kind not in self.study.keep_checkpoints:
                shutil.rmtree(self._run_folder(run) / "checkpoints", ignore_errors=True)
        finally:
            free.put(place)
        return f"done in {time.monotonic() - since:.0f} s"

    def _fit_arguments(self, run: StudyRun) -> list[str]:
        folder = self._run_folder(run)
        if (folder / "checkpoints" / LAST).exists():
            return ["fit", "--no_base", "--resume", str(folder)]
        if folder.exists():  # stopped before its first checkpoint: nothing to resume from
            shutil.rmtree(folder)
        self._note(run)
        source = str(self.folder / "runs" / str(run.start))
        start = ["--init_from", source, "--model.evaluate_start", "false"] if run.start else []
        if run.start and not (self.folder / "runs" / run.start / "checkpoints" / BEST).exists():
            raise ConfigError(f"{start[1]} no longer has a checkpoint: remove that folder to run it again")
        board = [] if "board" in run.config else ["--board", "lean"]
        return ["fit", "--no_base", "--config", str(self._config(run)), "--run_dir", str(folder), *start, *board]

    def _evaluate_arguments(self, run: StudyRun) -> list[str]:
        verb, folder, config = VERBS[self.study.split], str(self._run_folder(run)), str(self._config(run, "evaluate"))
        return [
            verb,
            "--config",
            config,
            *(["--ckpt", folder, "--no_base"] if run.is_trained else ["--run_dir", folder]),
        ]

    def _process(self, run: StudyRun, commands: list[list[str]], place: Environment) -> None:
        module, lock = "mtcl.commands.child_run", f"{self._run_folder(run)}.lock"
        command = [sys.executable, "-m", module, lock, json.dumps(commands)]
        path = self.folder / "logs" / f"{run.name}.log"
        with path.open("ab") as output:
            with self._starting:
                if self._is_stopping:
                    raise Stopped(1)
                process = start_tied(command, environment=os.environ | place, output=output)
                self._active.add(process)
            code = process.wait()
            self._active.discard(process)
        if code and not self._is_stopping:
            raise RunError(f"run {run.name} ended with code {code}: {last_line(path)} (full log: {path})")
        if code:
            raise Stopped(code)

    def _stop(self) -> None:
        """Tell runs to save their state and exit; their threads end with them."""
        with self._starting:  # no run starts after this
            self._is_stopping = True
            for process in list(self._active):
                process.terminate()

    def _write_configs(self, run: StudyRun) -> None:
        removed = {name: None for name in run.config["tasks"] if name not in self.study.tasks}
        evaluated = {name: settings or {} for name, settings in self.study.tasks.items()}
        held_out = {"held_out": self.study.held_out}
        if run.is_trained:
            write_text(self._config(run), yaml.safe_dump(run.config, sort_keys=False), alone=True)
            evaluation: dict[str, Any] = {"tasks": evaluated | removed, "data": held_out}
        else:
            evaluation = merge(run.config, {"tasks": evaluated, "data": held_out})
        write_text(self._config(run, "evaluate"), yaml.safe_dump(evaluation, sort_keys=False), alone=True)

    def _check_unchanged(self, run: StudyRun) -> None:
        state = self._state(run)
        if (found := state.get("config")) and found != self._digest(run):
            saved = state.get("depends_on")
            what = (
                "data, base encoder, split or tasks" if saved is None else shown(differences(saved, self._facts(run)))
            )
            raise ConfigError(
                f"{self._run_folder(run)} was made with a different configuration ({what}): give another --study_dir, "
                "or remove it"
            )

    def _check_config(self, run: StudyRun) -> None:
        """Raise `ConfigError` now for an error that every run of the arm would fail with."""
        try:
            check_config(load([str(self._config(run, "fit" if run.is_trained else "evaluate"))]))
        except ConfigError as error:
            raise ConfigError(f"the study's arm {run.arm.kind}: {error}") from error

    def _digest(self, run: StudyRun) -> str:
        depends_on = [run.config, self.facts, *([run.start_config] if run.start else [])]
        return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:16]

    def _facts(self, run: StudyRun) -> dict[str, Any]:
        """What `_digest` is of, by name, as JSON has it."""
        facts = {**run.config, "study": self.facts} | ({"start": run.start_config} if run.start else {})
        return dict(json.loads(json.dumps(facts)))

    def _run_folder(self, run: StudyRun) -> Path:
        return self.folder / "runs" / run.name

    def _config(self, run: StudyRun, purpose: str = "fit") -> Path:
        return self.folder / "configs" / f"{run.name}.{purpose}.yaml"

    def _state(self, run: StudyRun) -> dict[str, Any]:
        path = self._run_folder(run) / "study.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def _note(self, run: StudyRun, **state: bool) -> None:
        path = self._run_folder(run) / "study.json"
        state_of_run = {"config": self._digest(run), "depends_on": self._facts(run), **state}
        write_text(path, json.dumps(state_of_run), alone=True)


def differences(saved: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The values that differ, by dotted name."""
    found: list[str] = []
    for key in dict.fromkeys([*saved, *now]):
        old, new = saved.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key}: {json.dumps(old)} there, {json.dumps(new)} now")
    return found


def shown(changes: list[str]) -> str:
    """The first few changes, and the number of further ones."""
    return "; ".join(changes[:SHOWN]) + (f"; and {len(changes) - SHOWN} more" if len(changes) > SHOWN else "")


def last_line(log: Path) -> str:
    """What a run said last; a log on a full disk lacks its end, so then the disk is what to look at."""
    if has_no_space(log.parent):
        return f"{os.strerror(errno.ENOSPC)}: {log.parent}: free some disk space, and run the same command again"
    content = log.read_text(errors="replace") or "no output\n"
    line = content.strip().splitlines()[-1]
    return line if content.endswith("\n") else f"{line} ... (its end is missing)"


def places_of(jobs: int | None) -> list[Environment]:
    """An environment per parallel run: its GPU, or its share of the cores."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    devices = visible.split(",") if visible else [str(n) for n in range(torch.cuda.device_count())]
    num_jobs = max(1, len(devices) if torch.cuda.is_available() else 1) if jobs is None else jobs
    if num_jobs < 1:
        raise ConfigError(f"jobs is {jobs}: give at least 1")
    if torch.cuda.is_available():
        return [{"CUDA_VISIBLE_DEVICES": devices[n % len(devices)]} for n in range(num_jobs)]
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // num_jobs))
    return [{"OMP_NUM_THREADS": threads}] * num_jobs
