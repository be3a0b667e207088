"""Bulk embedding against sentence-transformers, and its memory.

    python -m tests.benchmarks.embed                             # 2,000 posts, 3 rounds, one thread, CPU time
    python -m tests.benchmarks.embed --rows 200000 --rounds 3 --threads 2 --clock wall
    python -m tests.benchmarks.embed --memory 20000 2000000      # peak memory of the command, tiny encoder

Posts of mixed length: of the public data sets (--data FOLDER: 60 % headlines, tweets and questions, 25 % bodies of
Stack Exchange and occupations, 15 % of 3 to 20 short ones joined), or of the demo corpus. Both use the same weights,
in float32 and in bf16, and the same threads, and take turns; sentence-transformers gets each of several batch sizes
in every round, and its best counts. CPU time is fairer than wall time if others use the machine, and means something
with one thread only. `distinct` encodes equal posts once, as the command does in each window.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from mtcl.console import markdown_table

BATCHES = (8, 16, 32, 64, 128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cuda: with --clock wall")
    parser.add_argument("--encoder", default="minilm", help="a name of tests.benchmarks.encoders.SHAPES")
    parser.add_argument("--clock", choices=["cpu", "wall"], default="cpu")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--data", type=Path, help="folder of the public data sets")
    parser.add_argument("--memory", type=int, nargs="+", metavar="ROWS", help="measure the peak memory instead")
    settings = parser.parse_args()
    if settings.memory:
        measure_memory(settings.memory)
        return
    if settings.clock == "cpu" and settings.threads != 1:
        parser.error("--clock cpu needs --threads 1")
    os.environ["RAYON_NUM_THREADS"] = str(settings.threads)  # the tokenizers' threads
    measure_speed(settings)


def posts(count: int, data: Path | None) -> list[str]:
    """Posts of mixed length, in random order."""
    chosen = random.Random(0)
    if data is not None:
        return [one for one, _ in zip(public_posts(data, chosen), range(count), strict=False)]
    from mtcl.demo import write_demo

    with tempfile.TemporaryDirectory() as name:
        write_demo(Path(name), posts=4000, seed=0)
        short = pq.read_table(Path(name) / "interest" / "train.parquet", columns=["text"])["text"].to_pylist()
    kinds = chosen.choices([(1, 1), (2, 3), (2, 8)], weights=[60, 25, 15], k=count)
    return [" ".join(chosen.choices(short, k=chosen.randint(*kind))) for kind in kinds]


def public_posts(data: Path, chosen: random.Random) -> Iterator[str]:
    def column(task: str, name: str) -> list[str]:
        found: list[str] = pq.read_table(data / task / "train.parquet", columns=[name])[name].to_pylist()
        return found

    short = column("interest_topics", "text") + column("hashtags", "text") + column("storyline_social", "text")
    short += column("duplicate_questions", "anchor")
    long = column("stackexchange_search", "positive") + column("job_search", "positive")
    while True:
        share = chosen.random()
        if share < 0.6:
            yield chosen.choice(short)
        elif share < 0.85:
            yield chosen.choice(long)
        else:
            yield " ".join(chosen.choice(short) for _ in range(chosen.randint(3, 20)))


def measure_speed(settings: argparse.Namespace) -> None:
    import torch
    from sentence_transformers import SentenceTransformer

    from mtcl.deploy.embed.computing import WINDOW, Choice, Computer
    from mtcl.encoder.hub import resolve_model
    from mtcl.encoder.text_encoder import TextEncoder
    from tests.benchmarks.encoders import encoder_of

    torch.set_num_threads(settings.threads)
    texts = posts(settings.rows, settings.data)
    with tempfile.TemporaryDirectory() as name:
        model = str(resolve_model(encoder_of(Path(name), settings.encoder)))
        theirs, halved = (SentenceTransformer(model, device=settings.device) for _ in range(2))
        encoder = TextEncoder.base({"name": model}, device=settings.device)
    computer = Computer.of(encoder, Choice())
    in_bf16 = Computer.of(encoder, Choice(precision="bf16"))
    clock = time.process_time if settings.clock == "cpu" else time.perf_counter

    def ours(using: Computer, some: list[str]) -> np.ndarray:
        windows = [using.encode(some[start : start + WINDOW]) for start in range(0, len(some), WINDOW)]
        return np.concatenate(windows)

    def all_rows(using: Computer) -> np.ndarray:
        """Equal posts are encoded each time."""
        parts = []
        for start in range(0, len(texts), WINDOW):
            parts.append(using.vectors(encoder.tokenizer(texts[start : start + WINDOW], encoder.max_length)))
        return np.concatenate(parts)

    ways: dict[str, Any] = {
        f"sentence-transformers, batch {batch}": lambda batch=batch: theirs.encode(
            texts, batch_size=batch, normalize_embeddings=True
        )
        for batch in settings.batches
    }
    halved.bfloat16()
    ways |= {
        f"sentence-transformers, bf16, batch {batch}": lambda batch=batch: (
            halved.encode(texts, batch_size=batch, normalize_embeddings=True, convert_to_tensor=True)
            .float()
            .cpu()
            .numpy()
        )
        for batch in settings.batches
    }
    ways |= {
        "mtcl": lambda: all_rows(computer),
        "mtcl, distinct": lambda: ours(computer, texts),
        "mtcl, bf16": lambda: all_rows(in_bf16),
    }
    theirs.encode(texts[:64], batch_size=16)  # the first call allocates
    ours(computer, texts[:64])
    rates: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, np.ndarray] = {}
    for number in range(settings.rounds):
        for name, way in ways.items():
            began = clock()
            found[name] = way()
            rates[name].append(len(texts) / (clock() - began))
            print(f"round {number}: {name}: {rates[name][-1]:,.1f} rows/s", file=sys.stderr, flush=True)
    reference = found[f"sentence-transformers, batch {settings.batches[0]}"]
    best = [
        max(rates[f"sentence-transformers, batch {b}"][number] for b in settings.batches)
        for number in range(settings.rounds)
    ]
    lengths = encoder.tokenizer(texts, encoder.max_length).lengths()
    print(
        f"{len(texts):,} posts, {len(set(texts)):,} distinct, {lengths.mean():.0f} tokens on average, "
        f"{np.median(lengths):.0f} in the median, at most {lengths.max()}; {settings.threads} threads, "
        f"{settings.clock} time, {settings.rounds} rounds\n"
    )
    rows = []
    for name, values in rates.items():
        ratios = [value / other for value, other in zip(values, best, strict=True)]
        error = np.abs(found[name] - reference).max()
        rows.append(
            [
                name,
                f"{statistics.median(values):,.1f}",
                f"{statistics.median(ratios):.2f}",
                f"{min(ratios):.2f} to {max(ratios):.2f}",
                f"{error:.0e}",
            ]
        )
    head = ["", "rows/s, median", "of their best in float32, median", "per round", "largest difference"]
    print(markdown_table(head, rows, numbers=range(1, 5)), end="")


def measure_memory(counts: list[int]) -> None:
    """The peak memory of the command's process by the number of rows."""
    from tests.benchmarks.encoders import encoder_of

    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = encoder_of(folder, "tiny")
        for count in counts:
            path = folder / f"{count}.jsonl"
            with path.open("w") as file:
                for number in range(count):
                    file.write(json.dumps({"id": f"{number:09d}", "text": f"post {number} {number % 977}"}) + "\n")
            script = (
                "import sys, time; from mtcl.__main__ import main; "
                "from tests.benchmarks.process_memory import memory_mib; "
                "began = time.time(); assert main(sys.argv[1:]) == 0; "
                "print(f'peak {memory_mib(\"VmHWM\"):.0f} {time.time() - began:.0f}')"
            )
            command = ["embed", model, str(path), "--id", "id", "--out", str(folder / f"out{count}")]
            done = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, check=True)
            peak, seconds = done.stdout.split("peak ")[1].split()
            rows.append([f"{count:,}", f"{int(peak):,} MiB", f"{count / int(seconds):,.0f}"])
            path.unlink()
            print(rows[-1], file=sys.stderr, flush=True)
    print(markdown_table(["rows", "peak memory", "rows/s"], rows, numbers=range(3)), end="")


if __name__ == "__main__":
    main()
