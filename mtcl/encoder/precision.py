"""Precisions: what vectors are computed in, and the one in which this hardware trains fastest without loss."""

from __future__ import annotations

from copy import deepcopy
from typing import Literal, TypeVar, get_args

import torch
from torch import nn

from mtcl.errors import ConfigError

AnyModule = TypeVar("AnyModule", bound=nn.Module)
Precision = Literal["float32", "bf16"]
"""What vectors are computed in: float32, or matrix products in bf16. Other operations stay in float32."""


def check_precision(precision: str) -> None:
    """Raise `ConfigError` for another precision."""
    if precision not in get_args(Precision):
        raise ConfigError(f"precision is {precision!r}: give {' or '.join(get_args(Precision))}")


def precision_of(trainer: str) -> Precision:
    """The precision of vectors that is a Trainer's: bf16-mixed or 32-true."""
    return "bf16" if trainer == "bf16-mixed" else "float32"


def computing_in(precision: Precision, device: torch.device) -> torch.autocast:
    """The context in which a forward pass on `device` has this precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def in_half(model: AnyModule) -> AnyModule:
    """A copy for `computing_in("bf16", ...)` whose linear layers have their weights in bf16; it shares all others.

    Without gradients, autocast would cast these weights again in every forward pass, which takes a third of the time of
    a single text (docs/log.md). The vectors are equal.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    copied = deepcopy(model, shared)
    for module in copied.modules():
        if type(module) is nn.Linear:
            for name, tensor in module.named_parameters():
                setattr(module, name, nn.Parameter(tensor.detach().bfloat16(), requires_grad=False))
    return copied


def best_precision() -> str:
    """bf16-mixed if the hardware multiplies in bf16, otherwise 32-true."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return "bf16-mixed" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "32-true"
