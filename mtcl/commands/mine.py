"""`mtcl mine TASK`: find hard negatives for a task's training rows with a checkpoint or any encoder.

Writes a data root to train on: the task's training rows with one more column, and links to everything else. The
original rows are never changed. Embeddings are cached in shards, so a killed command resumes where it stopped.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from mtcl.commands.arguments import Parser
from mtcl.commands.folder_lock import only_writer
from mtcl.commands.process import quiet_libraries
from mtcl.encoder.config import Pooling
from mtcl.errors import ConfigError, at
from mtcl.files import data_root
from mtcl.mining.report import MiningReport
from mtcl.mining.root import lay_out
from mtcl.mining.rows import training_rows
from mtcl.task.registry import discover
from mtcl.task.sources import Files

if TYPE_CHECKING:
    from mtcl.encoder.text_encoder import TextEncoder
    from mtcl.task.contract import Task

log = logging.getLogger("mtcl")


def main(command: str, arguments: list[str]) -> int:
    parser = _parser(command)
    options = parser.parse_args(arguments)
    if options.ckpt and options.model:
        raise ConfigError("--ckpt and --model cannot be combined: a checkpoint already names its encoder")
    if not options.ckpt:
        parser.refuse(options, "trust_checkpoint", where="without --ckpt")
    if not options.model:
        parser.refuse(options, "pooling", where="without --model: the encoder has its own")
    if importlib.util.find_spec("faiss") is None:
        raise ConfigError("mtcl mine needs FAISS, which is not installed: pip install 'mtcl[mine]'")
    from mtcl.encoder.config import DEFAULT_MODEL
    from mtcl.mining.candidates import Limits
    from mtcl.mining.miner import Miner, Search

    with at("--"):
        limits = Limits(options.num, tuple(options.ranks), options.below)
    root = data_root(options.root)
    task = _without_negatives(discover(options.tasks_dir)[options.task])
    quiet_libraries()
    with at(column="--column"):
        rows = training_rows(task, root, column=options.column)
    encoder = encoder_of(options)
    out = Path(options.out).expanduser()
    with only_writer(out, f"{command}-{task.name}", advice="wait for it, or give another --out"):
        folder = lay_out(out, task, root, overwrite=options.overwrite)
        search = Search(options.candidates, options.index, options.max_length, options.cache)
        with at(source="--candidates", index="--index"):
            miner = Miner(task, root, encoder, search)
        report = MiningReport(task.name, options.ckpt or options.model or DEFAULT_MODEL, limits, miner.num_candidates)
        with at(ranks="--ranks"):
            rows.write(folder / "train.parquet", miner.blocks(rows, report))
        report.write(folder)
    print(report.text())
    print(f"\nwritten {folder / 'train.parquet'}, with this report next to it; {_what_to_do(task, options)}")
    if not report.num_negatives:
        log.warning("no row has a negative, so mining changes nothing: the lines `neighbours left out` say why")
    return 0


def encoder_of(options: argparse.Namespace) -> TextEncoder:
    """The encoder to mine with, on the best device."""
    from mtcl.encoder.config import EncoderConfig
    from mtcl.encoder.text_encoder import TextEncoder

    if options.ckpt:
        return TextEncoder.load(options.ckpt, trust_checkpoint=options.trust_checkpoint)
    config = EncoderConfig(name=options.model, pooling=options.pooling) if options.model else EncoderConfig()
    return TextEncoder.base(config)


def _without_negatives(task: Task) -> Task:
    """The task without a negatives column, which the rows may lack or which mining replaces."""
    pairs: Any = task.pairs
    if getattr(pairs, "negatives", ()):
        task.pairs = cast("Any", replace(pairs, negatives=()))
    return task


def _what_to_do(task: Task, options: argparse.Namespace) -> str:
    kind = type(task.pairs)
    if not hasattr(task.pairs, "negatives"):
        return f"{kind.__name__} does not read negatives: use the column {options.column!r} in a method `pairs`"
    return (
        f'train on it: pairs = {kind.__name__}(..., negatives="{options.column}")'
        f"{'' if isinstance(task.data, Files) else f' and data = Files({task.name!r})'} in the task, "
        f"the column in its sample too, and --data.root {options.out}"
    )


def _parser(command: str) -> Parser:
    parser = Parser(prog=f"mtcl {command}", description=__doc__)
    parser.add_argument("task", help="name of the task")
    parser.add_argument("--out", required=True, help="data root to write")
    parser.add_argument("--ckpt", help="run folder (its best checkpoint) or .ckpt to mine with")
    parser.add_argument(
        "--trust_checkpoint", action="store_true", help="let --ckpt's base model run code from its repository"
    )
    parser.add_argument("--model", help="encoder to mine with, folder or Hub name (default: mtcl's base encoder)")
    parser.add_argument(
        "--pooling", choices=list(get_args(Pooling)), help="pooling of --model (default: what it declares)"
    )
    parser.add_argument("--num", type=int, default=4, help="negatives per row (default: %(default)s)")
    parser.add_argument(
        "--ranks",
        type=int,
        nargs=2,
        default=[10, 100],
        metavar=("FIRST", "LAST"),
        help="skip the FIRST nearest candidates, and take none after the LAST nearest (default: 10 100)",
    )
    parser.add_argument(
        "--below", type=float, default=0.95, help="score limit, as a share of the positive's (default: %(default)s)"
    )
    parser.add_argument(
        "--candidates",
        choices=["train", "corpus"],
        default="train",
        help="take negatives from the training rows' positives (default) or from the task's corpus",
    )
    parser.add_argument("--index", default="Flat", help="FAISS index: Flat is exact, HNSW32 and IVF1024,Flat faster")
    parser.add_argument("--column", default="negatives", help="name of the new column (default: %(default)s)")
    parser.add_argument("--max_length", type=int, help="tokens per text (default: the checkpoint's or the model's)")
    parser.add_argument("--data.root", dest="root", help="data root (default: MTCL_DATA)")
    parser.add_argument("--tasks_dir", help="additional folders of task files")
    parser.add_argument("--cache", help="folder for stores and embeddings (default: MTCL_CACHE or ~/.cache/mtcl)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier output in --out")
    return parser
