"""Pairs per second of whole training steps: mtcl, its bare loop and sentence-transformers, alternating.

    python -m tests.benchmarks.throughput [--rounds 3] [--data public] [--precision 32-true] [--dropout 0]
    tests/benchmarks/gpu.sh

`--data generated` is the workload "four tasks" (max length 256); `public` is the tasks of configs/public.yaml under
MTCL_DATA. `--encoder base` is a BERT with 12 layers, 768 dimensions and random weights. Each measurement runs in its
own process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import yaml

from mtcl.console import markdown_head, markdown_row
from mtcl.encoder.hub import resolve_model
from tests.benchmarks import workload
from tests.benchmarks.encoders import encoder_of
from tests.benchmarks.systems import SYSTEMS, WARMUP, Setting, measure

ROOT = Path(__file__).resolve().parents[2]
PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "A10": 125.0, "L4": 121.0}
"""Peak dense bf16 rates from the data sheets (SXM)."""
HEAD = [
    *("precision", "dropout", "pairs/s of mtcl", "of the bare loop", "of sentence-transformers"),
    *("mtcl / sentence-transformers", "bare / mtcl", "model TFLOP/s"),
]


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as name:
        setting = prepare(Path(name), options)
        print(markdown_head(HEAD))
        for precision in options.precision:
            for dropout in options.dropout:
                one = replace(setting, precision=precision, dropout=None if dropout == "shipped" else float(dropout))
                print(row(one, rounds=options.rounds, threads=options.threads), flush=True)


def row(setting: Setting, *, rounds: int, threads: int) -> str:
    """Medians over rounds, and the ratios of each round."""
    found = [{system: measure(system, setting, threads=threads) for system in SYSTEMS} for _ in range(rounds)]
    pairs = {system: [one[system]["pairs"] for one in found] for system in SYSTEMS}
    ours, loop, theirs = (statistics.median(figures) for figures in pairs.values())
    peers = ", ".join(f"{a / b:.2f}" for a, b in zip(pairs["mtcl"], pairs["sentence-transformers"], strict=True))
    loops = ", ".join(f"{a / b:.3f}" for a, b in zip(pairs["bare"], pairs["mtcl"], strict=True))
    flops = statistics.median(one["mtcl"]["flops"] for one in found)
    used = f" ({flops / peak:.0%} of the peak)" if (peak := peak_flops(setting.accelerator)) else ""
    shown = "as shipped" if setting.dropout is None else f"{setting.dropout:g}"
    rates = [f"{ours:.1f}", f"{loop:.1f}", f"{theirs:.1f}"]
    return markdown_row([setting.precision, shown, *rates, peers, loops, f"{flops / 1e12:.3f}{used}"])


def peak_flops(accelerator: str) -> float | None:
    """The GPU's FLOP per second in bf16 from its data sheet, or None."""
    import torch

    if accelerator != "gpu":
        return None
    name = torch.cuda.get_device_name()
    return next((1e12 * peak for model, peak in PEAK_TFLOPS.items() if model in name.split()), None)


def prepare(folder: Path, options: argparse.Namespace) -> Setting:
    """The texts and the encoder for `options`."""
    encoder = encoder_of(folder, options.encoder)
    common = {"folder": str(folder), "encoder": encoder, "steps": options.steps, "accelerator": options.accelerator}
    common |= {"batch": options.batch, "tokens_per_chunk": options.tokens_per_chunk, "clock": options.clock}
    common["attention"] = options.attention
    if options.data == "public":
        config = yaml.safe_load((ROOT / "configs" / "public.yaml").read_text())
        return Setting(
            root=os.environ["MTCL_DATA"],
            tasks_dir=str(ROOT / "tasks"),
            tasks=tuple(name for name, task in config["tasks"].items() if not task.get("watch")),
            max_length=config["data"]["max_length"],
            **common,
        )
    pairs = options.batch * (WARMUP + options.steps)
    workload.write(folder, pairs=pairs, vocabulary=workload.vocabulary_of(resolve_model(encoder)))
    return Setting(root=str(folder / "data"), tasks_dir=str(folder / "tasks"), tasks=workload.TASKS, **common)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="timed steps, after one warm-up step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64, help="pairs per task")
    parser.add_argument("--data", choices=("generated", "public"), default="generated")
    parser.add_argument("--encoder", choices=("minilm", "base", "tiny"), default="minilm")
    parser.add_argument("--precision", nargs="+", default=["bf16-mixed", "32-true"])
    parser.add_argument("--dropout", nargs="+", default=["shipped", "0"])
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--tokens_per_chunk", type=int)
    parser.add_argument("--attention", default="auto", help="attention of mtcl: auto, unpadded or one of transformers")
    parser.add_argument("--clock", choices=("perf_counter", "process_time"), default="perf_counter")
    return parser.parse_args()


if __name__ == "__main__":
    main()
