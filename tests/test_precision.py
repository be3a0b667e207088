"""Weights of linear layers that are cast to bf16 once give the same vectors as autocast.

python -m pytest tests/test_precision.py
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from mtcl.encoder.precision import computing_in, in_half
from mtcl.encoder.text_encoder import TextEncoder
from tests.families import FAMILIES, write_model

TEXTS = ["red dog", "a bird for the post", "job", "news " * 40, "green cat query"]


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_equal_those_of_autocast(family: str, tmp_path: Path) -> None:
    encoder = TextEncoder.base({"name": str(write_model(tmp_path, family)), "dim": 8}, max_length=32, device="cpu")
    halved, before = replace(encoder, precision="bf16"), encoder.fingerprint()
    tokens = encoder.tokenizer(TEXTS, 32)
    with computing_in("bf16", torch.device("cpu")):
        by_autocast = encoder.model.embed(tokens, tokens_per_chunk=encoder.tokens_per_chunk)
    assert torch.equal(halved.embed(tokens), by_autocast)
    assert encoder.fingerprint() == halved.fingerprint() == before
    assert not torch.equal(encoder.embed(tokens), by_autocast), "else it was float32"


def test_only_linear_layers_are_copied() -> None:
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2, bias=False))
    copied = in_half(model)
    assert [p.dtype for p in model.parameters()] == [torch.float32] * 6
    assert [p.dtype for p in copied[1].parameters()] == [torch.bfloat16] * 2
    assert copied[3].weight.dtype == torch.bfloat16
    for number in (0, 2):
        for own, other in zip(model[number].parameters(), copied[number].parameters(), strict=True):
            assert own is other
