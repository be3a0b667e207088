"""A compiled backbone gives what the plain one does, for chunks of any shape.

python -m pytest tests/test_compile.py
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mtcl.arrays import Ragged, offsets_of
from mtcl.data.packing import Packed, pack
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder
from mtcl.errors import ConfigError


def texts(*lengths: int) -> Packed:
    ids = np.random.default_rng(0).integers(5, 30, sum(lengths))
    return pack(Ragged(offsets_of(np.array(lengths)), ids), tokens_per_chunk=64)


def outcome(encoder: Encoder, packed: Packed) -> tuple[Tensor, dict[str, Tensor]]:
    encoder.zero_grad()
    embeddings_TD = encoder(packed)
    embeddings_TD[:, 0].sum().backward()
    gradients = {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}
    return embeddings_TD.detach(), gradients


@pytest.mark.nightly
@pytest.mark.usefixtures("starts_processes")
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_backbone_gives_equal_vectors_and_gradients(tiny_model: Path) -> None:
    plain, compiled = (
        Encoder.load(EncoderConfig(name=str(tiny_model), dropout=0.0, compile=on)) for on in (False, True)
    )
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    for packed in (texts(5, 7, 30, 12), texts(9, 9, 3, 20, 31, 4, 6)):
        torch.testing.assert_close(outcome(compiled, packed), outcome(plain, packed), atol=1e-5, rtol=1e-4)
    tokens = Ragged(offsets_of(np.array([4, 6])), np.arange(5, 15))
    embedded = [encoder.embed(tokens, tokens_per_chunk=64) for encoder in (plain, compiled)]
    torch.testing.assert_close(*embedded, atol=1e-5, rtol=0)


def test_without_a_compiler_the_option_is_refused(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(
        ConfigError, match=r"model\.encoder\.compile needs a C\+\+ compiler, found no 'no-such-compiler'"
    ):
        Encoder.load(EncoderConfig(name=str(tiny_model), compile=True))
