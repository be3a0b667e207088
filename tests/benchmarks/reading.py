"""Read a large JSONL file: seconds, and the peak memory that the process needs for it.

    python -m tests.benchmarks.reading [--rows 1000000] [--mixed]

A row has a query of 4 words, a document of 25, an id and a note of 10 words that no pair reads, 395 bytes on average.
With `--mixed` every other id is text instead of a number, so that Python's parser reads each block.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.benchmarks.process_memory import memory_mib


def write(path: Path, *, rows: int, mixed: bool) -> None:
    generator = random.Random(0)
    words = [f"word{number}" for number in range(5000)]
    path.parent.mkdir()
    with path.open("w") as file:
        for number in range(rows):
            texts = {name: " ".join(generator.choices(words, k=k)) for name, k in (("query", 4), ("document", 25))}
            own_id = f"a{number}" if mixed and number % 2 else number // 3
            row = {**texts, "id": own_id, "note": " ".join(generator.choices(words, k=10))}
            file.write(json.dumps(row) + "\n")


def read(root: Path) -> None:
    """Print the figures of this process."""
    import pyarrow.json
    import pyarrow.parquet  # noqa: F401

    from mtcl import Files, QueryDocument

    most, is_done = 0.0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not is_done.wait(0.01):
            most = max(most, memory_mib("RssAnon"))

    before, watcher = memory_mib("RssAnon"), threading.Thread(target=watch)
    watcher.start()
    begun, cpu = time.perf_counter(), time.process_time()
    rows = Files("generated").select("train", root, QueryDocument(document_id="id").columns())
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    is_done.set()
    watcher.join()
    print(f"{len(rows):,} rows in {seconds:.1f} s ({cpu:.1f} s of CPU time), at most {most - before:,.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--mixed", action="store_true")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        read(options.read)
        return
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "generated" / "train.jsonl"
        write(path, rows=options.rows, mixed=options.mixed)
        print(f"{path.stat().st_size / 2**20:,.0f} MiB")
        subprocess.run([sys.executable, "-m", "tests.benchmarks.reading", "--read", name], check=True)


if __name__ == "__main__":
    main()
