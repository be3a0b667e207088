"""The runs that docs/results.md reports, except tables of one seed, one step after another; finished steps are skipped.

    MTCL_DATA=... python -m tests.benchmarks.results FOLDER [--steps public held_out ...]

A killed run resumes from its last checkpoint; a killed study or table runs what is missing. Reports are in FOLDER.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
NON_SATURATED = ["interest_topics", "hashtags", "stackexchange_tags", "storyline_social", "job_search"]
HELD_OUT = ["interest_topics", "storyline_news", "job_search"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=list(STEPS))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.steps:
        done, since = options.folder / f"{name}.done", time.monotonic()
        if not done.exists():
            STEPS[name](options.folder)
            done.write_text(f"{time.monotonic() - since:.0f} s\n")
        print(f"{name}: done ({done.read_text().strip()})", flush=True)


def public(folder: Path) -> None:
    """Eight tasks at 384 and at 50 dimensions, both compared with the base encoder on the test splits."""
    plain = ("--config", str(CONFIGS / "no_prompts.yaml"), "--model.keep=null")
    fit(folder / "public-384", "public", *plain)
    fit(folder / "public-50", "public", *plain, "--model.encoder.dim=50")
    encoders = {
        "base": {"model": "sentence-transformers/all-MiniLM-L6-v2"},
        "mtcl, 384": {"run": str(folder / "public-384")},
        "mtcl, 50": {"run": str(folder / "public-50")},
    }
    compare(folder / "small_against_large", encoders, NON_SATURATED)


def low_data(folder: Path) -> None:
    """Joint against single-task training."""
    for name in (
        "transfer_public",
        "transfer_public_384",
        "transfer_public_turns",
        "transfer_public_scarce",
        "transfer_public_large",
        "transfer_languages",
        "transfer_languages_large",
    ):
        mtcl("transfer", "--config", str(CONFIGS / f"{name}.yaml"), "--study_dir", str(folder / name))


def held_out(folder: Path) -> None:
    """Held-out tasks, with and without averaging with the base encoder's weights; then few labels of one task."""
    study = folder / "held_out"
    mtcl("transfer", "--config", str(CONFIGS / "transfer_held_out.yaml"), "--study_dir", str(study))
    joint = str(study / "runs" / "joint-1")
    encoders = {"base": {"model": "sentence-transformers/all-MiniLM-L6-v2"}, "joint": {"run": joint}}
    for weight in ("0.7", "0.5"):
        merged = folder / f"held_out_merged_{weight}"
        if not (merged / "checkpoints" / "best.ckpt").exists():
            mtcl("merge", joint, "base", "--weight", weight, "--out", str(merged))
        encoders[f"joint, {weight} with base"] = {"run": str(merged)}
    compare(folder / "held_out_merging", encoders, HELD_OUT)


def few_shot(folder: Path) -> None:
    start = str(folder / "held_out" / "runs" / "joint-{seed}")
    report = run("tests.benchmarks.few_shot", str(folder / "few_shot"), "--start", start)
    (folder / "few_shot.md").write_text(report, encoding="utf-8")


def languages_held_out(folder: Path) -> None:
    """A held-out group of languages, then few pairs of it."""
    study = folder / "languages_held_out"
    mtcl("transfer", "--config", str(CONFIGS / "transfer_languages_held_out.yaml"), "--study_dir", str(study))
    few = ["--task", "sentences_romance", "--in_total", "--pairs", "32", "128", "512", "--lr", "4e-4"]
    few += ["--seeds", "1", "2", "3", "4", "5"]
    start = str(study / "runs" / "joint-{seed}")
    report = run("tests.benchmarks.few_shot", str(folder / "few_pairs"), "--start", start, *few)
    (folder / "few_pairs.md").write_text(report, encoding="utf-8")


def multilingual(folder: Path) -> None:
    """Two runs: alignment, then similarity from its weights."""
    aligned, likeness = folder / "multilingual", folder / "multilingual_likeness"
    fit(aligned, "multilingual")
    fit(likeness, "multilingual_likeness", "--init_from", str(aligned))
    mtcl("test", "--ckpt", str(likeness))


def ablations(folder: Path) -> None:
    (folder / "ablations.md").write_text(run("tests.benchmarks.ablations", str(folder / "ablations")), encoding="utf-8")


STEPS: dict[str, Callable[[Path], None]] = {
    step.__name__: step for step in (public, low_data, held_out, few_shot, languages_held_out, multilingual, ablations)
}


def fit(run_dir: Path, config: str, *arguments: str) -> None:
    """Train, or resume an interrupted run; do nothing if the run has finished."""
    last = run_dir / "checkpoints" / "last.ckpt"
    start = ["--resume", str(run_dir)] if last.exists() else ["--config", str(CONFIGS / f"{config}.yaml"), *arguments]
    mtcl("fit", *start, *([] if last.exists() else ["--run_dir", str(run_dir)]))


def compare(folder: Path, encoders: dict[str, dict[str, str]], tasks: list[str]) -> None:
    """`mtcl compare` on the test splits; the report is FOLDER/compare.md."""
    folder.mkdir(exist_ok=True)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({"tasks": tasks, "encoders": encoders}, sort_keys=False), encoding="utf-8")
    mtcl("compare", "--config", str(config), "--out", str(folder))


def mtcl(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "mtcl", *arguments], check=True, env=os.environ, cwd=ROOT)


def run(module: str, *arguments: str) -> str:
    """The standard output of a benchmark; its stderr is shown directly."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, check=True, env=os.environ, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
