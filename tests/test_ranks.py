"""Losses and weights of 1, 2 and 4 ranks are equal: every loss x hard negatives x bounded memory x tasks a step x
accumulation (gloo, float32, dropout off).

python -m pytest tests/test_ranks.py
MTCL_CASES=all python -m pytest tests/test_ranks.py     all 144 combinations in the place of a covering part of them
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mtcl import BitextAccuracy, Metric, Pairs, Parallel, QueryDocument, Rows, Scored, Spearman, Task
from mtcl.data.batch import StepBatch
from mtcl.data.plan import Plan, PlanTask
from mtcl.data.rows import TaskData
from mtcl.data.steps import StepDataset
from mtcl.data.store import TokenStore, prepare
from mtcl.data.tokenizer import Tokenizer
from mtcl.distributed import sum_of_own_rows
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.teacher import Teacher, vectors_file
from mtcl.losses import (
    CoSENT,
    DistillKL,
    InfoNCE,
    Loss,
    MarginMSE,
    Matryoshka,
    PairBCE,
    SpreadOut,
    TeacherMSE,
    WeightedSum,
)
from mtcl.losses.gather import gather_views
from mtcl.task.metrics import MRR
from mtcl.weighting import Mean, Uncertainty, Weighting

POSITIVE: dict[str, Callable[[], Loss]] = {
    "one way": lambda: InfoNCE(learn_temperature=True),
    "both ways": lambda: InfoNCE(directions="both"),
    "all options": lambda: InfoNCE(
        directions="both", same_side=True, multi_positive=True, margin=0.1, correct_frequency=True, guide="base"
    ),
    "pair bce": PairBCE,
    "margin mse": MarginMSE,
    "distill": DistillKL,
    "teacher": lambda: WeightedSum([InfoNCE(), TeacherMSE(target="anchor")]),
    "matryoshka": lambda: Matryoshka(InfoNCE(), [4]),
    "spread": lambda: SpreadOut(InfoNCE(), weight=1.0),
}
JUDGED: dict[str, Callable[[], Loss]] = {"one way": CoSENT, "pair bce": lambda: TeacherMSE()}
WEIGHTING: dict[str, Callable[[], Weighting]] = {"both ways": Uncertainty}
OPTIONS = list(product([0, 2], [False, True], [1, None], [1, 2]))
SOME = [
    *((name, *OPTIONS[number % len(OPTIONS)]) for number, name in enumerate(POSITIVE)),
    *(("both ways", *options) for options in OPTIONS),
    *((name, 2, False, None, 1) for name in POSITIVE),
    *((name, 0, True, None, 1) for name in POSITIVE),
]
CASES = SOME if os.environ.get("MTCL_CASES") != "all" else [(name, *o) for name, o in product(POSITIVE, OPTIONS)]
STEPS = 2
Found = dict[Any, tuple[list[float], dict[str, Tensor]]]
LETTERS = "abcdefghijkl"
ROWS: dict[str, list[dict[str, Any]]] = {
    "search": [
        {"query": f"{c} dog", "document": f"red {c} cat", "n": [f"{c} bird {k}" for k in range(n % 4)]}
        for n, c in enumerate(LETTERS)
    ],
    "speech": [{"source": f"{c} news", "target": f"post {c}"} for c in LETTERS],
    "likeness": [{"first": f"{c} blue", "second": f"green {c} job", "score": n / 12} for n, c in enumerate(LETTERS)],
}
PAIRS: dict[str, tuple[Pairs, Metric]] = {
    "search": (QueryDocument(negatives="n"), MRR()),
    "speech": (Parallel(), BitextAccuracy()),
    "likeness": (Scored(), Spearman()),
}


class Step(nn.Module):
    """What `MtclModule.training_step` does, without Lightning."""

    def __init__(self, model: Path, losses: list[Loss], weighting: Weighting, *, checkpointing: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = Encoder.load(EncoderConfig(name=str(model), dim=8, dropout=0.0, tokens_per_chunk=96))
        self.encoder.activation_checkpointing = checkpointing
        self.losses, self.weighting = nn.ModuleList(losses), weighting
        weighting.start(list(ROWS))

    def forward(self, batch: StepBatch) -> Tensor:
        views = gather_views(batch.parts, self.encoder(batch.texts))
        found: dict[str, Tensor] = {}
        counts = Counter(list(ROWS)[part.task] for part in batch.parts)
        for part, view in zip(batch.parts, views, strict=True):
            name = list(ROWS)[part.task]
            found[name] = found.get(name, torch.zeros(())) + self.losses[part.task](view) / len(batch.parts)
        total: Tensor = self.weighting(found, [], {name: count / len(batch.parts) for name, count in counts.items()})
        return total


def train(model: Path, folders: list[Path], teachers: list[Path], rank: int, world: int) -> Found:
    """Losses (mean over ranks) and weights after a few optimizer steps of each case."""
    stores = [TokenStore.open(folder) for folder in folders]
    found: Found = {}
    for case in dict.fromkeys(CASES):
        name, hard, checkpointing, tasks_per_step, accumulation = case
        tasks = tuple(PlanTask(name, len(store), 8) for name, store in zip(ROWS, stores, strict=True))
        data = [TaskData(store, hard, teacher) for store, teacher in zip(stores, teachers, strict=True)]
        dataset = StepDataset(Plan(tasks, tasks_per_step=tasks_per_step), data, rank=rank, world=world)
        losses = [POSITIVE[name](), POSITIVE[name](), JUDGED.get(name, CoSENT)()]
        step = Step(model, losses, WEIGHTING.get(name, Mean)(), checkpointing=checkpointing)
        module = DistributedDataParallel(step, find_unused_parameters=True) if world > 1 else step
        optimizer = torch.optim.SGD(step.parameters(), lr=0.05)
        values = []
        for number in range(STEPS * accumulation):
            loss = module(dataset[number])
            (loss / accumulation).backward()
            if number % accumulation == accumulation - 1:
                optimizer.step()
                optimizer.zero_grad()
            shown = loss.detach().clone()
            if world > 1:
                dist.all_reduce(shown)
            values.append(float(shown) / world)
        weights = {name: value.detach().clone() for name, value in step.state_dict().items()}
        found[case] = (values, weights)
    return found


def rank_main(rank: int, world: int, folder: Path, model: Path, folders: list[Path], teachers: list[Path]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    rows = torch.randn(4 * world, 3, generator=torch.Generator().manual_seed(rank))
    both = [sum_of_own_rows(rows, scatter=scatter) for scatter in (False, True)]
    torch.testing.assert_close(both[1], both[0], atol=1e-6, rtol=0)
    assert both[0].shape == (4, 3)
    found = train(model, folders, teachers, rank, world)
    if rank == 0:
        torch.save(found, folder / "found.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def stores(tiny_model: Path, cache: Path) -> list[TokenStore]:
    found = []
    for kind, rows in ROWS.items():
        pairing, figure = PAIRS[kind]

        class Toy(Task):
            """A toy."""

            name = "toy"
            data = Rows(train=rows)
            pairs = pairing
            metric = figure
            sample = rows[:2]

        tokenizer = Tokenizer.load(tiny_model)
        found.append(prepare(Toy(), "train", root=None, tokenizer=tokenizer, max_length=24, cache=cache))
    return found


@pytest.fixture(scope="module")
def teachers(stores: list[TokenStore], tiny_model: Path) -> list[Path]:
    torch.manual_seed(1)
    teacher = Teacher(Encoder.load(EncoderConfig(name=str(tiny_model), dim=8)))
    return [
        vectors_file(s, teacher, lambda e, tokens: e.embed(tokens, tokens_per_chunk=96), precision="32") for s in stores
    ]


@pytest.fixture(scope="module")
def expected(tiny_model: Path, stores: list[TokenStore], teachers: list[Path]) -> Found:
    return train(tiny_model, [store.folder for store in stores], teachers, 0, 1)


@pytest.mark.usefixtures("starts_processes")
@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.nightly)])
def test_equal_to_one_process(
    world: int, tiny_model: Path, stores: list[TokenStore], teachers: list[Path], expected: Found, tmp_path: Path
) -> None:
    folders = [store.folder for store in stores]
    torch.multiprocessing.spawn(rank_main, args=(world, tmp_path, tiny_model, folders, teachers), nprocs=world)
    found: Found = torch.load(tmp_path / "found.pt", weights_only=True)
    assert set(found) == set(expected) == set(CASES)
    for case, (losses, weights) in expected.items():
        assert found[case][0] == pytest.approx(losses, rel=1e-5, abs=1e-6), case
        for name, value in weights.items():
            torch.testing.assert_close(found[case][1][name], value, atol=1e-5, rtol=1e-5, msg=f"{case} {name}")


def test_cases_differ(expected: Found) -> None:
    """Else equality would say nothing of the options."""
    losses = {case: values[0][-1] for case, values in expected.items() if case[1:] == (2, False, None, 1)}
    assert len(set(losses.values())) == len(losses) == len(POSITIVE)
    assert expected["both ways", 0, False, None, 1][0] != expected["both ways", 2, False, None, 1][0]
    bounded = expected["both ways", 0, True, None, 1][0]
    assert expected["both ways", 0, False, None, 1][0] == pytest.approx(bounded, rel=1e-6)
