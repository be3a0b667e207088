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
from torch import Tensor, nn

from mtcl.encoder.layers import layers_of
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
        layer_decay: Factor of the backbone's learning rate from one layer to the next lower one; the embeddings are
            below the lowest layer. 1.0 gives all layers the same rate.
    """

    lr: float = 2e-5
    head_lr: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 0
    decay: Literal["linear", "cosine", "constant"] = "linear"
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        for name in ("lr", "head_lr", "weight_decay", "warmup_steps"):
            if not 0 <= getattr(self, name) < math.inf:  # NaN is neither
                raise ConfigError(f"model.optimizer.{name} is {getattr(self, name)}: give 0 or more")
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(f"model.optimizer.layer_decay is {self.layer_decay}: give more than 0 and at most 1")


def build_optimizer(
    config: OptimizerConfig,
    *,
    backbone: nn.Module,
    heads: Iterable[nn.Module],
    dense: nn.Module | None = None,
    fused: bool = True,
) -> torch.optim.AdamW:
    """AdamW over groups with and without decay: backbone, `dense`, heads. `fused` rules out an fp16 scaler.

    `dense` are the model's own layers after its pooling; they have the backbone's rate. With a `layer_decay`, each of
    the backbone's layers has its own two groups, the top ones first.
    """
    new = [p for head in heads for p in head.parameters()]
    groups: list[dict[str, Any]] = []
    own = [] if dense is None else [(list(dense.parameters()), config.lr)]
    for parameters, lr in (*own, *_rates(config, backbone), (new, config.head_lr)):
        trained = [p for p in parameters if p.requires_grad]
        groups.append({"params": [p for p in trained if p.ndim >= 2], "lr": lr, "weight_decay": config.weight_decay})
        groups.append({"params": [p for p in trained if p.ndim < 2], "lr": lr, "weight_decay": 0.0})
    return torch.optim.AdamW([group for group in groups if group["params"]], fused=fused)


def _rates(config: OptimizerConfig, backbone: nn.Module) -> list[tuple[list[nn.Parameter], float]]:
    """The backbone's parameters and their learning rates, from the top down."""
    if config.layer_decay == 1:
        return [(list(backbone.parameters()), config.lr)]
    floors = reversed(layers_of(backbone).floors())
    return [(floor, config.lr * config.layer_decay**distance) for distance, floor in enumerate(floors)]


def check_warm_up(config: OptimizerConfig, total_steps: int) -> None:
    """Raise `ConfigError` if the warm-up is the whole run."""
    if config.warmup_steps >= total_steps:
        raise ConfigError(
            f"model.optimizer.warmup_steps is {config.warmup_steps}, but trainer.max_steps is {total_steps}: give fewer"
        )


def build_schedule(config: OptimizerConfig, optimizer: torch.optim.Optimizer, *, total_steps: int) -> Any:
    """Linear warm-up, then decay to zero at `total_steps`."""
    check_warm_up(config, total_steps)
    warmup = config.warmup_steps

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = (step - warmup) / max(1, total_steps - warmup)
        by_kind = {"linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2, "constant": 1.0}
        return max(0.0, by_kind[config.decay])

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float | None, *, by_value: bool) -> Tensor:
    """Clip gradients to a norm, or each value, and return the norm that they had before (scalar). Nothing is clipped
    without a limit, or with 0.
    """
    parameters = list(parameters)
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if limit and by_value:
        nn.utils.clip_grad_value_(parameters, limit)
    elif limit:
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm
