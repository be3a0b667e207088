"""`mtcl embed CKPT IN... --out DIR`: embed the texts of many files with a trained encoder.

Each input file gives one file of vectors with the same name. If the command is stopped or killed, run it again:
finished work is kept.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, get_args

from mtcl.commands.arguments import Parser
from mtcl.commands.process import quiet_libraries
from mtcl.errors import ConfigError, at

if TYPE_CHECKING:
    from mtcl.deploy.embed.run import Done, Job
    from mtcl.deploy.embed.settings import Settings
    from mtcl.deploy.embed.shards import Shard
    from mtcl.deploy.vectors import ShardRecord

log = logging.getLogger("mtcl")
OPTIONS = {name: f"--{name}" for name in ("task", "role", "dim", "dtype", "precision", "keep")}


class _StoppedError(KeyboardInterrupt):
    """A SIGTERM."""


def main(command: str, arguments: list[str]) -> int:
    parser = _parser(command)
    options = parser.parse_args(arguments)
    if "-" not in options.inputs:
        parser.refuse(options, "lines", where="without standard input (-)")
    if options.dim is None:
        parser.refuse(options, "any_dim", where="without --dim")
    part = shard_of(options.shard)
    quiet_libraries()
    try:
        with _stoppable():
            return _embed(options, part)
    except KeyboardInterrupt as stop:
        then = (
            "standard input cannot be continued: send it again from its beginning"
            if "-" in options.inputs
            else f"the same command continues with what is in {options.out}"
        )
        print(f"mtcl: stopped; {then}", file=sys.stderr)
        return 143 if isinstance(stop, _StoppedError) else 130


def _embed(options: argparse.Namespace, part: tuple[int, int]) -> int:
    from mtcl.deploy.embed.computing import WINDOW, Choice
    from mtcl.deploy.embed.outputs import gone
    from mtcl.deploy.embed.progress import shown
    from mtcl.deploy.embed.run import Done, Job
    from mtcl.deploy.embed.shards import Columns, check_apart, every, find_shards
    from mtcl.deploy.embed.workers import EncoderSource, embed_in_processes

    with at(**OPTIONS):
        columns = Columns(options.text, options.id, tuple(options.keep))
    out = Path(options.out).expanduser()
    shards = tuple(find_shards(options.inputs, stdin="txt" if options.lines else "jsonl", out=out))
    check_apart(shards, out)
    apart, encoder = options.tokenize != "here", Path(options.encoder)
    job = Job(out, shards, columns, options.replace_changed, apart, encoder)
    mine = every(shards, part)
    choice = Choice(options.task, options.role, options.dim, options.any_dim, options.dtype, options.precision)
    source = EncoderSource(options.encoder, choice, options.trust_checkpoint)
    asked = _num_processes(shards, options.processes)
    with at(**OPTIONS):
        computer = source.load()
    window = WINDOW if options.window is None else options.window
    if window < 1:
        raise ConfigError(f"--window is {window}: give 1 or more")
    settings = job.agree(computer, computer.settings(columns, file_format=options.format, window=window))
    if records := gone(out, shards, options.inputs):
        _tell_of_gone(records, out, remove=options.prune)
    left = job.left(mine)
    num_processes = min(asked, max(1, sum(shard.most_windows(window) for shard in left)))
    before = Done(before=len(mine) - len(left))
    with shown(sum(shard.size for shard in left)) as report:
        if num_processes == 1:
            done = job.embed(left, computer, settings, report)
        else:
            del computer
            done = embed_in_processes(job, source, settings, left, num_processes=num_processes, report=report)
            done = replace(done, elsewhere=len(left) - done.shards)
    print(summary(before + done, job, settings))
    return 1 if done.bad and not done.rows and not done.elsewhere else 0


def _tell_of_gone(records: Sequence[ShardRecord], out: Path, *, remove: bool) -> None:
    """Tell of vectors whose input is gone, or remove them."""
    from mtcl.deploy.embed.outputs import prune

    names = ", ".join(record.name for record in records[:3]) + (", ..." if len(records) > 3 else "")
    if remove:
        prune(out, records)
        log.info("%s: removed the vectors of %s inputs that are gone: %s", out, f"{len(records):,}", names)
    else:
        log.warning(
            "%s has vectors of %s inputs that are gone (%s), which search still finds: --prune removes them",
            out,
            f"{len(records):,}",
            names,
        )


def _num_processes(shards: Sequence[Shard], asked: int | None) -> int:
    from mtcl.deploy.embed.workers import num_devices

    if asked is not None and asked < 1:
        raise ConfigError(f"--processes is {asked}: give 1 or more")
    has_stream = any(shard.path is None for shard in shards)
    if has_stream and (asked or 1) > 1:
        raise ConfigError(f"--processes is {asked}, and only one process can read standard input: give files")
    return 1 if has_stream else asked or num_devices()


def summary(done: Done, job: Job, settings: Settings) -> str:
    """What the command did, in one line."""
    told = [f"{done.shards:,} files with {done.rows:,} vectors of {settings.dim} dimensions ({settings.dtype})"]
    if done.bad:
        told.append(f"{done.bad:,} bad rows left out, see {job.folder / '_bad'}")
    if done.full:
        told.append(f"{done.full:,} texts fill {settings.max_length} tokens, and what is longer was cut off")
    if done.clipped:
        share = 100 * done.clipped / (done.rows * settings.dim)
        told.append(f"{share:.1f} % of the values are at an end of their int8 range")
    if done.before:
        told.append(f"{done.before:,} files were done before")
    if done.elsewhere:
        told.append(f"{done.elsewhere:,} are left to other processes")
    return f"written {job.folder}: {'; '.join(told)}"


def shard_of(given: str | None) -> tuple[int, int]:
    """The numbers of `i/n`; `0/1` is everything. Raises `ConfigError` for anything else."""
    if given is None:
        return 0, 1
    index, slash, count = given.partition("/")
    if not slash or not index.isdecimal() or not count.isdecimal() or not int(index) < int(count):
        raise ConfigError(f"--shard is {given!r}: give i/n with i from 0 to n - 1, for example 0/8")
    return int(index), int(count)


@contextmanager
def _stoppable() -> Iterator[None]:
    """A SIGTERM ends the block as Ctrl-C does."""

    def stop(_: int, __: FrameType | None) -> None:
        raise _StoppedError

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser(command: str) -> Parser:
    from mtcl.deploy.embed.numbers import NUMBER_TYPES
    from mtcl.deploy.embed.settings import FileFormat

    parser = Parser(prog=f"mtcl {command}", description=__doc__)
    parser.add_argument("encoder", metavar="CKPT", help="run folder (best checkpoint), .ckpt, model's folder or name")
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="IN",
        help=".parquet, .jsonl, .csv, .txt (one text per line; these three also .gz), a folder of such files, or - "
        "for JSONL on standard input",
    )
    parser.add_argument("--out", required=True, help="folder to write; finished files in it are kept")
    columns = parser.add_argument_group("columns")
    columns.add_argument("--text", default="text", metavar="COLUMN", help="column of texts (default: %(default)s)")
    columns.add_argument("--id", metavar="COLUMN", help="column of ids, text or whole numbers (default: row numbers)")
    columns.add_argument("--keep", nargs="+", default=[], metavar="COLUMN", help="columns to copy")
    columns.add_argument("--lines", action="store_true", help="standard input has one text per line instead of JSONL")
    vectors = parser.add_argument_group("vectors")
    vectors.add_argument("--task", help="use the prompt, max length and head of this task (default: no task)")
    vectors.add_argument(
        "--role",
        choices=["query", "document"],
        default="document",
        help="use the prompt of this role (default: %(default)s)",
    )
    vectors.add_argument(
        "--dim", type=int, help="keep this many leading dimensions, a number that was trained (default: all)"
    )
    vectors.add_argument("--any_dim", action="store_true", help="accept a --dim that was not trained")
    vectors.add_argument(
        "--dtype", choices=NUMBER_TYPES, default="float32", help="type of the stored numbers (default: %(default)s)"
    )
    vectors.add_argument(
        "--precision",
        choices=["float32", "bf16"],
        default="float32",
        help="precision to compute in (default: %(default)s)",
    )
    vectors.add_argument(
        "--format", choices=get_args(FileFormat), default="parquet", help="format of the files (default: %(default)s)"
    )
    work = parser.add_argument_group("work")
    work.add_argument("--shard", metavar="I/N", help="embed only every N-th file, from the I-th on, counted from 0")
    work.add_argument("--processes", type=int, help="processes on this machine (default: one per GPU, or 1)")
    work.add_argument(
        "--replace_changed", action="store_true", help="embed changed files again instead of refusing them"
    )
    work.add_argument("--prune", action="store_true", help="remove vectors of files that are gone from an input folder")
    work.add_argument("--window", type=int, help="rows that are encoded and written together (default: 16384)")
    work.add_argument(
        "--tokenize",
        choices=["here", "apart"],
        default="apart",
        help="tokenise in this process or in another one (default)",
    )
    work.add_argument(
        "--trust_checkpoint", action="store_true", help="let a base model run code from its repository if the run did"
    )
    return parser
