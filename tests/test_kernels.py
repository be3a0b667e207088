"""The CPU's own kernels against torch's.

python -m pytest tests/test_kernels.py
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mtcl.encoder import kernels
from mtcl.encoder.kernels import dropout, kernels_for, linear

CPU = torch.device("cpu")


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.73])
def test_dropout_meets_its_probability(probability: float) -> None:
    """Within 4 standard deviations over a million elements, alike at each of the 4 places of a word of bits."""
    zero = dropout(torch.ones(1_000_000), probability).view(-1, 4) == 0
    deviation = (probability * (1 - probability) / len(zero)) ** 0.5
    assert (zero.double().mean(dim=0) - probability).abs().max() < 4 * deviation
    both = (zero[:, 0] & zero[:, 1]).double().mean()
    assert abs(float(both) - probability**2) < 4 * deviation


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_scales_what_it_keeps_and_its_gradient(dtype: torch.dtype) -> None:
    values = torch.rand(7, 11, dtype=dtype).add(1).requires_grad_()
    found = dropout(values, 0.25)
    found.sum().backward()
    kept = found != 0
    assert kept.any()
    assert not kept.all()
    torch.testing.assert_close(
        found[kept], (values / 0.75)[kept], rtol=1e-2 if dtype == torch.bfloat16 else 1e-6, atol=0
    )
    assert values.grad is not None
    assert torch.equal(values.grad != 0, kept)


def test_dropout_is_replayed_from_a_seed_and_under_checkpoint() -> None:
    values = torch.rand(50, 30)
    torch.manual_seed(3)
    first, second = dropout(values, 0.1), dropout(values, 0.1)
    torch.manual_seed(3)
    assert torch.equal(dropout(values, 0.1), first)
    assert not torch.equal(first, second)
    leaf = values.clone().requires_grad_()
    found = checkpoint(dropout, leaf, 0.1, use_reentrant=False)
    assert isinstance(found, Tensor)
    dropout(values, 0.1)  # moves the generator on between forward and backward
    found.sum().backward()
    assert leaf.grad is not None
    assert torch.equal(leaf.grad != 0, found != 0)


@pytest.mark.parametrize("shape", [(4, 9, 6), (5, 6), (6,)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_equals_torch(shape: tuple[int, ...], bias: bool) -> None:
    layer = nn.Linear(6, 10, bias=bias)
    found = []
    for function in (F.linear, linear):
        rows = torch.arange(float(torch.Size(shape).numel())).view(shape).sin().requires_grad_()
        layer.zero_grad()
        output = function(rows, layer.weight, layer.bias)
        output.square().sum().backward()
        found.append([output, rows.grad, *(p.grad.clone() for p in layer.parameters() if p.grad is not None)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_a_model_inside_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules and plain functions alike; bf16 and few rows keep torch's linear."""
    seen: list[str] = []
    monkeypatch.setattr(kernels, "dropout", lambda values, p: seen.append(f"dropout {p}") or values)
    monkeypatch.setattr(kernels, "linear", lambda rows, weight, bias: seen.append("linear") or F.linear(rows, weight))
    monkeypatch.setattr(kernels, "_onednn_is_faster", lambda: True)
    monkeypatch.setattr(kernels, "MANY", 2)
    layer, drop, rows = nn.Linear(3, 3), nn.Dropout(0.2), torch.ones(2, 3)
    with kernels_for(CPU):
        drop(layer(F.dropout(rows, p=0.3)))
        assert seen == ["dropout 0.3", "linear", "dropout 0.2"]
        layer(drop.eval()(rows[:1]))  # one row is too few for oneDNN, and evaluation has no dropout
        with torch.autocast("cpu", torch.bfloat16):
            layer(rows)
    with kernels_for(torch.device("meta")):
        layer(F.dropout(rows, p=0.3))
    assert len(seen) == 3


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("is_faster", [True, False])
def test_without_anything_to_replace_there_is_no_mode(
    is_training: bool, is_faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "_onednn_is_faster", lambda: is_faster)
    found = kernels_for(CPU, is_training=is_training)
    assert isinstance(found, kernels._CpuKernels) == (is_training or is_faster)


@pytest.mark.parametrize(("vendor", "expected"), [("GenuineIntel", False), ("AuthenticAMD", True)])
def test_an_intel_cpu_keeps_mkl(vendor: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """From what Linux says of the CPU, and elsewhere from what the platform says."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(Path, "read_text", lambda self, **_: f"vendor_id\t: {vendor}\nmodel name\t: a CPU\n")
    assert kernels._onednn_is_faster.__wrapped__() == expected

    def missing(self: Path, **_: object) -> str:
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr("platform.processor", lambda: f"Intel64 Family 6 Model 143, {vendor}")
    assert kernels._onednn_is_faster.__wrapped__() == expected


def test_attention_on_a_gpu_is_not_left_to_cudnn() -> None:
    """It plans each new shape for milliseconds. The flags are those of the process, so they must come back."""
    flags = (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.mem_efficient_sdp_enabled)
    before = torch.backends.cuda.cudnn_sdp_enabled()
    with kernels_for(torch.device("cuda"), is_compiled=True):
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert all(is_enabled() for is_enabled in flags)
        query = torch.randn(1, 1, 3, 4)
        F.scaled_dot_product_attention(query, query, query)
    assert torch.backends.cuda.cudnn_sdp_enabled() == before
