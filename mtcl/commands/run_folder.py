"""The folder that a run writes to. It is created at once, so two runs that start together get different folders."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
from pathlib import Path

from mtcl.encoder.paths import LAST
from mtcl.errors import ConfigError
from mtcl.task.sources import SPLITS, Files

RUNS = Path("runs")
CHOSEN_RUN_DIR = "MTCL_CHOSEN_RUN_DIR"
"""Environment variable that the first process sets for the processes that Lightning starts."""


def run_folder(options: argparse.Namespace, command: str, checkpoint: Path | None) -> Path:
    """The run's folder: --run_dir, the folder of the checkpoint's run, or a new one under runs/."""
    is_follower = os.environ.get("LOCAL_RANK", "0") != "0" or os.environ.get("NODE_RANK", "0") != "0"
    if is_follower and CHOSEN_RUN_DIR in os.environ:
        return Path(os.environ[CHOSEN_RUN_DIR])
    chosen = _run_folder(options, command, checkpoint, is_follower=is_follower)
    os.environ[CHOSEN_RUN_DIR] = str(chosen)
    return chosen


def _run_folder(options: argparse.Namespace, command: str, checkpoint: Path | None, *, is_follower: bool) -> Path:
    if options.run_dir:
        chosen = Path(options.run_dir).expanduser()
        if chosen.is_file():
            raise ConfigError(f"--run_dir {chosen} is a file: name the folder of a run")
        if not is_follower and command == "fit" and not options.resume and (chosen / "checkpoints" / LAST).exists():
            raise ConfigError(f"{chosen} already has a run: continue with --resume {chosen}, or give another --run_dir")
        return chosen
    if checkpoint and not options.init_from:
        is_in_run = checkpoint.parent.name == "checkpoints"
        return checkpoint.parent.parent if is_in_run else checkpoint.with_suffix("")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise ConfigError("under torchrun the processes cannot agree on a new run folder: give --run_dir")
    name = Path(options.config[0]).stem if options.config else "run"
    for number in itertools.count(1):
        chosen = RUNS / (name if number == 1 else f"{name}-{number}")
        with contextlib.suppress(FileExistsError):
            chosen.mkdir(parents=True)  # at once: another run may be looking for a name
            break
    return chosen


def check_no_data(run_dir: Path, root: Path | None) -> None:
    """Raise `ConfigError` for a run folder that is the data root or in a task's data: files would mix."""
    here, data = run_dir.resolve(), None if root is None else root.resolve()
    if here == data:
        raise ConfigError(f"--run_dir {run_dir} is the data root: give the run a folder of its own")
    above = [] if data is None else [folder for folder in here.parents if folder.is_relative_to(data)]
    for folder in (here, *above):
        if any(Files(".").has(split, folder) for split in SPLITS):
            raise ConfigError(f"--run_dir {run_dir} is in a task's data ({folder}): give the run a folder of its own")
