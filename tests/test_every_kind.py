"""One run through the command line of every kind of pairs with losses of their own: one process, two ranks.

python -m pytest tests/test_every_kind.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import Run
from tests.test_distributed import RANKS
from tests.test_resume import losses, weights

WORDS = "abcdefghijklmnop"
DATA: dict[str, tuple[str, str, list[dict[str, Any]]]] = {
    "graded": (
        "Scored(language='lang')",
        "Spearman()",
        [
            {"first": f"{c} red", "second": f"{c} dog", "score": n / 20, "lang": "de" if n % 2 else "en"}
            for n, c in enumerate(WORDS)
        ],
    ),
    "binary": (
        "Labelled()",
        "AveragePrecision()",
        [{"first": f"{c} news", "second": f"post {c}", "label": n % 2} for n, c in enumerate(WORDS)],
    ),
    "speech": (
        "Parallel(language='lang')",
        "BitextAccuracy(pool_size=4)",
        [{"source": f"{c} job", "target": f"blue {c}", "lang": "de" if n % 2 else "fr"} for n, c in enumerate(WORDS)],
    ),
    "alone": ("Augmented()", "MRR()", [{"text": f"{c} green bird {c}"} for c in WORDS]),
    "jobs": (
        "QueryDocument(negatives='mined')",
        "NDCG(k=10)",
        [{"query": f"query {c}", "document": f"cat {c} {c}", "mined": [f"cat {c}", f"{c} {c}"]} for c in WORDS],
    ),
}
CONFIG = """
seed_everything: 3
tasks:
  graded: {}
  binary: {}
  speech:
    loss:
      class_path: WeightedSum
      init_args:
        losses:
          - {class_path: InfoNCE, init_args: {directions: both}}
          - {class_path: TeacherMSE, init_args: {target: anchor}}
  alone: {weight_schedule: {3: 0.0}}
  jobs:
    hard_negatives: 2
    loss: {class_path: Matryoshka, init_args: {loss: {class_path: InfoNCE, init_args: {guide: base}}, dims: [4]}}
model:
  encoder: {dim: 8, dropout: 0.0}
  weighting: {class_path: Uncertainty}
  gradient_cosines_every_n_steps: 4
data: {batch_size: 8, max_length: 16, num_workers: 0}
trainer: {max_steps: 6, val_check_interval: 3, log_every_n_steps: 1, precision: 32-true, enable_progress_bar: false}
checkpoint_every_n_steps: 2
"""


@pytest.fixture
def arguments(tmp_path: Path, tiny_model: Path) -> list[str]:
    (tmp_path / "tasks").mkdir()
    for name, (pairs, metric, rows) in DATA.items():
        (tmp_path / "tasks" / f"{name}.py").write_text(
            f'from mtcl import *\n\n\nclass T(Task):\n    """T."""\n\n    name = "{name}"\n    pairs = {pairs}\n'
            f"    metric = {metric}\n    sample = {rows!r}\n"
            "    data = Rows(train=sample, validation=sample, test=sample)\n"
        )
    (tmp_path / "kinds.yaml").write_text(CONFIG)
    return ["--config", "kinds.yaml", "--model.encoder.name", str(tiny_model)]


def with_ranks(arguments: list[str]) -> list[str]:
    return [*arguments, *(x for key, value in RANKS.items() for x in (f"--{key}", str(value)))]


def test_two_ranks_equal_one_process(
    tmp_path: Path, mtcl_process: Run, mtcl_command: Run, arguments: list[str]
) -> None:
    """Losses and weights of two ranks are those of one."""
    for run, name, more in ((mtcl_command, "one", arguments), (mtcl_process, "two", with_ranks(arguments))):
        done = run("fit", *more, "--run_dir", f"runs/{name}")
        assert done.returncode == 0, done.stderr
    folders = [tmp_path / "runs" / name for name in ("one", "two")]
    found = [losses(folder) for folder in folders]
    tags = {f"train_loss/{name}" for name in DATA}
    assert tags <= set(found[0]) == set(found[1])
    for tag in tags:
        assert found[1][tag] == pytest.approx(found[0][tag], rel=1e-4), tag
    assert set(found[0]["train_loss/alone"]) == {1, 2, 3}, "paused from step 3 on"
    for name, value in weights(folders[0]).items():
        torch.testing.assert_close(weights(folders[1])[name], value, atol=2e-5, rtol=1e-3, msg=name)


def test_evaluated_by_kind(tmp_path: Path, mtcl_command: Run, arguments: list[str]) -> None:
    assert mtcl_command("fit", *arguments, "--run_dir", "runs/one").returncode == 0
    done = mtcl_command("test", "--ckpt", "runs/one")
    assert done.returncode == 0, done.stderr
    for name in DATA:
        assert name in done.stdout
    figures = json.loads((tmp_path / "runs" / "one" / "test.json").read_text())
    assert {"spearman", "spearman_de", "spearman_en"} <= set(figures["graded"])
    assert {"average_precision", "roc_auc"} <= set(figures["binary"])
    assert {"bitext_accuracy", "bitext_accuracy_de", "bitext_accuracy_seen"} <= set(figures["speech"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ["--tasks.graded.loss=InfoNCE"],
            "tasks.graded.loss is InfoNCE, for parallel or positive pairs, but",
        ),
        (["--tasks.jobs.loss=CoSENT"], "the default there is InfoNCE"),
        (["--tasks.jobs.hard_negatives=-1"], "hard_negatives is -1: give 0 or more"),
        (["--data.cap=-5"], "data.cap is -5"),
        (["--tasks.nobody.weight=2"], "unknown task 'nobody'"),
        (["--model.weighting.method=upgrade"], "upgrad"),
    ],
)
def test_refused_before_the_first_step(
    change: list[str], message: str, mtcl_command: Run, arguments: list[str]
) -> None:
    if "weighting" in change[0]:
        change = ["--model.weighting=GradientWeighting", *change]
    done = mtcl_command("fit", *arguments, *change, "--run_dir", "runs/bad")
    assert done.returncode == 2
    assert message in done.stderr.strip().splitlines()[-1], done.stderr
