"""Parameter groups and schedule.

python -m pytest tests/test_optimizer.py
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mtcl import MtclDataModule, MtclModule
from mtcl.data.batch import StepBatch
from mtcl.errors import ConfigError, DivergedError
from mtcl.training.optimizer import OptimizerConfig, build_optimizer, build_schedule, clip_gradients
from tests.conftest import quiet_trainer


def optimizer_of(config: OptimizerConfig) -> torch.optim.Optimizer:
    backbone = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    return build_optimizer(config, backbone=backbone, heads=[nn.Linear(4, 2)])


def rates(config: OptimizerConfig, *, steps: int) -> list[float]:
    optimizer = optimizer_of(config)
    schedule = build_schedule(config, optimizer, total_steps=steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return [*found, optimizer.param_groups[0]["lr"]]


def test_groups() -> None:
    """Matrices decay, vectors don't; heads have their own rate; every parameter is in one group."""
    groups = optimizer_of(OptimizerConfig(lr=0.1, head_lr=0.2, weight_decay=0.3)).param_groups
    assert [(g["lr"], g["weight_decay"], len(g["params"])) for g in groups] == [
        (0.1, 0.3, 1),
        (0.1, 0.0, 3),
        (0.2, 0.3, 1),
        (0.2, 0.0, 1),
    ]


def test_frozen_parameters_are_left_out() -> None:
    backbone = nn.Linear(4, 4).requires_grad_(False)
    assert [
        len(g["params"])
        for g in build_optimizer(OptimizerConfig(), backbone=backbone, heads=[nn.Linear(2, 2)]).param_groups
    ] == [1, 1]


@pytest.mark.parametrize(("decay", "middle"), [("linear", 0.5), ("cosine", 0.5), ("constant", 1.0)])
def test_warm_up_then_decay(decay: str, middle: float) -> None:
    found = rates(OptimizerConfig(lr=1.0, warmup_steps=10, decay=decay), steps=110)  # type: ignore[arg-type]
    assert found[:10] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert found[10] == 1.0
    assert found[60] == pytest.approx(middle)
    assert found[-1] == pytest.approx(1.0 if decay == "constant" else 0.0, abs=1e-9)


def test_values_that_make_no_sense() -> None:
    with pytest.raises(ConfigError, match="lr is -1"):
        OptimizerConfig(lr=-1)
    with pytest.raises(ConfigError, match=r"warmup_steps is 10, but trainer\.max_steps is 10"):
        build_schedule(OptimizerConfig(warmup_steps=10), optimizer_of(OptimizerConfig()), total_steps=10)


@pytest.mark.parametrize(
    ("limit", "by_value", "clipped"),
    [
        (None, False, [30.0, 40.0]),
        (0.0, True, [30.0, 40.0]),
        (100.0, False, [30.0, 40.0]),
        (5.0, False, [3.0, 4.0]),
        (35.0, True, [30.0, 35.0]),
    ],
)
def test_the_norm_is_that_before_clipping(limit: float | None, by_value: bool, clipped: list[float]) -> None:
    first, second = (nn.Parameter(torch.zeros(1)) for _ in range(2))
    first.grad, second.grad = torch.tensor([30.0]), torch.tensor([40.0])
    frozen = nn.Parameter(torch.zeros(1), requires_grad=False)
    assert clip_gradients(iter([first, frozen, second]), limit, by_value=by_value).item() == pytest.approx(50.0)
    assert [first.grad.item(), second.grad.item()] == pytest.approx(clipped, rel=1e-5)


@pytest.mark.parametrize("algorithm", ["norm", "value"])
@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_gradient_that_is_not_finite_ends_the_run_however_it_is_clipped(
    algorithm: str, bad: float, tiny_model: Path, demo_root: Path, cache: Path
) -> None:
    """Clipping values would turn an infinite gradient into a finite one."""

    class Diverging(MtclModule):
        """Has a bad gradient at its third step."""

        def training_step(self, batch: StepBatch, batch_idx: int) -> Tensor:
            if batch.step == 2:
                assert self.encoder.projection is not None
                self.encoder.projection.bias.register_hook(lambda gradient: torch.full_like(gradient, bad))
            return super().training_step(batch, batch_idx)

    module = Diverging(encoder={"name": str(tiny_model), "dim": 8}, evaluate_base=False)
    options = {"root": str(demo_root), "cache": str(cache), "num_workers": 0, "max_length": 24}
    data = MtclDataModule(tasks={"search": {}}, batch_size=8, **options)
    trainer = quiet_trainer(
        max_steps=4,
        limit_val_batches=0,
        log_every_n_steps=1,
        gradient_clip_val=1.0,
        gradient_clip_algorithm=algorithm,
    )
    with pytest.raises(DivergedError, match=r"the gradient's norm is (inf|nan) at step 3"):
        trainer.fit(module, data)
