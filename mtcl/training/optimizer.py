"""AdamW and its learning rate schedule over the configured number of steps.

`trainer.estimated_stepping_batches` is not used: reading it in `configure_optimizers` makes Lightning drop a
loader's state on resume (Lightning issue 20550).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from mtcl.errors import ConfigError


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with warm-up and decay.

    Attributes:
        lr: Learning rate of the backbone.
        head_lr: Learning rate of the new parameters: projection and losses.
        weight_decay: Decay of matrices; vectors (biases, norms, temperatures) have none.
        warmup_steps: Optimizer steps of linear warm-up.
        decay: How the rate falls to zero at trainer.max_steps.
    """

    lr: float = 2e-5
    head_lr: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 0
    decay: Literal["linear", "cosine", "constant"] = "linear"

    def __post_init__(self) -> None:
        for name in ("lr", "head_lr", "weight_decay", "warmup_steps"):
            if getattr(self, name) < 0:
                raise ConfigError(f"model.optimizer.{name} is {getattr(self, name)}: give 0 or more")


def build_optimizer(
    config: OptimizerConfig, *, backbone: nn.Module, heads: Iterable[nn.Module], fused: bool = True
) -> torch.optim.AdamW:
    """AdamW over four groups: backbone and heads, each with and without decay. `fused` rules out an fp16 scaler."""
    new = [p for head in heads for p in head.parameters()]
    groups: list[dict[str, Any]] = []
    for parameters, lr in ((list(backbone.parameters()), config.lr), (new, config.head_lr)):
        trained = [p for p in parameters if p.requires_grad]
        groups.append({"params": [p for p in trained if p.ndim >= 2], "lr": lr, "weight_decay": config.weight_decay})
        groups.append({"params": [p for p in trained if p.ndim < 2], "lr": lr, "weight_decay": 0.0})
    return torch.optim.AdamW([group for group in groups if group["params"]], fused=fused)


def build_schedule(config: OptimizerConfig, optimizer: torch.optim.Optimizer, *, total_steps: int) -> Any:
    """Linear warm-up, then decay to zero at `total_steps`. Raises `ConfigError` if the warm-up is the whole run."""
    warmup = config.warmup_steps
    if warmup >= total_steps:
        raise ConfigError(
            f"model.optimizer.warmup_steps is {warmup}, but trainer.max_steps is {total_steps}: give fewer"
        )

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = (step - warmup) / max(1, total_steps - warmup)
        by_kind = {"linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2, "constant": 1.0}
        return max(0.0, by_kind[config.decay])

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
