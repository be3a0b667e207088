"""Find the checkpoint that a command's options refer to."""

from __future__ import annotations

import argparse
from pathlib import Path

from mtcl.commands.run_folder import RUNS
from mtcl.encoder.paths import BEST, LAST, checkpoint_at
from mtcl.errors import ConfigError


def find_checkpoint(options: argparse.Namespace) -> Path | None:
    """The checkpoint file given by --resume, --init_from or --ckpt; a run folder means its last or best checkpoint."""
    given = [name for name in ("resume", "init_from", "ckpt") if getattr(options, name, None)]
    if len(given) > 1:
        raise ConfigError(
            f"--{given[0]} and --{given[1]} cannot be combined: resume continues a run, init_from starts a new one"
        )
    if options.allow_changes and given != ["resume"]:
        raise ConfigError("--allow_changes works with --resume only: give both, or neither")
    if not given:
        return None
    value = getattr(options, given[0])
    if value == "last":
        runs = sorted(RUNS.glob(f"*/checkpoints/{LAST}"), key=lambda p: p.stat().st_mtime)
        if not runs:
            raise ConfigError(f"nothing to resume: no {RUNS}/*/checkpoints/{LAST} here")
        return runs[-1]
    return checkpoint_at(Path(value), LAST if given[0] == "resume" else BEST)
