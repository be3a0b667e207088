"""What a run gains on its own tasks against what it costs or gives tasks that it never trains, by recipe.

    MTCL_DATA=... python -m tests.benchmarks.levers run FOLDER [--recipes plain "keep 1"] [--seeds 1 2 3] [--workers 2]
    python -m tests.benchmarks.levers report FOLDER
    MTCL_DATA=... python -m tests.benchmarks.levers tokens        # tokens of a step, without and with the prompts

Each recipe is `configs/public.yaml` for 100 steps, without prompts, `model.keep` and job_search (whose documents the
occupation tasks share), and changed by the levers of its name. Trained and unseen tasks are those of
`configs/zero_shot.yaml`, first 400 rows of each test split. `run` writes the item scores of each run, and leaves out
what is there; `report` prints a table with 95 % intervals over items and seeds, and draws levers-NAME.png.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtcl.console import markdown_table
from mtcl.studies.statistics import Differences, Interval, bootstrap, macro_bootstrap

if TYPE_CHECKING:
    from torch import Tensor

    from mtcl.encoder.text_encoder import TextEncoder
    from mtcl.evaluation import Pool
    from mtcl.studies.compare.config import CompareConfig
    from mtcl.task.contract import Task
    from mtcl.task.prompt import Prompt

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
LEFT_OUT = "job_search"
STEPS = 100
ROWS = 400
PLAIN, BASE, START = "plain", "base", "start"
TRAINED = (
    "interest_topics",
    "hashtags",
    "stackexchange_tags",
    "storyline_social",
    "storyline_news",
    "stackexchange_search",
    "duplicate_questions",
)
LABELLED = TRAINED[:5]
"""Tasks of labels and stories; the others compare texts by their whole meaning."""
NARROW = ("interest_topics", "storyline_social")
"""The trained tasks that lower an unseen one (docs/results/unseen_tasks.md)."""


def keep(strength: float, share: float = 0.125) -> list[str]:
    return [f"--model.keep.strength={strength:g}", f"--model.keep.share={share:g}"]


def steps(number: int) -> list[str]:
    trainer = [f"--trainer.{key}={number}" for key in ("max_steps", "val_check_interval")]
    return [*trainer, f"--model.optimizer.warmup_steps={number // 5}"]


def lr(value: float) -> list[str]:
    return [f"--model.optimizer.lr={value:g}"]


def prompts(tasks: Sequence[str] = TRAINED) -> list[str]:
    """Each task's name before its texts."""
    return [f"--tasks.{task}.prompt={json.dumps(name_of(task))}" for task in tasks]


def name_of(task: str) -> str:
    return f"{task.replace('_', ' ')}: "


WORDS = ("topic", "tags", "subject", "event", "story", "search", "question")
"""A word of one token for each of `TRAINED`."""


def words(tasks: Sequence[str] = TRAINED) -> list[str]:
    """One token before each task's texts."""
    words = dict(zip(TRAINED, WORDS, strict=True))
    return [f'--tasks.{task}.prompt="{words[task]} "' for task in tasks]


def without(task: str) -> list[str]:
    """One trained task less; its row among the trained tasks is then one of a task that was not trained."""
    return [f"--tasks.{task}=null"]


def lora(rate: float) -> list[str]:
    return ["--model.encoder.train=lora", *lr(rate)]


@dataclass(frozen=True)
class Recipe:
    """Arguments of `mtcl fit`, and shares of the result in merges with the base encoder, each a row of its own."""

    arguments: list[str] = field(default_factory=list)
    merges: tuple[float, ...] = ()


