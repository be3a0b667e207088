"""A plan over 100 million pairs and a store of 10 million texts: memory, start time and time per step of one process.

    python -m tests.benchmarks.scale [--pairs 100000000] [--texts 30000000] [--steps 100] [--folder FOLDER]

The store's files are generated (about 4 GB in a temporary folder), not built from text. With `--steps`, `mtcl fit`
trains that many steps of 16 pairs on the store and on one of 1,000 pairs, on one and two ranks. The difference is what
the size of the store costs.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from mtcl.data.intact import seal
from mtcl.data.plan import Plan, PlanTask
from mtcl.data.pseudorandom import permute
from mtcl.data.rows import TaskData
from mtcl.data.steps import StepDataset
from mtcl.data.store import TokenStore, prepare
from mtcl.data.tokenizer import Tokenizer
from mtcl.encoder.config import DEFAULT_MODEL
from mtcl.encoder.hub import resolve_model
from mtcl.task.registry import discover
from tests.benchmarks.build import fit, write_shards
from tests.benchmarks.process_memory import memory_mib
from tests.benchmarks.workload import vocabulary_of

LENGTH = 12
"""Tokens of each generated text."""


def write_store(folder: Path, *, pairs: int, texts: int) -> None:
    """Write the files of a token store whose pair p is (p mod texts, a mix of p)."""
    folder.mkdir(parents=True)
    every = np.arange(texts, dtype=np.int64)
    arrays = {
        "tokens_offsets": np.arange(texts + 1, dtype=np.int64) * LENGTH,
        "identity": every,
        "keys_offsets": np.arange(texts + 1, dtype=np.int64),
        "keys_values": every + 1,
        "candidates": every[:1],
        "queries": every[:1],
        "sides": np.zeros(texts, dtype=np.uint8),
        "log_q_anchor": np.zeros(texts, dtype=np.float32),
        "log_q_positive": np.zeros(texts, dtype=np.float32),
        "tokens_values": np.resize(np.arange(1000, 30_000, dtype=np.uint16), texts * LENGTH),
        "anchors": np.resize(np.arange(texts, dtype=np.int32), pairs),
        "positives": np.resize(permute(every, size=texts, key=1).astype(np.int32), pairs),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    names = pa.table({"text": pa.array(every).cast(pa.large_string())})
    with pa.OSFile(str(folder / "texts.arrow"), "wb") as file, pa.ipc.new_file(file, names.schema) as writer:
        writer.write_table(names)
    facts = {"kind": "positive", "language_names": [], "exclude_self": False, "tied": False, "skipped": {}}
    seal(folder, facts | {"problems": [], "num_cut": 0, "num_distinct": texts})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=100_000_000)
    parser.add_argument("--texts", type=int, default=30_000_000)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        write_store(Path(name) / "store", pairs=options.pairs, texts=options.texts)
        command = [sys.executable, "-m", "tests.benchmarks.scale", "--measure", str(Path(name) / "store")]
        subprocess.run(command, check=True)
        if options.steps:
            for pairs in (1000, options.pairs):
                train(Path(name) / str(pairs), Path(name) / "store", pairs=pairs, steps=options.steps)


def train(folder: Path, store: Path, *, pairs: int, steps: int) -> None:
    """Train on a store of 1,000 pairs that is built, or on the generated one in its place."""
    write_shards(folder, pairs=1000, texts=None, words=(3, 4), vocabulary=vocabulary_of(resolve_model(DEFAULT_MODEL)))
    tokenizer = Tokenizer.load(resolve_model(DEFAULT_MODEL))
    task = discover(folder / "tasks")["generated"]
    built = prepare(task, "train", root=folder, tokenizer=tokenizer, max_length=64, cache=folder / "cache")
    if len(built) != pairs:
        shutil.rmtree(built.folder)
        store.rename(built.folder)
    for ranks in (1, 2):
        print(f"{pairs:,} pairs: {fit(folder, steps=steps, ranks=ranks)}", flush=True)
        assert f"generated/train: {pairs:,} pairs" in (folder / "log.txt").read_text(), "another store was used"


def measure(folder: Path) -> None:
    """Print the figures of a process that opens the store and assembles batches of random steps."""
    before = memory_mib("RssAnon")
    start = time.perf_counter()
    store = TokenStore.open(folder)
    plan = Plan((PlanTask("generated", len(store), 256),))
    dataset = StepDataset(plan, [TaskData(store)])
    dataset[0]
    opened = time.perf_counter() - start
    steps = np.random.default_rng(0).integers(0, len(store) // 256, 300).tolist()
    start = time.perf_counter()
    for step in steps:
        plan.draws(step)
    drawn = (time.perf_counter() - start) / len(steps)
    start = time.perf_counter()
    for step in steps:
        dataset[step]
    assembled = (time.perf_counter() - start) / len(steps)
    print(f"pairs {len(store):,}, texts {len(store.tokens):,}")
    print(
        f"first batch after {opened:.2f} s; draws of a step {drawn * 1e3:.2f} ms; whole batch {assembled * 1e3:.2f} ms"
    )
    own, mapped = memory_mib("RssAnon"), memory_mib("RssFile")
    print(f"memory of its own {own:,.0f} MiB, {before:,.0f} before opening; {mapped:,.0f} MiB of shared pages")


if __name__ == "__main__":
    main()
