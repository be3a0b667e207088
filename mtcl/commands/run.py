"""`mtcl fit | validate | test | predict`: run a configuration, or a checkpoint with its own configuration."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtcl.commands.arguments import Parser
from mtcl.commands.folder_lock import only_writer
from mtcl.commands.given_checkpoint import find_checkpoint
from mtcl.commands.process import quiet_libraries
from mtcl.commands.run_folder import check_no_data, run_folder
from mtcl.configuration.help import WIDTH, short_help
from mtcl.configuration.yaml_files import load
from mtcl.console import print_table
from mtcl.encoder.paths import BEST, LAST
from mtcl.errors import ConfigError, DataError, RankError
from mtcl.files import REFUSED, has_no_space, is_disk_full, write_text, written_whole

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

    from mtcl.configuration.cli import MtclCLI
    from mtcl.encoder.checkpoint import SavedRun

log = logging.getLogger("mtcl")

DESCRIPTIONS = {
    "fit": "Train the encoder on the tasks of a configuration.",
    "validate": "Evaluate the encoder on the validation splits.",
    "test": "Evaluate the encoder on the test splits.",
    "predict": "Write the embeddings of the test splits' texts to Parquet files.",
}


def main(command: str, arguments: list[str]) -> int:
    parser = _parser(command)
    options, rest = parser.parse_known_args(arguments)
    if options.help:
        print(short_help(command, parser))
        return 0
    if options.help_all:
        parser.print_help()
        print("\nAll keys of a configuration:\n")
        rest.append("--help")
    quiet_libraries()
    from mtcl.configuration.from_checkpoint import plain_config
    from mtcl.configuration.replay import load_with_replay
    from mtcl.encoder.checkpoint import SavedRun

    checkpoint = find_checkpoint(options)
    saved = SavedRun.read(checkpoint, trust=options.trust_checkpoint) if checkpoint else None
    run_dir = run_folder(options, command, checkpoint)
    try:
        if saved and options.init_from and options.config:
            merged = load_with_replay(options.config, rest, saved)
        else:
            merged = load(options.config, below=plain_config(saved, resumes=bool(options.resume)) if saved else None)
        if saved and options.init_from and not options.config:
            log.warning("%s", _taken(options.init_from, merged, rest))
        with only_writer(run_dir, command, advice="wait for it, or give another --run_dir"):
            return carry_out(command, options, rest, config=merged, saved=saved, run_dir=run_dir)
    finally:
        if not options.run_dir:  # a folder that was created and not used
            with contextlib.suppress(OSError):
                run_dir.rmdir()
                run_dir.parent.rmdir()


def carry_out(
    command: str,
    options: argparse.Namespace,
    rest: list[str],
    *,
    config: dict[str, Any],
    saved: SavedRun | None,
    run_dir: Path,
) -> int:
    """Build the model and data from the configuration, load weights or state from a checkpoint, and run the command."""
    from mtcl.configuration.cli import MtclCLI
    from mtcl.training.resume import check_resumable

    given = {"data.tasks_dir": options.tasks_dir, "model.evaluate_base": "false" if options.no_base else None}
    given["model.allow_changes"] = "true" if options.allow_changes else None
    rest += [part for key, value in given.items() if value for part in (f"--{key}", value)]
    resume_step = saved.step + 1 if saved and options.resume else None
    cli = MtclCLI(rest, config=config, run_dir=run_dir, resume_step=resume_step)
    check_no_data(run_dir, cli.datamodule.root)
    if saved and options.resume:
        check_resumable(saved, cli.model.optimizer_config, is_averaging=cli.averaging is not None)
    elif saved:
        cli.model.start_from(saved)
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    try:
        if command == "fit":
            return fit(cli, resume=saved.path if saved and options.resume else None)
        if command == "predict":
            return predict(cli)
        return evaluate(cli, command, with_base=saved is not None and not options.no_base)
    except MisconfigurationException as error:
        raise ConfigError(" ".join(str(error).split())) from error
    except OSError as error:
        if error.filename is not None or error.errno not in REFUSED:
            raise
        if error.errno == errno.ENOSPC and not has_no_space(run_dir):  # it was standard output
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(run_dir)) from error  # TensorBoard names no file
    except SIGTERMException:  # it exits without a code, which would look like success
        return 128 + signal.SIGTERM


def fit(cli: MtclCLI, *, resume: Path | None) -> int:
    """Train, then print the base encoder's results and the best ones."""
    from mtcl.distributed import is_lost_rank
    from mtcl.training.callbacks import Interrupted
    from mtcl.training.callbacks.report import fit_table

    if resume and cli.resume_step is not None and cli.resume_step > cli.trainer.max_steps > 0:
        if cli.trainer.is_global_zero:
            log.warning("%s", _finished(cli))
    elif cli.trainer.is_global_zero:
        log.info("run folder %s; watch it with: tensorboard --logdir %s", cli.run_dir, cli.run_dir.parent)
    try:
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=resume, weights_only=True if resume else None)
    except Interrupted as stop:
        if cli.trainer.is_global_zero:
            log.warning("stopped at step %d; %s", cli.trainer.global_step, _how_to_continue(cli.run_dir))
        return int(stop.code or 1)
    except RuntimeError as error:
        if not is_lost_rank(error):
            raise
        lost = RankError(f"another process of the run has ended; {_how_to_continue(cli.run_dir)}")
        lost.on_all_ranks = True
        raise lost from error
    except OSError as error:
        if not is_disk_full(error):
            raise
        where = error.filename or cli.run_dir  # TensorBoard does not say which of its files it was
        advice = _how_to_continue(cli.run_dir)
        raise DataError(f"disk full, cannot write {where}: free some space and {advice}") from error
    if cli.trainer.is_global_zero and cli.trainer.global_step < cli.trainer.max_steps:
        reached = (cli.trainer.global_step, cli.trainer.max_steps)
        log.warning("stopped at step %d of %d; %s", *reached, _how_to_continue(cli.run_dir))
    if cli.trainer.is_global_zero and cli.model.run.history:
        print_table(fit_table(cli.model))
        if (best := cli.run_dir / "checkpoints" / BEST).exists():
            print(f"best checkpoint: {best}")
    elif cli.trainer.is_global_zero and (last := cli.run_dir / "checkpoints" / LAST).exists():
        log.warning("no validation, so there is no table and no %s: give other commands %s", BEST, last)
    return 0


