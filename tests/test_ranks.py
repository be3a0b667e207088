"""Losses and gradients of 1, 2 and 4 ranks are equal: directions x bounded memory x tasks a step (gloo, dropout off).

python -m pytest tests/test_ranks.py
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mtcl.batch import StepBatch, StepDataset
from mtcl.encoder import Encoder, EncoderConfig
from mtcl.losses import InfoNCE
from mtcl.module import gather_views
from mtcl.plan import Plan, PlanTask
from mtcl.registry import discover
from mtcl.store import Tokenizer, TokenStore, prepare

NAMES = ("interest", "storyline", "search")
CASES = list(product(["one", "both"], [False, True], [1, None]))
STEPS = 3
Found = dict[Any, tuple[list[float], dict[str, Tensor]]]


class Step(nn.Module):
    """What `MtclModule.training_step` does, without Lightning."""

    def __init__(self, model: Path, *, directions: str, checkpointing: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = Encoder.load(EncoderConfig(name=str(model), dim=8, dropout=0.0, tokens_per_chunk=96))
        self.encoder.activation_checkpointing = checkpointing
        self.losses = nn.ModuleList(
            InfoNCE(learn_temperature=True, directions=directions)  # type: ignore[arg-type]
            for _ in NAMES
        )

    def forward(self, batch: StepBatch) -> Tensor:
        views = gather_views(batch.parts, self.encoder(batch.texts))
        return torch.stack([self.losses[p.task](v) for p, v in zip(batch.parts, views, strict=True)]).mean()


def train(model: Path, folders: list[Path], rank: int, world: int) -> Found:
    """Losses (mean over ranks) and weights after a few steps of each case."""
    stores = [TokenStore.open(folder) for folder in folders]
    found: Found = {}
    for directions, checkpointing, tasks_per_step in CASES:
        tasks = tuple(PlanTask(name, len(store), 8) for name, store in zip(NAMES, stores, strict=True))
        data = StepDataset(Plan(tasks, tasks_per_step=tasks_per_step), stores, rank=rank, world=world)
        step = Step(model, directions=directions, checkpointing=checkpointing)
        module = DistributedDataParallel(step, find_unused_parameters=True) if world > 1 else step
        optimizer = torch.optim.SGD(step.parameters(), lr=0.1)
        losses = []
        for number in range(STEPS):
            optimizer.zero_grad()
            loss = module(data[number])
            loss.backward()
            optimizer.step()
            shown = loss.detach().clone()
            if world > 1:
                dist.all_reduce(shown)
            losses.append(float(shown) / world)
        weights = {name: value.detach().clone() for name, value in step.state_dict().items()}
        found[directions, checkpointing, tasks_per_step] = (losses, weights)
    return found


def rank_main(rank: int, world: int, folder: Path, model: Path, folders: list[Path]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    found = train(model, folders, rank, world)
    if rank == 0:
        torch.save(found, folder / "found.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folders(tiny_model: Path, demo_root: Path, cache: Path) -> list[Path]:
    registry, tokenizer = discover(), Tokenizer.load(tiny_model)
    options = {"root": demo_root, "tokenizer": tokenizer, "max_length": 24, "cache": cache}
    return [prepare(registry[name], "train", **options).folder for name in NAMES]


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
def test_equal_to_one_process(tiny_model: Path, folders: list[Path], tmp_path: Path, world: int) -> None:
    expected = train(tiny_model, folders, 0, 1)
    torch.multiprocessing.spawn(rank_main, args=(world, tmp_path, tiny_model, folders), nprocs=world)
    found: Found = torch.load(tmp_path / "found.pt", weights_only=True)
    assert set(found) == set(expected) == set(CASES)
    for case, (losses, weights) in expected.items():
        assert found[case][0] == pytest.approx(losses, rel=1e-5), case
        for name, value in weights.items():
            torch.testing.assert_close(found[case][1][name], value, atol=1e-5, rtol=1e-5, msg=f"{case} {name}")
    assert expected["one", False, None][0] != expected["both", False, None][0]
