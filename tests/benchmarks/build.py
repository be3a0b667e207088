"""Build a token store from tens of millions of texts in Parquet shards: memory, and speed against the tokenizer alone.

    python -m tests.benchmarks.build [--pairs 12000000] [--folder FOLDER]

A pair is a query of 3 words and a post of 25, drawn from the encoder's own vocabulary. The tokenizer's speed is
measured with a plain call on some of the texts, whose results are discarded. Needs about 10 GB of disk.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.benchmarks.process_memory import memory_mib
from tests.benchmarks.workload import vocabulary_of

WORDS = (3, 25)
SHARD = 500_000
SAMPLE = 200_000


def write_shards(folder: Path, *, pairs: int, vocabulary: list[str]) -> None:
    """Write `folder/generated/train/*.parquet`, with texts that are nearly all distinct."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    (folder / "generated" / "train").mkdir(parents=True, exist_ok=True)
    words = pa.array(vocabulary)
    for number, start in enumerate(range(0, pairs, SHARD)):
        generator = np.random.default_rng(number)
        size = min(SHARD, pairs - start)
        columns = []
        for length in WORDS:
            drawn = words.take(pa.array(generator.integers(len(vocabulary), size=size * length)))
            rows = pa.ListArray.from_arrays(pa.array(np.arange(0, size * length + 1, length, dtype=np.int32)), drawn)
            columns.append(pc.binary_join(rows, " "))
        table = pa.table(dict(zip(("query", "document"), columns, strict=True)))
        pq.write_table(table, folder / "generated" / "train" / f"{number:04}.parquet")


def build(folder: Path) -> None:
    """Print the figures of a process that builds the store, or opens an existing one."""
    from mtcl import MRR, Files, QueryDocument, Task
    from mtcl.data.store import prepare
    from mtcl.data.tokenise import BATCH
    from mtcl.data.tokenizer import Tokenizer
    from mtcl.encoder.config import DEFAULT_MODEL
    from mtcl.encoder.hub import resolve_model

    class Generated(Task):
        """Generated texts."""

        name = "generated"
        data = Files("generated")
        pairs = QueryDocument()
        metric = MRR()
        sample = [{"query": "a", "document": "b"}]

    tokenizer = Tokenizer.load(resolve_model(DEFAULT_MODEL))
    before, start = memory_mib("RssAnon"), time.perf_counter()
    store = prepare(Generated(), "train", root=folder, tokenizer=tokenizer, max_length=64, cache=folder / "cache")
    seconds = time.perf_counter() - start
    print(f"{len(store):,} pairs, {len(store.tokens):,} texts, {len(store.tokens.values):,} tokens")
    print(f"{seconds:.1f} s, {len(store.tokens) / seconds:,.0f} texts/s")
    print(f"own memory before {before:,.0f} MiB, now {memory_mib('RssAnon'):,.0f}, at most {memory_mib('VmHWM'):,.0f}")
    some = np.random.default_rng(0).choice(len(store.tokens), min(SAMPLE, len(store.tokens)), replace=False)
    texts = store.texts().take(np.sort(some)).to_pylist()
    start = time.perf_counter()
    for first in range(0, len(texts), BATCH):
        tokenizer.backend(texts[first : first + BATCH], truncation=True, max_length=64)
    print(f"the tokenizer alone {len(texts) / (time.perf_counter() - start):,.0f} texts/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build:
        build(options.build)
        return
    from mtcl.encoder.config import DEFAULT_MODEL
    from mtcl.encoder.hub import resolve_model

    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        write_shards(Path(name), pairs=options.pairs, vocabulary=vocabulary_of(resolve_model(DEFAULT_MODEL)))
        for title in ("built", "opened again"):
            print(title, flush=True)
            subprocess.run([sys.executable, "-m", "tests.benchmarks.build", "--build", name], check=True)


if __name__ == "__main__":
    main()