def _how_to_continue(run_dir: Path) -> str:
    """Advice for a run that has ended too early: to resume it, if it has a checkpoint."""
    if (run_dir / "checkpoints" / LAST).exists():
        return f"continue with: mtcl fit --resume {run_dir}"
    return "start it again: it has no checkpoint yet"


def _taken(run: str, config: dict[str, Any], arguments: list[str]) -> str:
    """The settings that a new run without a configuration takes from the run that it starts from."""
    from mtcl.configuration.overrides import applied, from_arguments
    from mtcl.configuration.run_keys import run_keys

    steps = (config.get("trainer") or {}).get("max_steps")
    left = applied(config, from_arguments(arguments, run_keys()), run_keys()).get("tasks") or {}
    tasks = ", ".join(name for name in config.get("tasks") or () if name in left) or "none"
    return (
        f"no --config is given, so this run takes that of {run}: tasks {tasks}; and every value that you do not give "
        f"(trainer.max_steps {steps}); give --config FILE to train other tasks"
    )


def _finished(cli: MtclCLI) -> str:
    """Advice for a run that has no steps left. This is not an error, since jobs that restart until they end come
    here.
    """
    steps = cli.trainer.max_steps
    return (
        f"{cli.run_dir} is finished: it has trained all its {steps:,} steps (trainer.max_steps). To evaluate it: mtcl "
        f"test --ckpt {cli.run_dir}; to train it further: --resume {cli.run_dir} --trainer.max_steps {2 * steps}; to "
        f"start a new run from its weights: --config ... --init_from {cli.run_dir}"
    )


