"""Bulk embedding against sentence-transformers, and its memory.

    python -m tests.benchmarks.embed                             # 2,000 posts in 3 rounds, one thread, CPU time
    python -m tests.benchmarks.embed --rows 200000 --rounds 10 --precisions bf16 --batches 32
    python -m tests.benchmarks.embed --memory 20000 2000000      # peak memory of the command, tiny encoder

Posts of mixed length: of the public data sets (--data FOLDER: 60 % headlines, tweets and questions, 25 % bodies of
Stack Exchange and occupations, 15 % of 3 to 20 short ones joined), or of the demo corpus. Each round has its own part
of them. Both use the same weights, the same precision (sentence-transformers keeps its weights in bf16 then, mtcl does
not) and the same threads, and take turns; sentence-transformers gets each of several batch sizes in every round, and
its best counts. CPU time is fairer than wall time if others use the machine, and means something with one thread only.
The command encodes equal posts of a window once.
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
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from mtcl.console import markdown_table

BATCHES = (8, 16, 32, 64, 128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000, help="in all rounds together")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cuda: with --clock wall")
    parser.add_argument("--encoder", default="minilm", help="a name of tests.benchmarks.encoders.SHAPES")
    parser.add_argument("--clock", choices=["cpu", "wall"], default="cpu")
    parser.add_argument("--precisions", choices=["float32", "bf16"], nargs="+", default=["float32", "bf16"])
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
        theirs = {kind: SentenceTransformer(model, device=settings.device) for kind in settings.precisions}
        encoder = TextEncoder.base({"name": model}, device=settings.device)
    if "bf16" in theirs:
        theirs["bf16"].bfloat16()

    def encode(kind: str, batch: int, some: list[str]) -> np.ndarray:
        options: dict[str, Any] = {"batch_size": batch, "normalize_embeddings": True, "convert_to_tensor": True}
        return theirs[kind].encode(some, **options).float().cpu().numpy()

    def ours(using: Computer, some: list[str], *, distinct: bool) -> np.ndarray:
        windows = [some[start : start + WINDOW] for start in range(0, len(some), WINDOW)]
        if distinct:
            return np.concatenate([using.encode(window) for window in windows])
        return np.concatenate([using.vectors(encoder.tokenizer(window, encoder.max_length)) for window in windows])

    ways: dict[str, dict[str, Callable[[list[str]], np.ndarray]]] = {}
    for kind in settings.precisions:
        computer = Computer.of(encoder, Choice(precision=kind))
        ways[kind] = {f"sentence-transformers, batch {n}": partial(encode, kind, n) for n in settings.batches}
        ways[kind] |= {
            "mtcl": partial(ours, computer, distinct=False),
            "mtcl, equal posts once": partial(ours, computer, distinct=True),
        }
    clock = time.process_time if settings.clock == "cpu" else time.perf_counter
    rates = {kind: {name: list[float]() for name in found} for kind, found in ways.items()}
    errors = {kind: dict.fromkeys(found, 0.0) for kind, found in ways.items()}
    for found in ways.values():
        for way in found.values():
            way(texts[:64])  # the first call allocates
    for number in range(settings.rounds):
        some, reference = texts[number :: settings.rounds], None
        for kind, found in ways.items():
            for name, way in found.items():
                began = clock()
                vectors = way(some)
                rates[kind][name].append(len(some) / (clock() - began))
                reference = vectors if reference is None else reference
                errors[kind][name] = max(errors[kind][name], float(np.abs(vectors - reference).max()))
                print(
                    f"round {number}: {kind}, {name}: {rates[kind][name][-1]:,.1f} rows/s", file=sys.stderr, flush=True
                )
    lengths = encoder.tokenizer(texts, encoder.max_length).lengths()
    print(
        f"{len(texts):,} posts, {len(set(texts)):,} distinct, {lengths.mean():.0f} tokens on average, "
        f"{np.median(lengths):.0f} in the median, at most {lengths.max()}; {settings.threads} threads, "
        f"{settings.clock} time, {settings.rounds} rounds\n"
    )
    head = ["precision", "", "rows/s, median", "of their best, median", "per round", "largest difference"]
    rows = [
        [kind, name, f"{statistics.median(rates[kind][name]):,.1f}", *of_best, f"{errors[kind][name]:.0e}"]
        for kind in settings.precisions
        for name, of_best in relative(rates[kind], len(settings.batches)).items()
    ]
    print(markdown_table(head, rows, numbers=range(2, 6)), end="")


def relative(rates: dict[str, list[float]], num_theirs: int) -> dict[str, tuple[str, str]]:
    """Each way's rates relative to the best of the first `num_theirs` in the same round: the median and the range."""
    best = np.max(list(rates.values())[:num_theirs], axis=0)
    ratios = {name: np.array(values) / best for name, values in rates.items()}
    return {name: (f"{np.median(r):.2f}", f"{r.min():.2f} to {r.max():.2f}") for name, r in ratios.items()}


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
