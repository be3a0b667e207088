"""What only a GPU can show; skipped without one.

python -m pytest tests/test_gpu.py
"""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor

from mtcl.arrays import Ragged, offsets_of
from mtcl.data.packing import pack
from mtcl.encoder import row_attention
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import PADDING, Encoder
from tests.families import PIECES, write_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
LENGTHS = np.array([3, 40, 7, 7, 1, 25, 12, 40, 2, 61])


def texts(num: int = 1) -> Ragged:
    lengths = np.tile(LENGTHS, num)
    return Ragged(offsets_of(lengths), np.random.default_rng(0).integers(5, len(PIECES), lengths.sum()))


@pytest.mark.parametrize("causal_window", [(False, None), (True, None), (True, 9)])
@pytest.mark.parametrize("groups", [1, 2])
def test_flash_attention_of_texts_in_a_row(causal_window: tuple[bool, int | None], groups: int) -> None:
    """Values and gradients in bf16, against attention of each text in float32."""
    causal, window = causal_window
    assert row_attention.has_varlen()
    mask_nL = (torch.arange(LENGTHS.max()) < torch.from_numpy(LENGTHS)[:, None]).long().cuda()
    num_tokens, num_filled = int(LENGTHS.sum()), -(-int(LENGTHS.sum()) // 16) * 16
    heads = (4, 4 // groups, 4 // groups)
    exact = [torch.randn(num_filled, h, 32, device="cuda", requires_grad=True) for h in heads]
    halves = [row.detach().bfloat16().requires_grad_() for row in exact]
    seen = {"scaling": 0.2, "dropout": 0.0, "causal": causal, "window": window}
    found = row_attention.varlen(*halves, ends_m=row_attention.ends_of(mask_nL, num_filled), longest=61, **seen)[
        :num_tokens
    ]
    rows = [row[:num_tokens].repeat_interleave(4 // row.shape[1], dim=1) for row in exact]
    expected = torch.cat([_attended(*text, causal=causal, window=window) for text in _by_text(rows)])
    weights = torch.randn_like(expected)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for half, one in [(found, expected), *((a.grad, b.grad) for a, b in zip(halves, exact, strict=True))]:
        assert float((half.float() - one).norm() / one.norm()) < 1e-2


def _by_text(rows: list[Tensor]) -> list[tuple[Tensor, ...]]:
    return list(zip(*(row.split(LENGTHS.tolist()) for row in rows), strict=True))


def _attended(q_Lhd: Tensor, k_Lhd: Tensor, v_Lhd: Tensor, *, causal: bool, window: int | None) -> Tensor:
    bias = row_attention.bias_of(torch.ones(1, len(q_Lhd), device="cuda"), torch.float32, causal=causal, window=window)
    scores_hLL = 0.2 * torch.einsum("lhd,mhd->hlm", q_Lhd, k_Lhd) + bias
    return torch.einsum("hlm,mhd->lhd", scores_hLL.softmax(dim=-1), v_Lhd)


def test_dropout_of_flash_attention_is_drawn_by_the_seed() -> None:
    ends_m = torch.tensor([0, 1024, 1024], dtype=torch.int32, device="cuda")
    query, key = torch.zeros(2, 1024, 2, 32, device="cuda", dtype=torch.bfloat16)
    value = torch.ones_like(query)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(row_attention.varlen(query, key, value, ends_m=ends_m, longest=1024, scaling=1.0, dropout=0.25))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert abs(float(found[0].float().mean()) - 1) < 0.01


@pytest.mark.parametrize("family", ["bert", "roberta", "qwen3", "llama", "mistral"])
def test_vectors_and_gradients_are_those_with_padding(family: str, tmp_path: Path) -> None:
    """Unpadded is the default in bf16; sdpa in float32 is what it is compared with."""
    folder, found = write_model(tmp_path / family, family), []
    for attention, half in (("sdpa", False), ("auto", True)):
        encoder = Encoder.load(EncoderConfig(name=str(folder), attention=attention, dropout=0.0)).cuda()
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            padding = encoder.cost_of_padding
            vectors_TD = encoder(pack(texts(), tokens_per_chunk=128, padding=padding).to("cuda"))
        assert padding == (PADDING if half else 1)
        vectors_TD[:, :4].sum().backward()
        gradients = [p.grad.flatten() for p in encoder.parameters() if p.grad is not None]
        found.append((vectors_TD.detach(), torch.cat(gradients)))
    for exact, half_one in zip(*found, strict=True):
        assert float((half_one - exact).norm() / exact.norm()) < 3e-2


def test_embedding_equals_that_of_a_cpu(tmp_path: Path) -> None:
    encoder = Encoder.load(EncoderConfig(name=str(write_model(tmp_path / "bert", "bert")))).eval()
    expected = encoder.embed(texts(20), tokens_per_chunk=512)
    found = encoder.cuda().embed(texts(20), tokens_per_chunk=512)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    with torch.autocast("cuda", torch.bfloat16):
        torch.testing.assert_close(encoder.embed(texts(20), tokens_per_chunk=512), expected, atol=3e-2, rtol=0)


def test_a_run_on_a_gpu_packs_its_steps_in_few_chunks(tmp_path: Path) -> None:
    """The module is on the GPU, in the run's precision, when the loader asks what padding costs."""
    from tests.benchmarks import systems, workload
    from tests.benchmarks.encoders import encoder_of

    folder = tmp_path / "texts"
    encoder = encoder_of(tmp_path, "tiny")
    workload.write(folder, pairs=64, vocabulary=workload.vocabulary_of(Path(encoder)))
    setting = systems.Setting(
        **{"folder": str(folder), "root": str(folder / "data"), "tasks_dir": str(folder / "tasks")},
        **{"tasks": workload.TASKS, "encoder": encoder, "accelerator": "gpu", "batch": 16, "max_length": 64},
    )
    seen: list[int] = []

    class Chunks(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, module: object, batch: object, number: int) -> None:
            seen.append(len(batch.texts.chunks))  # type: ignore[attr-defined]

    systems.fit(setting, Chunks())
    assert seen == [1] * setting.num_steps
