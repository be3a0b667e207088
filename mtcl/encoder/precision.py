"""The precision in which this hardware multiplies fastest without loss for contrastive training."""

from __future__ import annotations

import torch


def best_precision() -> str:
    """bf16-mixed if the hardware multiplies in bf16, otherwise 32-true."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return "bf16-mixed" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "32-true"
