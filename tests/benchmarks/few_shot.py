"""A team with few labels: fine-tune from a co-trained checkpoint, against fine-tuning from the base encoder.

    MTCL_DATA=... python -m tests.benchmarks.few_shot FOLDER --start STUDY/runs/joint-{seed} [--task interest_topics]
    ... --task sentences_romance --in_total --pairs 32 128 512 --lr 4e-4      a task without labels: pairs in total
    ... --task crisis_event --pairs 4 --prompt "crisis event: "               a prompt before the texts, in both arms

The checkpoints must never have trained the task. `{seed}` is replaced with the seed of the few-shot run. Both arms use
the same pairs, order and steps, and the test split. Finished runs are not repeated.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mtcl.console import markdown_head, markdown_row
from mtcl.studies.item_scores import ItemScores, read_scores
from mtcl.studies.statistics import Differences, bootstrap
from mtcl.task.registry import discover

STEPS = [16, 48, 120]
"""Optimizer steps, in the order of increasing pairs."""
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--start", required=True, help="the co-trained run; {seed} is replaced with the seed")
    parser.add_argument("--task", default="interest_topics")
    parser.add_argument("--in_total", action="store_true", help="--pairs counts pairs in total, not per label")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--pairs", type=int, nargs="+", default=[4, 16, 64], help="per label, nested; up to three")
    parser.add_argument("--prompt", help="before the task's texts")
    parser.add_argument("--lr", type=float, default=5.0e-5)
    options = parser.parse_args()
    if len(options.pairs) > len(STEPS):
        parser.error(f"--pairs has {len(options.pairs)} numbers: give up to {len(STEPS)}")
    metric = discover()[options.task].metric
    from_base = f"{options.task} {metric.name} from base"
    print(
        markdown_head(
            ["pairs" if options.in_total else "pairs per label", from_base, "from the co-trained run", "difference"]
        )
    )
    starts = {"base": None, "joint": options.start}
    for pairs, steps in zip(options.pairs, STEPS, strict=False):
        found: dict[str, list[ItemScores]] = {name: [] for name in starts}
        for seed in options.seeds:
            for name, start in starts.items():
                run = options.folder / f"{name}-{pairs}-{seed}"
                path = scores(run, configuration(options, pairs, steps, seed), start and start.format(seed=seed))
                found[name].append(read_scores(path, metric))
        base, joint = (np.stack([one.scores_I for one in found[name]]) for name in starts)
        gain = bootstrap(Differences(joint - base, found["base"][0].clusters_I))
        print(markdown_row([pairs, f"{base.mean():.4f}", f"{joint.mean():.4f}", gain]), flush=True)


def scores(run: Path, settings: dict[str, Any], start: str | None) -> Path:
    """Train, and return the file with the scores of the test items."""
    (task,) = settings["tasks"]
    path = run / "scores" / "test" / f"{task}.parquet"
    config, made_of = run.with_suffix(".yaml"), yaml.safe_dump({**settings, "start": start})
    note = run.with_suffix(".made_of")
    if note.is_file() and note.read_text(encoding="utf-8") != made_of:
        raise SystemExit(f"{run} was made with different options ({note}): give another folder, or remove it")
    if not path.is_file():
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        note.write_text(made_of, encoding="utf-8")
        begun = ["--config", str(config), "--run_dir", str(run), *(["--init_from", start] if start else [])]
        mtcl("fit", "--no_base", *(["--resume", str(run)] if (run / "checkpoints" / "last.ckpt").exists() else begun))
        mtcl("test", "--ckpt", str(run / "checkpoints" / "last.ckpt"), "--no_base", "--run_dir", str(run))
    return path


def configuration(options: argparse.Namespace, pairs: int, steps: int, seed: int) -> dict[str, Any]:
    return {
        "seed_everything": seed,
        "tasks": {options.task: {} if options.prompt is None else {"prompt": options.prompt}},
        "model": {
            "encoder": {"name": "sentence-transformers/all-MiniLM-L6-v2"},
            "optimizer": {"lr": options.lr, "warmup_steps": steps // 10},
        },
        "data": {
            "batch_size": BATCH,
            "max_length": 64,
            "num_workers": 0,
            "pairs_per_task" if options.in_total else "pairs_per_label": pairs,
        },
        "trainer": {"max_steps": steps, "val_check_interval": steps, "enable_progress_bar": False},
    }


def mtcl(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "mtcl", *arguments], check=True, env=os.environ, stdout=sys.stderr)


if __name__ == "__main__":
    main()