def evaluate(cli: MtclCLI, command: str, *, with_base: bool) -> int:
    """Evaluate, also with the base encoder if asked; write metrics and per-item scores of both to the run folder."""
    from mtcl.training.callbacks.report import results_table

    run = cli.trainer.validate if command == "validate" else cli.trainer.test
    run(cli.model, cli.datamodule, verbose=False)
    now, base = dict(cli.model.results), None
    if with_base:
        log.info("the same with the base encoder, to compare")
        with cli.model.evaluation.of_base():
            run(cli.model, cli.datamodule, verbose=False)
        base = dict(cli.model.results)
    if cli.trainer.is_global_zero:
        split = "val" if command == "validate" else "test"
        if not now:
            log.warning("nothing is evaluated: trainer.limit_%s_batches is 0", split)
        else:
            print_table(results_table(now, base, module=cli.model, split=split))
        for of, results in ((split, now), (f"{split}_base", base or {})):
            for name, result in results.items():
                result.items.write(cli.run_dir / "scores" / of / f"{name}.parquet")
            if results:
                metrics = {name: result.metrics for name, result in results.items()}
                write_text(cli.run_dir / f"{of}.json", json.dumps(metrics, indent=1))
    return 0


def predict(cli: MtclCLI) -> int:
    """Write each task's test texts with their embeddings to Parquet files in the run folder."""
    embeddings = cli.trainer.predict(cli.model, cli.datamodule)
    if not cli.trainer.is_global_zero:
        return 0
    if not embeddings:
        log.warning("nothing is written: trainer.limit_predict_batches is 0")
        return 0
    for pool, vectors_TD in zip(cli.datamodule.pools("test"), embeddings, strict=True):
        path = cli.run_dir / "embeddings" / f"{pool.name}.parquet"
        write_vectors(path, pool.store.pairs.texts, vectors_TD)
        print(f"written {path}: {vectors_TD.shape[0]:,} texts of {vectors_TD.shape[1]} dimensions")
    return 0


def write_vectors(path: Path, texts: pa.Array, vectors_TD: Tensor) -> None:
    """Write a Parquet file with the columns `text` and `embedding`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = pa.array(vectors_TD.float().flatten().numpy())
    column = pa.FixedSizeListArray.from_arrays(flat, vectors_TD.shape[1])
    with written_whole(path) as aside:
        pq.write_table(pa.table({"text": texts, "embedding": column}), aside)


def _parser(command: str) -> argparse.ArgumentParser:
    parser = Parser(prog=f"mtcl {command}", description=DESCRIPTIONS[command], add_help=False, formatter_class=_format)
    add = parser.add_argument
    add("-c", "--config", action="append", default=[], metavar="FILE", help="YAML file; several merge, later ones win")
    add("--run_dir", metavar="DIR", help="folder of the run (default: runs/NAME, from the name of the first FILE)")
    add("--tasks_dir", metavar="DIR", help="additional folders of task files, besides ./tasks and MTCL_TASKS_DIR")
    if command == "fit":
        add("--resume", nargs="?", const="last", metavar="RUN", help="continue RUN (folder or .ckpt) or the newest run")
        add("--allow_changes", action="store_true", help="with --resume: even if tasks, pairs or encoder changed")
        add("--init_from", metavar="RUN", help="start a new run from the weights of a run folder (best.ckpt) or .ckpt")
    else:
        add("--ckpt", metavar="RUN", help="run folder (best.ckpt) or .ckpt to use (default: the base encoder)")
    add("--trust_checkpoint", action="store_true", help="use a checkpoint's whole configuration, which may run code")
    add("--no_base", action="store_true", help="do not evaluate the base encoder for comparison")
    add("-h", "--help", action="store_true", help="show this help")
    add("--help_all", action="store_true", help="show every key of a configuration")
    parser.set_defaults(resume=None, init_from=None, ckpt=None, allow_changes=False)
    return parser


def _format(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, width=WIDTH, max_help_position=26)
