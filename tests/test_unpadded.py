"""Attention without padding: the vectors of attention with padding, for every architecture that it accepts.

python -m pytest tests/test_unpadded.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtcl.arrays import Ragged, offsets_of
from mtcl.data.packing import pack
from mtcl.encoder import row_attention
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import PADDING, Encoder
from mtcl.errors import ConfigError
from tests.families import PIECES, write_model

SIZES = {
    "vocab_size": 90,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 96,
    "pad_token_id": 1,
}
DISTILBERT = {"vocab_size": 90, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "pad_token_id": 1}
STARTS = {"Bert": 0, "Electra": 0, "DistilBert": 0, "Roberta": 2, "XLMRoberta": 2, "Camembert": 2}
"""Position id of the first token; RoBERTa and its kin begin behind the padding's id."""


def backbone(name: str) -> Any:
    import transformers

    sizes = DISTILBERT if name == "DistilBert" else SIZES
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**sizes)
    return getattr(transformers, f"{name}Model")._from_config(config, attn_implementation="eager")


def tokens() -> Ragged:
    lengths = np.array([3, 40, 7, 7, 1, 25, 12, 40, 2])
    return Ragged(offsets_of(lengths), np.random.default_rng(0).integers(5, 87, lengths.sum()))


def test_texts_of_one_length_need_no_padding() -> None:
    """They are moved without a copy; the vectors and gradients are those of a chunk with padding."""
    encoder = Encoder(backbone("Bert"), pooling="mean").eval()
    encoder.choose_attention("unpadded")
    lengths = np.array([6, 6, 6, 9])
    texts = Ragged(offsets_of(lengths), np.random.default_rng(0).integers(5, 87, lengths.sum()))
    found = []
    for few in (texts, texts.take(np.array([0, 1, 2]))):
        encoder.zero_grad()
        vectors = encoder(pack(few, tokens_per_chunk=1000, launch=1000))[:3]
        (vectors * torch.arange(vectors.numel()).view_as(vectors).sin()).sum().backward()
        found.append([vectors, *(p.grad.clone() for p in encoder.parameters() if p.grad is not None)])
    for with_padding, without in zip(*found, strict=True):
        torch.testing.assert_close(with_padding, without, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("lengths", [(16, 12, 12), (16, 16), (5, 5, 5), (8, 8, 3), (1,)])
def test_any_padding_and_filling_of_a_chunk(lengths: tuple[int, ...]) -> None:
    """Also a chunk that has as many places with padding as its row has when filled up."""
    texts = Ragged(offsets_of(np.array(lengths)), np.random.default_rng(0).integers(5, 87, sum(lengths)))
    found = []
    for attention in ("eager", "unpadded"):
        encoder = Encoder(backbone("Bert")).eval()
        encoder.choose_attention(attention)
        vectors_TD = encoder(pack(texts, tokens_per_chunk=1000, launch=1000))
        vectors_TD[:, :4].sum().backward()
        found.append([vectors_TD, *(p.grad for p in encoder.parameters() if p.grad is not None)])
    for padded, without in zip(*found, strict=True):
        torch.testing.assert_close(without, padded, atol=1e-5 * float(padded.detach().abs().max() + 1), rtol=1e-4)


def test_decoders_equal_those_with_padding(tmp_path: Path) -> None:
    """Causal, with fewer key heads than query heads, and with windows shorter than the texts."""
    lengths = np.array([3, 40, 7, 7, 1, 25, 12, 40, 2])
    texts = Ragged(offsets_of(lengths), np.random.default_rng(0).integers(5, len(PIECES), lengths.sum()))
    for name in ("qwen3", "llama", "mistral", "gemma3"):
        folder, found = write_model(tmp_path / name, name), []
        for attention in ("eager", "unpadded"):
            encoder = Encoder.load(EncoderConfig(name=str(folder), attention=attention, pooling="last")).eval()
            embeddings_TD = encoder(pack(texts, tokens_per_chunk=64))
            with torch.no_grad():  # fused attention
                fused_TD = encoder(pack(texts, tokens_per_chunk=64))
            torch.testing.assert_close(fused_TD, embeddings_TD.detach(), atol=1e-6, rtol=1e-5)
            embeddings_TD[:, :4].sum().backward()
            gradients = [p.grad for p in encoder.parameters() if p.grad is not None]
            found.append((embeddings_TD.detach(), torch.cat([gradient.flatten() for gradient in gradients])))
        torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", STARTS)
def test_vectors_and_gradients_equal_those_with_padding(name: str) -> None:
    found = []
    for attention in ("eager", "unpadded"):
        encoder = Encoder(backbone(name)).eval()
        encoder.choose_attention(attention)
        embeddings_TD = encoder(pack(tokens(), tokens_per_chunk=64))
        with torch.no_grad():  # fused attention
            fused_TD = encoder(pack(tokens(), tokens_per_chunk=64))
        torch.testing.assert_close(fused_TD, embeddings_TD.detach(), atol=1e-6, rtol=1e-5)
        embeddings_TD[:, :4].sum().backward()
        found.append([embeddings_TD, *(p.grad for p in encoder.parameters() if p.grad is not None)])
    assert encoder.first_position == STARTS[name]
    assert len(found[0]) == len(found[1]) > 10
    for padded, without in zip(*found, strict=True):
        torch.testing.assert_close(without, padded, atol=1e-5 * float(padded.detach().abs().max() + 1), rtol=1e-4)


@pytest.mark.parametrize("name", STARTS)
def test_a_padding_token_in_a_text(name: str) -> None:
    """`<pad>` in a text is a token, which RoBERTa does not count as a position."""
    given = tokens()
    given.values[np.random.default_rng(1).random(len(given.values)) < 0.2] = SIZES["pad_token_id"]
    found = []
    for attention in ("eager", "unpadded"):
        encoder = Encoder(backbone(name)).eval()
        encoder.choose_attention(attention)
        found.append(encoder.embed(given, tokens_per_chunk=64))
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["ModernBert", "MPNet"])
def test_an_architecture_that_asks_more_of_attention_keeps_padding(name: str) -> None:
    """Windows and position biases: auto goes on with padding, unpadded is refused."""
    encoder = Encoder(backbone(name))
    expected = encoder.eval()(pack(tokens(), tokens_per_chunk=64))
    encoder.choose_attention("auto")
    assert encoder.first_position is None
    torch.testing.assert_close(encoder(pack(tokens(), tokens_per_chunk=64)), expected)
    with pytest.raises(ConfigError, match=rf"attention is 'unpadded', which {name}Model does not support"):
        encoder.choose_attention("unpadded")