RECIPES = {
    BASE: Recipe(),
    PLAIN: Recipe(merges=(0.3, 0.5, 0.7)),
    "keep 1": Recipe(keep(1), merges=(0.7,)),
    "keep 3": Recipe(keep(3)),
    "keep 0.3": Recipe(keep(0.3)),
    "keep 1, share 1/16": Recipe(keep(1, 1 / 16)),
    "keep 3, share 1/16": Recipe(keep(3, 1 / 16)),
    "keep 1, share 1/32": Recipe(keep(1, 1 / 32)),
    "keep 0.7, share 1/32": Recipe(keep(0.7, 1 / 32)),
    "keep 0.5, share 1/32": Recipe(keep(0.5, 1 / 32)),
    "keep 1, all texts": Recipe(keep(1, 1)),
    "keep 10": Recipe(keep(10)),
    "keep 2, lr 1e-4": Recipe([*keep(2), *lr(1e-4)]),
    "keep 1, 200 steps": Recipe([*keep(1), *steps(200)]),
    "keep 3, 200 steps": Recipe([*keep(3), *steps(200)]),
    "lr 2e-5": Recipe(lr(2e-5)),
    "lr 1e-5": Recipe(lr(1e-5)),
    "50 steps": Recipe(steps(50)),
    "25 steps": Recipe(steps(25)),
    "average 0.95": Recipe(["--averaging.decay=0.95"]),
    "LoRA 2e-4": Recipe(lora(2e-4)),
    "LoRA 5e-4": Recipe(lora(5e-4)),
    "LoRA 5e-4, keep 1": Recipe([*lora(5e-4), *keep(1)]),
    "freeze 2 layers": Recipe(["--model.encoder.freeze_layers=2"]),
    "freeze 4 layers": Recipe(["--model.encoder.freeze_layers=4"]),
    "freeze 2 layers, keep 1": Recipe(["--model.encoder.freeze_layers=2", *keep(1)]),
    "layer decay 0.7": Recipe(["--model.optimizer.layer_decay=0.7"]),
    "prompts": Recipe(prompts()),
    "prompts, keep 1": Recipe([*keep(1), *prompts()]),
    "prompts, keep 0.7, share 1/32": Recipe([*keep(0.7, 1 / 32), *prompts()]),
    "one word, keep 0.7, share 1/32": Recipe([*keep(0.7, 1 / 32), *words()]),
    "one word, keep 0.7, share 1/32, two heads": Recipe(
        [
            *keep(0.7, 1 / 32),
            *words(),
            *(f"--tasks.{task}.head=384" for task in NARROW),
        ]
    ),
    "two words, keep 0.7, share 1/64": Recipe([*keep(0.7, 1 / 64), *words(NARROW)]),
    "plain, without interest_topics": Recipe(without("interest_topics")),
    "one word, keep 0.7, share 1/32, without interest_topics": Recipe(
        [*keep(0.7, 1 / 32), *words(), *without("interest_topics")]
    ),
    "one word, keep 0.7, share 1/32, without interest_topics, storyline_social": Recipe(
        [*keep(0.7, 1 / 32), *words(), *without("interest_topics"), *without("storyline_social")]
    ),
    "plain, without storyline_social": Recipe(without("storyline_social")),
    "one word, keep 0.7, share 1/32, without storyline_social": Recipe(
        [*keep(0.7, 1 / 32), *words(), *without("storyline_social")]
    ),
    "prompts, keep 1, share 1/32": Recipe([*keep(1, 1 / 32), *prompts()]),
    "keep 1, share 1/32, 200 steps": Recipe([*keep(1, 1 / 32), *steps(200)]),
    "prompts of labels, keep 0.7, share 1/32": Recipe([*keep(0.7, 1 / 32), *prompts(LABELLED)]),
    "prompts of labels, keep 0.3, share 1/32": Recipe([*keep(0.3, 1 / 32), *prompts(LABELLED)]),
    "prompts of labels, keep 1, share 1/32": Recipe([*keep(1, 1 / 32), *prompts(LABELLED)]),
    "prompts, keep 2, share 1/32": Recipe([*keep(2, 1 / 32), *prompts()]),
    "prompts, keep 2, share 1/32, 200 steps": Recipe([*keep(2, 1 / 32), *prompts(), *steps(200)]),
    START: Recipe([*steps(1), *lr(0), "--model.optimizer.head_lr=0"]),
}
"""`start` is the encoder before the first step: with a projection, its PCA."""


@dataclass(frozen=True)
class Job:
    """One recipe with one seed; `tag` names the base encoder and the dimensions."""

    folder: Path
    tag: str
    recipe: str
    seed: int
    encoder: str | None = None
    dim: int | None = None
    rows: int = ROWS

    def scores(self, suffix: str = "") -> Path:
        return self.folder / "scores" / self.tag / f"{slug(self.recipe)}{suffix}.{self.seed}.npz"

    @property
    def run(self) -> Path:
        return self.folder / "runs" / f"{self.tag}-{slug(self.recipe)}-{self.seed}"


