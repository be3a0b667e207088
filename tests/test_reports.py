"""The page about reports from other tools: its tests exist, and situations that no other file tests.

python -m pytest tests/test_reports.py
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest

from mtcl import MtclDataModule, TextEncoder
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "reports.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "https://" in line]


def test_the_tests_that_the_page_names_exist() -> None:
    for row in ROWS:
        named = re.findall(r"`(test_\w+)::(test_\w+)`", row)
        assert named, row
        for file, name in named:
            text = (ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8")
            assert f"\ndef {name}(" in text, f"{file}::{name}"


def test_the_page_counts_its_reports() -> None:
    threads = set(re.findall(r"https://github\.com/[\w.-]+/[\w.-]+/(?:issues|pull)/\d+", PAGE))
    assert f"lists {len(ROWS)} kinds of them, from {len(threads)} public\nthreads" in PAGE


@pytest.mark.parametrize("pooling", ["cls", "last", "mean", "weighted_mean"])
def test_the_side_on_which_a_tokenizer_pads_has_no_effect(pooling: str, tiny_model: Path, tmp_path: Path) -> None:
    found = []
    for side in ("right", "left"):
        folder = shutil.copytree(tiny_model, tmp_path / side)
        settings = folder / "tokenizer_config.json"
        settings.write_text(json.dumps({**json.loads(settings.read_text()), "padding_side": side}))
        for attention in ("unpadded", "eager"):
            options = {"name": str(folder), "pooling": pooling, "attention": attention}
            encoder = TextEncoder.base(options, device="cpu")
            texts = ["dog", "red cat on a green job", "a b"]
            found.append(encoder.encode(texts, output="numpy"))
            found.append(np.stack([encoder.encode(text, output="numpy") for text in texts]))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-5)


@pytest.mark.parametrize(("interval", "late"), [(3, 2), (5, 0), (1, 0), (0.4, 1), (1.0, 0)])
def test_steps_after_the_last_validation_are_told(
    interval: float,
    late: int,
    demo_root: Path,
    tiny_model: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("mtcl"), "propagate", True)
    data = MtclDataModule(tasks={"search": {}}, root=demo_root, encoder={"name": str(tiny_model)}, num_workers=0)
    data.trainer = pl.Trainer(val_check_interval=interval, max_steps=5, accelerator="cpu", logger=False)
    data.train_dataloader()
    told = f"the last {late} of 5 batches come after the last validation"
    assert (told in caplog.text) if late else ("batches come after" not in caplog.text)
