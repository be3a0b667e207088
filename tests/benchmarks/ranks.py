"""Two ranks of one thread each against one rank of one thread, with the same pairs per task and rank.

    python -m tests.benchmarks.ranks [--rounds 3]

A share of 1 means twice the pairs per second; the goal is 0.85.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.benchmarks import workload
from tests.benchmarks.systems import WARMUP, Setting, measure


def main() -> None:
    from mtcl.encoder.config import DEFAULT_MODEL
    from mtcl.encoder.hub import resolve_model

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64, help="pairs per task and rank")
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    words = workload.vocabulary_of(resolve_model(DEFAULT_MODEL))
    with tempfile.TemporaryDirectory() as name:
        workload.write(Path(name), pairs=2 * options.batch * (WARMUP + options.steps), vocabulary=words)
        one = Setting(
            folder=name,
            root=f"{name}/data",
            tasks_dir=f"{name}/tasks",
            tasks=workload.TASKS,
            encoder=DEFAULT_MODEL,
            batch=options.batch,
            steps=options.steps,
        )
        for _ in range(options.rounds):
            alone, both = (measure("mtcl", replace(one, ranks=ranks), threads=1)["pairs"] for ranks in (1, 2))
            print(f"1 rank {alone:.1f} pairs/s, 2 ranks {both:.1f}: {both / alone / 2:.2f} of twice", flush=True)


if __name__ == "__main__":
    main()
