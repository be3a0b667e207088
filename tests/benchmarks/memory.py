"""Bounded memory: a step of 4,096 pairs of 64-token texts with and without activation checkpointing.

    python -m tests.benchmarks.memory [--pairs 4096] [--plain_pairs 512]

Each measurement is a process of its own. Peak memory is counted above that of the loaded model with its optimiser state
(one small step before). Without checkpointing memory grows with the batch, so its time a pair is taken at fewer pairs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import numpy as np
import torch

from mtcl.encoder import Encoder, EncoderConfig
from mtcl.losses import InfoNCE, Side, View
from mtcl.packing import pack
from mtcl.types import Ragged, offsets_of
from tests.benchmarks.process_memory import memory_mib

LENGTH = 64


def step(encoder: Encoder, optimizer: torch.optim.Optimizer, loss: InfoNCE, pairs: int) -> None:
    """A training step over `pairs` pairs of `LENGTH`-token texts, in bf16."""
    generator = np.random.default_rng(pairs)
    tokens = Ragged(offsets_of(np.full(2 * pairs, LENGTH)), generator.integers(1000, 30_000, 2 * pairs * LENGTH))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings = encoder(pack(tokens, tokens_per_chunk=2048))
        keys = torch.arange(1, pairs + 1)[:, None]
        sides = [Side(half, keys, half, keys) for half in embeddings.float().chunk(2)]
        value = loss(View(sides[0], sides[1], torch.arange(pairs)))
    optimizer.zero_grad()
    value.backward()
    optimizer.step()


def measure(pairs: int, *, checkpointing: bool) -> dict[str, float]:
    """Peak memory above model and optimiser in GB, and seconds a pair."""
    encoder, loss = Encoder.load(EncoderConfig()), InfoNCE(directions="both")
    encoder.activation_checkpointing = checkpointing
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-5, fused=True)
    step(encoder, optimizer, loss, 16)
    before = memory_mib("VmHWM")
    start = time.perf_counter()
    step(encoder, optimizer, loss, pairs)
    seconds = time.perf_counter() - start
    return {"gb": (memory_mib("VmHWM") - before) * 2**20 / 1e9, "seconds_per_pair": seconds / pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=4096)
    parser.add_argument("--plain_pairs", type=int, default=512)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(**json.loads(options.one))))
        return
    found = []
    for pairs, checkpointing in ((options.pairs, True), (options.plain_pairs, False), (options.plain_pairs, True)):
        request = json.dumps({"pairs": pairs, "checkpointing": checkpointing})
        command = [sys.executable, "-m", "tests.benchmarks.memory", "--one", request]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout.strip().splitlines()[-1]))
        print(
            f"{pairs} pairs, checkpointing {checkpointing}: {found[-1]['gb']:.2f} GB above model and optimiser",
            flush=True,
        )
    print(f"time a pair, with over without: {found[2]['seconds_per_pair'] / found[1]['seconds_per_pair']:.2f}")


if __name__ == "__main__":
    main()
