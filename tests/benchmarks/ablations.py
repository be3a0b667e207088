"""The effect of each choice of loss and mixture, against plain InfoNCE without keys: one run per row, dimension, seed.

    MTCL_DATA=... python -m tests.benchmarks.ablations FOLDER [--seeds 1 2 3] [--dims 384 50] [--rows keys ...]

Every row trains on the same number of pairs. Finished runs are not repeated, so a killed benchmark can be resumed. The
table is printed as Markdown: the mean over seeds of the validation metric after the last step, and the spread if there
are several seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import torch
import yaml

from mtcl.console import markdown_table

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "ablation.yaml"
TASKS = ("interest_topics", "hashtags", "stackexchange_tags", "storyline_social", "job_search")
FULL = 384
STEPS = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["trainer"]["max_steps"]


def losses(**options: object) -> list[str]:
    """Arguments that give every task InfoNCE with these options."""
    value = json.dumps({"class_path": "InfoNCE", "init_args": options})
    return [f"--tasks.{task}.loss={value}" for task in TASKS]


PLAIN = "no keys"
ROWS: dict[str, list[str]] = {
    PLAIN: losses(keys=False),
    "keys": losses(),
    "keys, both ways": losses(directions="both"),
    "keys, several positives": losses(directions="both", multi_positive=True),
    "keys, logQ": losses(correct_frequency=True),
    "keys, guide": losses(guide="base"),
    "pair BCE (SigLIP)": [f"--tasks.{task}.loss=PairBCE" for task in TASKS],
    "keys, one task a step": [
        *losses(),
        *(
            "--data.tasks_per_step=1",
            *(f"--trainer.{key}={STEPS * len(TASKS)}" for key in ("max_steps", "val_check_interval")),
        ),
        "--model.optimizer.warmup_steps=25",
    ],
    "keys, alpha 0.5": [*losses(), "--data.alpha=0.5"],
    "keys, alpha 1": [*losses(), "--data.alpha=1"],
    "keys, mined negatives (job_search)": losses(),
    "keys, UPGrad": [*losses(), "--model.weighting=GradientWeighting"],
    "keys, uncertainty": [*losses(), "--model.weighting=Uncertainty"],
    "keys, Matryoshka 50 and 128": [
        f"--tasks.{task}.loss="
        + json.dumps({"class_path": "Matryoshka", "init_args": {"loss": {"class_path": "InfoNCE"}, "dims": [128, 50]}})
        for task in TASKS
    ],
    "keys, merged with the base (0.5)": [],
    "keys, cut to 50": [],
    "keys, Matryoshka 50 and 128, cut to 50": [],
}
KEYS, MINED, NESTED, MERGED, CUT, NESTED_CUT = (list(ROWS)[n] for n in (1, 10, 13, 14, 15, 16))
OF_RUN = {MERGED: KEYS, CUT: KEYS, NESTED_CUT: NESTED}
"""Rows that train nothing -> the row whose run they evaluate."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--dims", type=int, nargs="+", default=[FULL, 50])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    options = parser.parse_args()
    for dim in options.dims:
        figures: dict[str, list[dict[str, float]]] = {}
        for seed in options.seeds:
            for row in options.rows:
                if dim == FULL or row not in (NESTED, CUT, NESTED_CUT):
                    figures.setdefault(row, []).append(outcome(options.folder, row, dim, seed))
            print(table(figures, title=f"{dim} dimensions, seeds {options.seeds}"), flush=True)


def outcome(folder: Path, row: str, dim: int, seed: int) -> dict[str, float]:
    """The run's validation metrics by task; runs it first. The first row also has the base encoder's (`base TASK`)."""
    run = folder_of(folder, row, dim, seed)
    result = run / "figures.json"
    if not result.is_file():
        found = derived(folder, run, row, dim, seed) if row in OF_RUN else trained(folder, run, row, dim, seed)
        result.write_text(json.dumps(found))
        if row not in OF_RUN.values():
            shutil.rmtree(run / "checkpoints", ignore_errors=True)
    figures: dict[str, float] = json.loads(result.read_text())
    return figures


def folder_of(folder: Path, row: str, dim: int, seed: int) -> Path:
    return folder / f"{row.replace(' ', '_').replace(',', '')}-{dim}-{seed}"