def slug(recipe: str) -> str:
    return recipe.replace(" ", "_").replace(",", "").replace("/", "-")


def carry_out(job: Job) -> str:
    """Train and score a recipe; the answer says how long it took."""
    start = time.perf_counter()
    log = job.folder / "logs" / f"{job.run.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        try:
            _carry_out(job)
        except Exception:
            traceback.print_exc(file=file)
            return f"FAILED {job.run.name}, see {log}"
    return f"{time.perf_counter() - start:.1f} s {job.run.name}"


def _carry_out(job: Job) -> None:
    from mtcl.encoder.config import EncoderConfig
    from mtcl.encoder.text_encoder import TextEncoder

    if job.recipe == BASE:
        name = {} if job.encoder is None else {"name": job.encoder}
        score(TextEncoder.base(EncoderConfig(**name), device=device()), job.scores(), job.rows, is_run=False)
        return
    recipe = RECIPES[job.recipe]
    common = ["fit", "--config", str(CONFIGS / "public.yaml"), f"--tasks.{LEFT_OUT}=null", "--no_base"]
    common += ["--model.keep=null", *(f"--tasks.{task}.prompt=null" for task in TRAINED)]
    common += ["--data.num_workers=0"]  # the encoder takes the time
    own = ["--run_dir", str(job.run), f"--seed_everything={job.seed}", *recipe.arguments]
    own += [] if job.encoder is None else [f"--model.encoder.name={job.encoder}"]
    own += [] if job.dim is None else [f"--model.encoder.dim={job.dim}"]
    shutil.rmtree(job.run, ignore_errors=True)
    mtcl(*common, *steps(STEPS), "--trainer.limit_val_batches=0", "--trainer.enable_progress_bar=false", *own)
    score(TextEncoder.load(job.run / "checkpoints" / "last.ckpt", device=device()), job.scores(), job.rows)
    for share in recipe.merges:
        merged = job.run.with_name(f"{job.run.name}-merged")
        shutil.rmtree(merged, ignore_errors=True)
        mtcl(
            "merge", str(job.run / "checkpoints" / "last.ckpt"), "base", "--weight", f"{share:g}", "--out", str(merged)
        )
        score(TextEncoder.load(merged, device=device()), job.scores(f"_merged_{share:g}"), job.rows)
        shutil.rmtree(merged)
    shutil.rmtree(job.run / "checkpoints")


def mtcl(*arguments: str) -> None:
    from mtcl.__main__ import main

    if code := main(list(arguments)):
        raise RuntimeError(f"mtcl {arguments[0]} ended with {code}")


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass
class Direct:
    """An encoder for `add_scores`; equal texts are encoded once."""

    encoder: TextEncoder
    is_run: bool
    known: dict[tuple[str, int | None], Any] = field(default_factory=dict)

    def __call__(self, texts: Sequence[str], max_length: int | None = None, *, task: str | None = None) -> Tensor:
        import torch

        length = max_length or self.encoder.max_length
        missing = sorted({text for text in texts if (text, length) not in self.known}, key=len)
        with torch.autocast(device(), torch.bfloat16):
            found = self.encoder(missing, length) if missing else ()
        self.known |= {(text, length): vector for text, vector in zip(missing, found, strict=True)}
        return torch.stack([self.known[text, length] for text in texts])

    def prompt_of(self, task: Task) -> Prompt:
        return self.encoder.prompt_of(task) if self.is_run else self.encoder.prompt

    def length_of(self, task: Task) -> int | None:
        return self.encoder.length_of(task) if self.is_run else None


