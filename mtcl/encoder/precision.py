"""Precisions: what vectors are computed in, and the one in which this hardware trains fastest without loss."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from mtcl.errors import ConfigError

Precision = Literal["float32", "bf16"]
"""What vectors are computed in: float32, or matrix products in bf16. Weights stay in float32."""


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


def best_precision() -> str:
    """bf16-mixed if the hardware multiplies in bf16, otherwise 32-true."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return "bf16-mixed" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "32-true"
