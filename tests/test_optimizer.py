"""Parameter groups and schedule.

python -m pytest tests/test_optimizer.py
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mtcl.errors import ConfigError
from mtcl.training.optimizer import OptimizerConfig, build_optimizer, build_schedule


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