@lru_cache
def suite(rows: int) -> tuple[CompareConfig, list[Task], list[Pool]]:
    """The tasks of configs/zero_shot.yaml and their pools."""
    from mtcl.commands.arguments import parse
    from mtcl.configuration import yaml_files
    from mtcl.data.tokenizer import Tokenizer
    from mtcl.encoder.hub import resolve_model
    from mtcl.files import cache_folder
    from mtcl.studies.compare.comparison import pools_of, tasks_of
    from mtcl.studies.compare.config import CompareConfig

    config = parse(CompareConfig, yaml_files.read([str(CONFIGS / "zero_shot.yaml")]), [f"--rows={rows}"])
    tasks = [task for task in tasks_of(config) if task.name != LEFT_OUT]
    return config, tasks, pools_of(config, tasks, Tokenizer.load(resolve_model(config.tokenizer)), cache_folder(None))


def score(encoder: TextEncoder, path: Path, rows: int, *, is_run: bool = True) -> None:
    """Write the item scores of each task of the suite."""
    from mtcl.studies.compare.comparison import add_scores

    config, tasks, pools = suite(rows)
    found: dict[Any, Any] = {}
    add_scores("it", next(iter(config.encoders.values())), Direct(encoder, is_run), tasks, pools, [], found)
    (items,) = (one.items for one in found.values())
    arrays: dict[str, Any] = {}
    for task, (scores,) in items.items():
        arrays[f"{task}/scores"] = scores.scores_I
        if scores.clusters_I is not None:
            arrays[f"{task}/clusters"] = scores.clusters_I
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part.npz")
    np.savez_compressed(aside, **arrays)
    aside.rename(path)


def run(options: argparse.Namespace) -> None:
    dims = "" if options.dim is None else f"-{options.dim}"
    tag = f"{options.name}{dims}"
    jobs = [
        Job(options.folder.resolve(), tag, recipe, seed, options.encoder, options.dim, options.rows)
        for seed in options.seeds
        for recipe in options.recipes
        if recipe != BASE or seed == options.seeds[0]
    ]
    jobs = [job for job in jobs if not job.scores().exists()]
    context = multiprocessing.get_context("spawn")
    begun = time.perf_counter()
    with ProcessPoolExecutor(options.workers, mp_context=context, initializer=_end_with_parent) as pool:
        for done in as_completed([pool.submit(carry_out, job) for job in jobs]):
            print(f"{time.perf_counter() - begun:6.1f} {done.result()}", flush=True)


def _end_with_parent() -> None:
    """A worker would train on after its parent was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


# The report


def read(paths: Sequence[Path]) -> dict[str, Differences]:
    """Each task's scores, one row per seed."""
    files = [np.load(path) for path in paths]
    tasks = [name.removesuffix("/scores") for name in files[0] if name.endswith("/scores")]
    return {
        task: Differences(
            np.stack([file[f"{task}/scores"] for file in files]),
            files[0].get(f"{task}/clusters"),
        )
        for task in tasks
    }


def minus(ours: dict[str, Differences], theirs: dict[str, Differences]) -> dict[str, Differences]:
    return {task: Differences(one.scores_SI - theirs[task].scores_SI, one.clusters_I) for task, one in ours.items()}


@dataclass(frozen=True)
class Outcome:
    """A recipe's differences from the base encoder or, with a projection, from its start with the same seed."""

    name: str
    by_task: dict[str, Interval]
    trained: Interval
    unseen: Interval

    @property
    def lowest(self) -> tuple[str, Interval]:
        """The unseen task whose interval reaches lowest."""
        return min(((t, i) for t, i in self.by_task.items() if t not in TRAINED), key=lambda pair: pair[1].low)


def outcomes(folder: Path, tag: str) -> list[Outcome]:
    of_recipe: dict[str, list[Path]] = {}
    for path in sorted((folder / "scores" / tag).glob("*.npz")):
        of_recipe.setdefault(path.name.rsplit(".", 2)[0], []).append(path)
    starts = of_recipe.pop(START, None) or of_recipe.pop(BASE)
    of_recipe.pop(BASE, None)
    found = []
    for name, paths in of_recipe.items():
        theirs = [next((one for one in starts if one.suffixes[-2:] == path.suffixes[-2:]), starts[0]) for path in paths]
        gains = minus(read(paths), read(theirs))
        groups = [[d for t, d in gains.items() if (t in TRAINED) == trained] for trained in (True, False)]
        of_groups = [macro_bootstrap(group) for group in groups]
        found.append(Outcome(name, {task: bootstrap(d) for task, d in gains.items()}, *of_groups))
    return sorted(found, key=lambda one: -one.unseen.mean)


