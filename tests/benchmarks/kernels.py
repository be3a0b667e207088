"""The CPU's kernels with few and many rows, and what a call of `encode` costs by its number of texts.

    python -m tests.benchmarks.kernels [--model NAME] [--data DATA]

Times are CPU time of one thread, the lowest of five. For an earlier version, run it in that checkout.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional as F

from mtcl import TextEncoder
from mtcl.console import markdown_table
from mtcl.encoder.kernels import linear
from mtcl.encoder.unpadded import bias_of, padded
from tests.benchmarks.serve import texts_of

LAYERS = ((384, 384), (384, 1536), (1536, 384))
"""Inputs and outputs of MiniLM's linear layers."""
ROWS = (16, 64, 256, 768, 2048)
CHUNKS = ((120, 16), (20, 100), (8, 250))
"""Texts and their length."""
CALLS = ((1, 64), (8, 256), (32, 512), (512, 1024))
"""Texts per call, and texts in total."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--data", type=Path, help="a folder of the public data sets; without it, encode is not timed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(markdown_table(["rows", "layer", "MKL GFLOP/s", "oneDNN GFLOP/s"], linear_layers()))
    print(markdown_table(["texts", "length", "plain attention ms", "fused ms"], attentions()))
    if options.data is not None:
        print(markdown_table(["texts per call", "ms per text"], encodings(options.model, options.data)))


def linear_layers() -> list[list[object]]:
    """oneDNN by the convolution of `kernels.linear`, MKL by torch's own function."""
    lines: list[list[object]] = []
    for rows in ROWS:
        for inputs, outputs in LAYERS:
            given, weight, bias = torch.randn(1, rows, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
            billions, repeats = 2e-9 * rows * inputs * outputs, max(2, 10**9 // (2 * rows * inputs * outputs))
            speeds = [billions / seconds(partial(f, given, weight, bias), repeats) for f in (F.linear, linear)]
            lines.append([rows, f"{inputs} to {outputs}", *(f"{speed:.0f}" for speed in speeds)])
    return lines


def attentions() -> list[list[object]]:
    """Forwards, 12 heads of 32 in float32; the last tenth of each text's length varies."""
    lines: list[list[object]] = []
    for num_texts, longest in CHUNKS:
        lengths = longest - torch.arange(num_texts) % max(1, longest // 10)
        mask_nL = (torch.arange(longest) < lengths[:, None]).long()
        places_S = mask_nL.flatten().nonzero()[:, 0]
        rows = [torch.randn(len(places_S), 12, 32) for _ in range(3)]
        bias_nLL = bias_of(mask_nL, torch.float32, causal=False, window=None)

        run = partial(padded, *rows, places_S=places_S, bias_nLL=bias_nLL, scaling=32**-0.5, dropout=0.0)
        times = []
        for with_gradient in (True, False):  # without gradient, torch's fused attention is used
            with torch.set_grad_enabled(with_gradient):
                times.append(1e3 * seconds(run, 3))
        lines.append([num_texts, longest, *(f"{found:.1f}" for found in times)])
    return lines


def encodings(model: str, data: Path) -> list[list[object]]:
    encoder, lines = TextEncoder.load(model, device="cpu"), []
    texts = texts_of(data, CALLS[-1][1])
    random.Random(0).shuffle(texts)
    for size, total in CALLS:
        parts = [texts[start : start + size] for start in range(0, total, size)]
        found = seconds(partial(encode_all, encoder, parts), 1)
        lines.append([size, f"{1e3 * found / total:.2f}"])
    return lines


def encode_all(encoder: TextEncoder, parts: list[list[str]]) -> None:
    for texts in parts:
        encoder.encode(texts)


def seconds(run: Callable[[], object], repeats: int) -> float:
    """CPU seconds of a call: the lowest of five means over `repeats` calls."""
    run()
    found = []
    for _ in range(5):
        start = time.process_time()
        for _ in range(repeats):
            run()
        found.append((time.process_time() - start) / repeats)
    return min(found)


if __name__ == "__main__":
    main()
