"""`MtclModule.save_pretrained`, and what a run leaves: `best.ckpt` without the state of its optimizer.

python -m pytest tests/test_export_module.py
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mtcl import ConfigError, MtclDataModule, MtclModule, TextEncoder
from tests.conftest import Run, quiet_trainer

TEXTS = ["red green blue", "a dog for the cat"]


@pytest.fixture
def data(demo_root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> MtclDataModule:
    monkeypatch.setenv("MTCL_CACHE", str(cache))
    return MtclDataModule(
        root=str(demo_root), tasks={"search": {}, "interest": {"head": 4}}, batch_size=8, max_length=24, num_workers=0
    )


@pytest.mark.parametrize("tuning", [{}, {"train": "lora"}])
def test_a_module_exports_what_it_has_learned(
    tuning: dict[str, str], data: MtclDataModule, tiny_model: Path, tmp_path: Path
) -> None:
    if tuning:
        pytest.importorskip("peft", reason="needs the extra `lora`")
    module = MtclModule(encoder={"name": str(tiny_model), "dim": 16, **tuning}, optimizer={"lr": 1e-2})
    trainer = quiet_trainer(max_steps=3)
    trainer.fit(module, data)
    module.save_pretrained(tmp_path / "model")
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    exported, saved = (TextEncoder.load(tmp_path / name, device="cpu") for name in ("model", "last.ckpt"))
    assert exported.fingerprint() == saved.fingerprint()
    for task in (None, "interest"):
        wanted = saved.encode(TEXTS, task=task)
        torch.testing.assert_close(exported.encode(TEXTS, task=task), wanted, rtol=0, atol=1e-6)
    tokens = module.data.stores.tokenizer(TEXTS, 24)
    torch.testing.assert_close(
        exported.encode(TEXTS), module.encoder.embed(tokens, tokens_per_chunk=512), rtol=0, atol=1e-5
    )
    assert exported.facts.tasks["search"].num_pairs
    assert exported.facts.step == 3


def test_a_module_without_a_run_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    module = MtclModule(encoder={"name": str(tiny_model)})
    with pytest.raises(ConfigError, match=r"the module has no run: fit it first, or give TextEncoder\.load"):
        module.save_pretrained(tmp_path / "model")


def test_the_best_checkpoint_has_no_optimizer_state(trained_run: Path, mtcl_command: Run) -> None:
    best, last = (trained_run / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))
    kept, whole = (torch.load(path, weights_only=True) for path in (best, last))
    assert set(kept) == {"epoch", "global_step", "pytorch-lightning_version", "state_dict", "mtcl"}
    assert {"optimizer_states", "lr_schedulers", "callbacks", "loops", "MtclDataModule"} <= set(whole)
    assert best.stat().st_size < 0.6 * last.stat().st_size
    assert "config" in kept["mtcl"]
    refused = mtcl_command("fit", "--resume", str(best))
    assert refused.returncode == 2
    line = refused.stderr.strip().splitlines()[-1]
    assert "has weights only, not the state of a run: give --resume with the run's folder" in line
