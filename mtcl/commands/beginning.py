"""What a run begins with: the state of a run to go on with, the weights of a checkpoint, or the base encoder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtcl.commands.run_folder import RUNS
from mtcl.errors import ConfigError
from mtcl.types import BEST, LAST

if TYPE_CHECKING:
    from mtcl.configuration.cli import MtclCLI

IN_OPTIMIZER_STATE = ("lr", "head_lr", "weight_decay")
"""Keys of `model.optimizer` that resuming takes from the checkpoint: another value would be overridden in silence."""


def find_checkpoint(options: argparse.Namespace) -> Path | None:
    """The checkpoint file that --resume, --init_from or --ckpt name; a run folder stands for its last or best one."""
    given = [name for name in ("resume", "init_from", "ckpt") if getattr(options, name, None)]
    if len(given) > 1:
        raise ConfigError(
            f"--{given[0]} and --{given[1]} exclude each other: resume goes on with a run, init_from starts a new one"
        )
    if options.allow_changes and given != ["resume"]:
        raise ConfigError("--allow_changes has a meaning with --resume only: give both, or neither")
    if not given:
        return None
    value = getattr(options, given[0])
    if value == "last":
        runs = sorted(RUNS.glob(f"*/checkpoints/{LAST}"), key=lambda p: p.stat().st_mtime)
        if not runs:
            raise ConfigError(f"nothing to resume: no {RUNS}/*/checkpoints/{LAST} here")
        return runs[-1]
    from mtcl.encoder.checkpoint import find

    return find(Path(value), LAST if given[0] == "resume" else BEST)


def check_resumable(cli: MtclCLI, saved: dict[str, Any]) -> None:
    """Raise `ConfigError` for a checkpoint that a run cannot go on from with this configuration."""
    from mtcl.encoder.checkpoint import config_of

    if "optimizer_states" not in saved:
        raise ConfigError(
            "the checkpoint holds weights only, without the state of a run: give --init_from, not --resume"
        )
    if "current_model_state" in saved and not cli.averaging:
        raise ConfigError(
            "the run averages its weights: a checkpoint of it cannot go on with `averaging: null`; "
            "give --init_from to start anew from the average"
        )
    began = config_of(saved)["model"]["optimizer"]
    for name in IN_OPTIMIZER_STATE:
        before, now = float(began[name]), getattr(cli.model.optimizer_config, name)
        if before != now:
            raise ConfigError(
                f"model.optimizer.{name} is {now:g}, but the run began with {before:g}, which its optimizer's state "
                "keeps: leave it as it was, or give --init_from in the place of --resume to start anew"
            )


def load_weights(cli: MtclCLI, saved: dict[str, Any]) -> None:
    """Take the encoder and the losses of tasks that both have.

    Raises `ConfigError` if the checkpoint is of another encoder.
    """
    from mtcl.encoder.checkpoint import base_weights_of, trained_of
    from mtcl.training.resume import check_dim, check_never_trained

    beginning = cli.model.beginning
    beginning.has_weights, beginning.trained_before = True, trained_of(saved)
    check_never_trained(beginning.trained_before, cli.datamodule.held_out)
    state = saved["state_dict"]
    check_dim(state, cli.model.encoder)
    own = cli.model.state_dict()
    shapes = [{k: v.shape for k, v in s.items() if k.startswith("encoder.")} for s in (state, own)]
    if shapes[0] != shapes[1]:
        raise ConfigError("the checkpoint's encoder is another one than model.encoder.name: give the same")
    if (began := base_weights_of(saved)) and began != cli.model.base_weights and beginning.with_base:
        raise ConfigError(
            f"model.encoder.name is {cli.model.encoder_config.name!r}, whose weights are not those that the checkpoint "
            "began from: give the encoder it was trained from, or --no_base"
        )
    wanted = {k: v for k, v in state.items() if k in own and not k.startswith("weighting.")}
    cli.model.load_state_dict(wanted, strict=False)
