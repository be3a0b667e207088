"""Faster kernels for any model that runs inside `kernels_for(device)`.

On a GPU, attention is not left to cuDNN. It makes a plan for each new shape, and nearly every chunk of texts has a new
shape: 14 ms per layer of the forward pass and 20 ms per layer of the backward pass on an H100, many times the
computation itself (docs/performance.md). PyTorch's other kernels need no plan.

On a CPU, dropout is replaced. torch takes 4 to 9 ns per element to draw a Bernoulli number; here an element takes 16
random bits of the same generator, 0.7 to 2 ns. On AMD's CPUs with AVX-512, linear layers of many rows in float32 are
replaced too: torch's matrix products use MKL, which runs there at half the speed of oneDNN, and a 1x1 convolution is
the public way to reach oneDNN. A `TorchFunctionMode` replaces both, so attention's dropout inside a model's own code is
covered too. Figures: docs/performance.md.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

LEVELS = 1 << 16
"""Dropout's probability is rounded to a multiple of 1 / 65,536; the scale uses the rounded value, so the expectation is
exact.
"""
IMAGES = 16
"""With more images, of one row each, oneDNN runs at a third of the speed."""
MANY = 256
"""Rows from which a convolution pays. oneDNN first copies the layer's weights into its own layout, at every call, which
takes as long as the products of some 150 rows.
"""

WITHOUT_PLANS = (
    (SDPBackend.FLASH_ATTENTION, torch.backends.cuda.flash_sdp_enabled),
    (SDPBackend.EFFICIENT_ATTENTION, torch.backends.cuda.mem_efficient_sdp_enabled),
    (SDPBackend.MATH, torch.backends.cuda.math_sdp_enabled),
)
"""PyTorch's kernels of `scaled_dot_product_attention`, without cuDNN's, and whether each may be used."""


def kernels_for(
    device: torch.device, *, is_training: bool = True, is_compiled: bool = False
) -> AbstractContextManager[object]:
    """The context in which a model on `device` runs. A compiled model keeps its own dropout and linear layers.

    Where nothing would be replaced, there is no mode: it costs a call in Python for each operation.
    """
    if device.type == "cuda":
        allowed = [kernel for kernel, is_enabled in WITHOUT_PLANS if is_enabled()]  # type: ignore[no-untyped-call]
        chosen: AbstractContextManager[object] = sdpa_kernel(allowed) if allowed else nullcontext()
        return chosen
    replaces = device.type == "cpu" and not is_compiled and (is_training or _onednn_is_faster())
    return _CpuKernels() if replaces else nullcontext()


class _CpuKernels(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return KERNELS.get(func, func)(*args, **(kwargs or {}))


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:  # noqa: A002
    if not training or p == 0 or inplace:
        return F.dropout(input, p, training, inplace)
    return dropout(input, p)


def dropout(values: Tensor, probability: float) -> Tensor:
    """Sets each of `values` to zero with `probability` and scales the others to keep the expectation; random bits are
    from torch's generator.
    """
    dropped = min(round(probability * LEVELS), LEVELS - 1)
    words = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
    bits = words.view(torch.int16)[: values.numel()].view(values.shape)
    scale = torch.empty_like(values, memory_format=torch.contiguous_format, requires_grad=False)
    torch.ge(bits, dropped - LEVELS // 2, out=scale)
    return values * scale.mul_(LEVELS / (LEVELS - dropped))


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:  # noqa: A002
    in_float32 = input.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if in_float32 and input.shape[:-1].numel() >= MANY and _onednn_is_faster():
        return linear(input, weight, bias)
    return F.linear(input, weight, bias)


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` of at least one row as a 1x1 convolution over channels-last rows, without a copy.

    Rows are divided into 16 images, or into as many as there are texts or tokens: with one thread, torch does not use
    oneDNN for fewer.
    """
    images = IMAGES if rows.shape[:-1].numel() % IMAGES == 0 else max(rows.shape[:-1], default=1)
    pixels_IH1R = rows.reshape(images, 1, -1, rows.shape[-1]).permute(0, 3, 1, 2)
    found: Tensor = F.conv2d(pixels_IH1R, weight[:, :, None, None], bias)
    return found.permute(0, 2, 3, 1).reshape(*rows.shape[:-1], -1)


@cache
def _onednn_is_faster() -> bool:
    """Measured: oneDNN is twice as fast as MKL on AMD's CPUs with AVX-512. On those with AVX2 and on Intel's, MKL is as
    fast, and with few rows four to six times as fast.
    """
    onednn: Any = torch.backends.mkldnn
    has_avx512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return bool(onednn.is_available()) and has_avx512 and not _is_intel()


def _is_intel() -> bool:
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # Windows names the vendor here, macOS names only the architecture
        return "GenuineIntel" in platform.processor()


KERNELS: dict[Callable[..., Any], Callable[..., Any]] = {F.dropout: _dropout, F.linear: _linear}
