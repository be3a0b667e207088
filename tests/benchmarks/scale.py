"""A plan over 100 million pairs and a store of 10 million texts: memory, start time and time per step of one process.

    python -m tests.benchmarks.scale [--pairs 100000000] [--texts 10000000]

The store's files are generated (about 1.5 GB in a temporary folder), not built from text.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from mtcl.data.batch import StepDataset, TaskData
from mtcl.data.intact import seal
from mtcl.data.plan import Plan, PlanTask, permute
from mtcl.data.store import TokenStore
from tests.benchmarks.process_memory import memory_mib

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
        "log_q_anchor": np.zeros(texts, dtype=np.float32),
        "log_q_positive": np.zeros(texts, dtype=np.float32),
        "tokens_values": np.resize(np.arange(1000, 30_000, dtype=np.uint16), texts * LENGTH),
        "anchors": np.resize(np.arange(texts, dtype=np.int32), pairs),
        "positives": np.resize(permute(every, size=texts, key=1).astype(np.int32), pairs),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    facts = {"kind": "positive", "language_names": [], "exclude_self": False, "tied": False, "skipped": {}}
    seal(folder, facts | {"problems": [], "num_cut": 0, "num_distinct": texts})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=100_000_000)
    parser.add_argument("--texts", type=int, default=10_000_000)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return
    import subprocess
    import sys

    with tempfile.TemporaryDirectory() as name:
        write_store(Path(name) / "store", pairs=options.pairs, texts=options.texts)
        command = [sys.executable, "-m", "tests.benchmarks.scale", "--measure", str(Path(name) / "store")]
        subprocess.run(command, check=True)


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