def trained(folder: Path, run: Path, row: str, dim: int, seed: int) -> dict[str, float]:
    """Metrics after the last step of `mtcl fit`, resumed if it was interrupted."""
    last = run / "checkpoints" / "last.ckpt"
    arguments = ["--resume", str(run)] if last.is_file() else ["--config", str(CONFIG), "--run_dir", str(run)]
    arguments += [f"--seed_everything={seed}", *ROWS[row], *([] if dim == FULL else [f"--model.encoder.dim={dim}"])]
    if row == MINED:
        mtcl(
            "mine",
            "job_search",
            "--out",
            str(folder / "mined"),
            unless=folder / "mined" / "job_search" / "train.parquet",
        )
        override = folder / "mined_tasks"
        override.mkdir(exist_ok=True)
        source = (CONFIG.parents[1] / "tasks" / "public" / "job_search.py").read_text(encoding="utf-8")
        declared = 'corpus="corpus")'
        assert declared in source
        text = source.replace(declared, 'corpus="corpus", negatives="negatives")')
        (override / "job_search.py").write_text(text, encoding="utf-8")
        arguments += ["--data.root", str(folder / "mined"), "--tasks_dir", str(override)]
    mtcl("fit", *arguments, *([] if row == PLAIN else ["--no_base"]))
    state = torch.load(last, map_location="cpu", weights_only=True)["mtcl"]
    now = state["history"][max(state["history"])]
    return {**now, **{f"base {task}": value for task, value in state["base"].items()}}


def derived(folder: Path, run: Path, row: str, dim: int, seed: int) -> dict[str, float]:
    """Metrics of another row's run: averaged with the base encoder, or with vectors cut to 50 dimensions."""
    outcome(folder, OF_RUN[row], dim, seed)
    source, suffix = folder_of(folder, OF_RUN[row], dim, seed), "" if row == MERGED else "_dim50"
    if row == MERGED:
        mtcl(
            "merge", str(source), "base", "--weight", "0.5", "--out", str(run), unless=run / "checkpoints" / "best.ckpt"
        )
        mtcl("validate", "--ckpt", str(run), "--no_base", "--run_dir", str(run))
    else:
        mtcl("validate", "--ckpt", str(source), "--no_base", "--run_dir", str(run), "--model.eval_dims", "[50]")
    metrics = json.loads((run / "val.json").read_text())
    primary = {"storyline_social": "map", "interest_topics": "mrr"}
    return {task: metrics[task][primary.get(task, "ndcg@10") + suffix] for task in TASKS}


def mtcl(*arguments: str, unless: Path | None = None) -> None:
    """Run a command in its own process, unless its result exists."""
    if unless is None or not unless.exists():
        subprocess.run([sys.executable, "-m", "mtcl", *arguments], check=True, env=os.environ, stdout=sys.stderr)


def table(figures: dict[str, list[dict[str, float]]], *, title: str) -> str:
    """Markdown: one row per choice, one column per task, and last the difference of means to the first row."""
    rows: list[list[str]] = []
    if PLAIN in figures:
        base = {task: statistics.mean(f[f"base {task}"] for f in figures[PLAIN]) for task in TASKS}
        cells = [f"{value:.4f}" for value in (*base.values(), statistics.mean(base.values()))]
        rows.append(["base encoder", *cells, ""])
    plain = [statistics.mean(f[task] for task in TASKS) for f in figures.get(PLAIN, [])]
    for row, runs in figures.items():
        means = [statistics.mean(f[task] for task in TASKS) for f in runs]
        cells = [_cell([f[task] for f in runs]) for task in TASKS] + [_cell(means)]
        gains = [mean - other for mean, other in zip(means, plain, strict=False)]
        rows.append([row, *cells, _cell(gains, signed=True) if gains and row != PLAIN else ""])
    return f"{title}\n\n{markdown_table(['', *TASKS, 'mean', f'against {PLAIN}'], rows)}"


def _cell(values: list[float], *, signed: bool = False) -> str:
    mean = f"{statistics.mean(values):+.4f}" if signed else f"{statistics.mean(values):.4f}"
    return mean + (f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