def test_auto_keeps_padding_on_a_gpu_without_flash_attention(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Encoder.load(EncoderConfig(name=str(tiny_model))).first_position == 0
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("mtcl.encoder.encoder.has_varlen", lambda: False)
    encoder = Encoder.load(EncoderConfig(name=str(tiny_model)))
    assert encoder.first_position is None
    assert encoder.backbone.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, 2)])
def test_flash_attention_gets_ends_of_texts(causal: bool, window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its kernel is called with, against a stand-in that attends text by text; the kernel needs a GPU."""

    def stand_in(q: Tensor, k: Tensor, v: Tensor, ends_q: Tensor, ends_k: Tensor, *others: Any, **given: Any) -> Any:
        assert ends_q.dtype == torch.int32
        assert torch.equal(ends_q, ends_k)
        assert others == (16, 16, 0.0, causal, False)
        sizes = (None, None) if window is None else (1, 0)
        assert given == {"scale": 0.5, "window_size_left": sizes[0], "window_size_right": sizes[1]}
        bounds = zip(ends_q[:-1].tolist(), ends_q[1:].tolist(), strict=True)
        return (torch.cat([attended(q[a:b], k[a:b], v[a:b], 0.5, causal, window) for a, b in bounds]),)

    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", stand_in)
    mask_nL = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    rows = torch.randn(3, 16, 2, 8, generator=torch.Generator().manual_seed(0))
    seen = {"scaling": 0.5, "dropout": 0.0, "causal": causal, "window": window}
    ends_m = row_attention.ends_of(mask_nL, 16)
    assert ends_m.tolist() == [0, 4, 6, 16]
    found = row_attention.varlen(*rows, ends_m=ends_m, longest=4, **seen)[:6]
    places = mask_nL.flatten().nonzero()[:, 0]
    bias_nLL = row_attention.bias_of(mask_nL, torch.float32, causal=causal, window=window)
    expected = row_attention.padded(*rows, places_S=places, bias_nLL=bias_nLL, scaling=0.5, dropout=0.0)[:6]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "roberta", "qwen3", "mistral"])
def test_what_a_row_gives_flash_attention(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole encoder with attention text by text in place of the kernel, against attention with padding."""

    def stand_in(q: Tensor, k: Tensor, v: Tensor, *, ends_m: Tensor, longest: int, scaling: float, **seen: Any) -> Any:
        assert seen.pop("dropout") == 0
        assert longest == 40
        bounds = zip(ends_m[:-1].tolist(), ends_m[1:].tolist(), strict=True)
        return torch.cat([attended(q[a:b], k[a:b], v[a:b], scaling, **seen) for a, b in bounds])

    folder, found = write_model(tmp_path / family, family), []
    monkeypatch.setattr("mtcl.encoder.unpadded.varlen", stand_in)
    for attention in ("eager", "unpadded"):
        encoder = Encoder.load(EncoderConfig(name=str(folder), attention=attention)).eval()
        if attention == "unpadded":
            monkeypatch.setattr("mtcl.encoder.unpadded.half_type", lambda _: torch.float32)
        texts = pack(few_pieces(), tokens_per_chunk=10_000, padding=encoder.cost_of_padding, launch=10_000)
        vectors_TD = encoder(texts)
        vectors_TD[:, :4].sum().backward()
        found.append([vectors_TD.detach(), *(p.grad for p in encoder.parameters() if p.grad is not None)])
        assert len(texts.chunks) == 1
    assert encoder.cost_of_padding == PADDING
    for padded, without in zip(*found, strict=True):
        torch.testing.assert_close(without, padded, atol=1e-5 * float(padded.abs().max() + 1), rtol=1e-4)


def few_pieces() -> Ragged:
    lengths = np.array([3, 40, 7, 7, 1, 25, 12, 40, 2])
    return Ragged(offsets_of(lengths), np.random.default_rng(0).integers(5, len(PIECES), lengths.sum()))


def attended(
    q_Lhd: Tensor, k_Lgd: Tensor, v_Lgd: Tensor, scaling: float, causal: bool = False, window: int | None = None
) -> Tensor:
    """A text alone: (L, h, d)."""
    k_Lhd, v_Lhd = (x.repeat_interleave(q_Lhd.shape[1] // x.shape[1], dim=1) for x in (k_Lgd, v_Lgd))
    scores_hLL = scaling * torch.einsum("lhd,mhd->hlm", q_Lhd, k_Lhd)
    ones_LL = torch.ones(scores_hLL.shape[1:])
    seen_LL = ones_LL.tril() - (0 if window is None else ones_LL.tril(-window)) if causal else ones_LL
    shares = torch.softmax(scores_hLL.masked_fill(seen_LL == 0, float("-inf")), dim=-1)
    return torch.einsum("hlm,mhd->lhd", shares, v_Lhd)


def test_pooled_states_before_the_projection_are_of_the_same_run(tiny_model: Path) -> None:
    """What a PCA starts from: the backbone alone, in the way that its encoder runs it."""
    encoder = Encoder.load(EncoderConfig(name=str(tiny_model), dim=8)).eval()
    alone = Encoder.load(EncoderConfig(name=str(tiny_model), attention="eager")).eval()
    found = encoder.without_projection().embed(tokens(), tokens_per_chunk=64)
    torch.testing.assert_close(found, alone.embed(tokens(), tokens_per_chunk=64), atol=1e-5, rtol=0)