def table(found: Sequence[Outcome]) -> Iterator[str]:
    plain = next((one.trained.mean for one in found if one.name == PLAIN), None)
    rows = []
    for one in found:
        share = "" if plain is None else f"{one.trained.mean / plain:.0%}"
        task, lowest = one.lowest
        seeds = str(one.trained.num_seeds)
        rows.append([one.name, seeds, str(one.trained), share, str(one.unseen), f"{lowest} {task}"])
    yield markdown_table(["recipe", "seeds", "trained tasks", "of plain", "unseen tasks", "lowest unseen task"], rows)
    tasks = list(found[0].by_task)
    yield markdown_table(["recipe", *tasks], [[one.name, *(str(one.by_task[task]) for task in tasks)] for one in found])


def plot(found: Sequence[Outcome], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.5), layout="constrained")
    panel = figure.subplots()
    panel.axhline(0, color="grey", linewidth=0.8)
    for one in found:
        x, y = one.trained, one.unseen
        colour = "tab:blue" if "keep" in one.name else "tab:red" if one.name == PLAIN else "tab:grey"
        panel.errorbar(
            [x.mean],
            [y.mean],
            xerr=[[x.mean - x.low], [x.high - x.mean]],
            yerr=[[y.mean - y.low], [y.high - y.mean]],
            marker="o",
            color=colour,
            elinewidth=0.5,
            alpha=0.8,
        )
        label = one.name.replace("_", " ")
        panel.annotate(label, (x.mean, y.mean), fontsize=7, xytext=(4, 3), textcoords="offset points")
    panel.set_xlabel("trained tasks: mean gain over the base encoder, 95 % interval")
    panel.set_ylabel("unseen tasks: the same")
    figure.savefig(path, dpi=120)


def report(options: argparse.Namespace) -> None:
    for place in sorted((options.folder / "scores").iterdir()):
        found = outcomes(options.folder, place.name)
        print(f"\n## {place.name}\n")
        for part in table(found):
            print(part)
        plot(found, options.folder / f"levers-{place.name}.png")


# The price of prompts


def tokens(options: argparse.Namespace) -> None:
    """Tokens of a step in the mean of the first 20, which have the same pairs without and with the prompts."""
    from mtcl.configuration.yaml_files import load
    from mtcl.training.datamodule import MtclDataModule

    config = load([str(CONFIGS / "public.yaml")])
    choices: dict[str, Any] = {
        "without prompts": {task: {} for task in TRAINED},
        "with the tasks' names": {task: {"prompt": name_of(task)} for task in TRAINED},
        "with one word": {task: {"prompt": f"{word} "} for task, word in zip(TRAINED, WORDS, strict=True)},
        "with a word before two tasks": {
            task: {"prompt": f"{word} "} if task in NARROW else {} for task, word in zip(TRAINED, WORDS, strict=True)
        },
    }
    for choice, tasks in choices.items():
        data = MtclDataModule(tasks=tasks, num_workers=0, seed=1, **config["data"])
        data.prepare_data()
        data.setup("fit")
        counts = [batch.texts.num_tokens for batch in islice(data.train_dataloader(), 20)]
        print(f"{choice}: {np.mean(counts):,.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("run")
    one.add_argument("folder", type=Path)
    one.add_argument("--recipes", nargs="+", default=[name for name in RECIPES if name != START], choices=list(RECIPES))
    one.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    one.add_argument("--workers", type=int, default=1, help="runs at the same time")
    one.add_argument("--encoder", help="folder or name of another base encoder")
    one.add_argument("--name", default="minilm", help="its name in the folder")
    one.add_argument("--dim", type=int)
    one.add_argument("--rows", type=int, default=ROWS, help="of each test split; give the folder one number only")
    one.set_defaults(do=run)
    two = commands.add_parser("report")
    two.add_argument("folder", type=Path)
    two.set_defaults(do=report)
    commands.add_parser("tokens").set_defaults(do=tokens)
    options = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    options.do(options)


if __name__ == "__main__":
    main()
