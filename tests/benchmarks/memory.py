"""Bounded memory: a step of 4,096 pairs of 64-token texts, and the time it costs for a batch that also fits without it.

    python -m tests.benchmarks.memory [--pairs 4096] [--plain_pairs 256] [--rounds 3]

Each measurement runs in its own process with one thread and measures CPU time. Peak memory is counted above the memory
of the loaded model with its optimiser state (after one small step). Without checkpointing memory grows with the batch,
so times per pair are compared at fewer pairs, and also with sentence-transformers' CachedMultipleNegativesRankingLoss
in mini-batches of the same number of tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtcl.arrays import Ragged, offsets_of
from mtcl.console import markdown_head, markdown_row
from mtcl.data.packing import pack
from mtcl.encoder.config import DEFAULT_MODEL, EncoderConfig
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.hub import resolve_model
from mtcl.losses import Embedded, InfoNCE, Side, View
from tests.benchmarks.process_memory import memory_mib

LENGTH, TOKENS_PER_CHUNK = 64, 2048
Forward = Callable[[np.ndarray[Any, Any]], Tensor]
"""From token ids (2 x pairs, LENGTH), anchors first, to the loss."""


def mtcl(*, checkpointing: bool) -> tuple[torch.nn.Module, Forward]:
    encoder, loss = Encoder.load(EncoderConfig()), InfoNCE(directions="one")
    encoder.activation_checkpointing = checkpointing

    def forward(ids: np.ndarray[Any, Any]) -> Tensor:
        tokens = Ragged(offsets_of(np.full(len(ids), LENGTH)), ids.reshape(-1))
        keys = torch.arange(1, len(ids) // 2 + 1)[:, None]
        halves = encoder(pack(tokens, tokens_per_chunk=TOKENS_PER_CHUNK)).chunk(2)
        anchors, positives = (Embedded(half, keys, torch.zeros(len(half))) for half in halves)
        found: Tensor = loss(View(Side(anchors, anchors), Side(positives, positives), torch.arange(len(keys))))
        return found

    return encoder, forward


def cached() -> tuple[torch.nn.Module, Forward]:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.losses import CachedMultipleNegativesRankingLoss

    model = SentenceTransformer(str(resolve_model(DEFAULT_MODEL)), device="cpu").train()
    loss = CachedMultipleNegativesRankingLoss(model, scale=20.0, mini_batch_size=TOKENS_PER_CHUNK // LENGTH)

    def forward(ids: np.ndarray[Any, Any]) -> Tensor:
        halves = torch.from_numpy(ids).chunk(2)
        found: Tensor = loss([{"input_ids": half, "attention_mask": torch.ones_like(half)} for half in halves], None)
        return found

    return model, forward


SYSTEMS: dict[str, Callable[[], tuple[torch.nn.Module, Forward]]] = {
    "plain": lambda: mtcl(checkpointing=False),
    "checkpointing": lambda: mtcl(checkpointing=True),
    "sentence-transformers, cached": cached,
}


def measure(system: str, *, pairs: int) -> dict[str, float]:
    """Peak memory above model and optimiser in GB, and CPU milliseconds per pair of a training step in bf16."""
    model, forward = SYSTEMS[system]()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    generator = np.random.default_rng(0)

    def step(count: int) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = forward(generator.integers(1000, 30_000, (2 * count, LENGTH)))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    step(32)
    before = memory_mib("VmHWM")
    start = time.process_time()
    step(pairs)
    seconds = time.process_time() - start
    return {"gb": (memory_mib("VmHWM") - before) * 2**20 / 1e9, "ms": 1000 * seconds / pairs}


def apart(system: str, pairs: int) -> dict[str, float]:
    """Run `measure` in its own process and print its figures."""
    command = [sys.executable, "-m", "tests.benchmarks.memory", "--system", system, "--pairs", str(pairs)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    print(markdown_row([system, f"{pairs:,}", f"{found['gb']:.2f}", f"{found['ms']:.1f}"]), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=4096)
    parser.add_argument("--plain_pairs", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--system", choices=SYSTEMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.system:
        print(json.dumps(measure(options.system, pairs=options.pairs)))
        return
    print(markdown_head(["system", "pairs per step", "GB above model and optimiser", "CPU ms per pair"]))
    rounds = [{system: apart(system, options.plain_pairs)["ms"] for system in SYSTEMS} for _ in range(options.rounds)]
    for other in ("plain", "sentence-transformers, cached"):
        ratio = statistics.median(one["checkpointing"] / one[other] for one in rounds)
        print(f"time per pair, checkpointing over {other}: {ratio:.2f}")
    apart("checkpointing", options.pairs)


if __name__ == "__main__":
    main()
