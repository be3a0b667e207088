"""Build a token store from tens of millions of texts in Parquet shards, train on it, and say how much memory it takes.

    python -m tests.benchmarks.build [--pairs 12000000] [--texts 8000000] [--words 3 25] [--steps 100] [--folder FOLDER]

A pair is a query of 3 words and a post of 25, drawn from the encoder's own vocabulary. All of them are distinct, or
with `--texts`, they are drawn from so many. The tokenizer's speed is measured with a plain call on some of the texts,
whose results are discarded. With `--steps`, runs on one and two ranks train that many steps of 16 pairs. 12 million
pairs need about 10 GB of disk.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mtcl.data.pseudorandom import mix
from tests.benchmarks.process_memory import group_mib, memory_mib
from tests.benchmarks.workload import vocabulary_of

SHARD = 500_000
SAMPLE = 200_000
TASK = '''
from mtcl import MRR, Files, QueryDocument, Task


class Generated(Task):
    """Generated texts."""

    name = "generated"
    data = Files("generated")
    pairs = QueryDocument()
    metric = MRR()
    sample = [{"query": "a", "document": "b"}, {"query": "c", "document": "d"}]
'''


def write_shards(folder: Path, *, pairs: int, texts: int | None, words: tuple[int, int], vocabulary: list[str]) -> None:
    """Write `folder/generated/train/*.parquet`, and the first pairs again as a validation split."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    (folder / "generated" / "train").mkdir(parents=True, exist_ok=True)
    (folder / "tasks").mkdir()
    (folder / "tasks" / "generated.py").write_text(TASK)
    known = pa.array(vocabulary)
    for number, start in enumerate(range(0, pairs, SHARD)):
        generator, rows = np.random.default_rng(number), np.arange(start, min(start + SHARD, pairs))
        columns = {}
        for side, (name, length) in enumerate(zip(("query", "document"), words, strict=True)):
            own = rows if texts is None else generator.integers(texts // 2, size=len(rows))
            places = (2 * own[:, None] + side) * 64 + np.arange(length)
            drawn = known.take(
                pa.array((mix(places.ravel().astype(np.uint64)) % np.uint64(len(known))).astype(np.int64))
            )
            lists = pa.ListArray.from_arrays(pa.array(np.arange(0, len(drawn) + 1, length, dtype=np.int32)), drawn)
            columns[name] = pc.binary_join(lists, " ")
        table = pa.table(columns)
        pq.write_table(table, folder / "generated" / "train" / f"{number:04}.parquet")
        if not number:
            pq.write_table(table.slice(0, 200), folder / "generated" / "validation.parquet")


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """The most memory of this process in the block, in MiB: its own, and with mapped files."""
    most, is_done = {"RssAnon": 0.0, "VmRSS": 0.0}, threading.Event()

    def watch() -> None:
        while not is_done.wait(0.02):
            for what in most:
                most[what] = max(most[what], memory_mib(what))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        is_done.set()
        watcher.join()


def build(folder: Path) -> None:
    """Print the figures of a process that builds the store, or opens an existing one."""
    from mtcl.data.store import prepare
    from mtcl.data.tokenise import BATCH
    from mtcl.data.tokenizer import Tokenizer
    from mtcl.encoder.config import DEFAULT_MODEL
    from mtcl.encoder.hub import resolve_model
    from mtcl.task.registry import discover

    task = discover(folder / "tasks")["generated"]
    tokenizer = Tokenizer.load(resolve_model(DEFAULT_MODEL))
    before, start, cpu = memory_mib("RssAnon"), time.perf_counter(), time.process_time()
    with watched() as most:
        store = prepare(task, "train", root=folder, tokenizer=tokenizer, max_length=64, cache=folder / "cache")
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(f"{len(store):,} pairs, {len(store.tokens):,} texts, {len(store.tokens.values):,} tokens")
    print(f"{seconds:.1f} s ({cpu:.1f} s of CPU time), {len(store.tokens) / seconds:,.0f} texts/s")
    print(
        f"own memory before {before:,.0f} MiB, at most {most['RssAnon']:,.0f}, {most['VmRSS']:,.0f} with mapped files"
    )
    some = np.random.default_rng(0).choice(len(store.tokens), min(SAMPLE, len(store.tokens)), replace=False)
    texts = store.pairs.texts.take(np.sort(some)).to_pylist()
    start = time.perf_counter()
    for first in range(0, len(texts), BATCH):
        tokenizer.backend(texts[first : first + BATCH], truncation=True, max_length=64)
    print(f"the tokenizer alone {len(texts) / (time.perf_counter() - start):,.0f} texts/s", flush=True)


def fit(folder: Path, *, steps: int, ranks: int) -> str:
    """Train on a store with `mtcl fit`: seconds, and the most memory of its processes together."""
    options = {
        "data.root": folder,
        "tasks_dir": folder / "tasks",
        "tasks.generated.weight": 1,
        "data.max_length": 64,
        "data.batch_size": 16,
        "data.num_workers": 0,
        "trainer.max_steps": steps,
        "trainer.val_check_interval": steps,
        "trainer.devices": ranks,
        "run_dir": folder / f"run{ranks}",
    }
    command = [
        sys.executable,
        "-m",
        "mtcl",
        "fit",
        "--no_base",
        *(f"--{name}={value}" for name, value in options.items()),
    ]
    environment = os.environ | {"MTCL_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    start, most = time.perf_counter(), 0.0
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        while process.poll() is None:
            most = max(most, group_mib(process.pid, "RssAnon"))
            time.sleep(0.1)
    assert process.returncode == 0, (folder / "log.txt").read_text()
    return f"{steps} steps on {ranks} ranks: {time.perf_counter() - start:.0f} s, own memory at most {most:,.0f} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12_000_000)
    parser.add_argument("--texts", type=int)
    parser.add_argument("--words", type=int, nargs=2, default=(3, 25))
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build:
        build(options.build)
        return
    from mtcl.encoder.config import DEFAULT_MODEL
    from mtcl.encoder.hub import resolve_model

    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder, known = Path(name), vocabulary_of(resolve_model(DEFAULT_MODEL))
        write_shards(folder, pairs=options.pairs, texts=options.texts, words=options.words, vocabulary=known)
        environment = os.environ | {"MTCL_CACHE": str(folder / "cache")}
        for title in ("built", "opened again"):
            print(title, flush=True)
            subprocess.run(
                [sys.executable, "-m", "tests.benchmarks.build", "--build", name], env=environment, check=True
            )
        for ranks in (1, 2) if options.steps else ():
            print(fit(folder, steps=options.steps, ranks=ranks), flush=True)


if __name__ == "__main__":
    main()
