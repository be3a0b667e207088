"""mteb's own runner on a task over local rows, against the same figure by scikit-learn's and scipy's definitions.

python -m pytest tests/test_mteb.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr

from tests.conftest import WORDS, Run

mteb = pytest.importorskip("mteb", reason="the extra `mteb` is not installed")

PAIRS = [
    (f"{a} {b}", f"{b} {c}", float(i % 6)) for i, (a, b, c) in enumerate(zip(WORDS, WORDS[1:], WORDS[2:], strict=False))
]


def local_task() -> Any:
    import datasets
    from mteb.abstasks.sts import AbsTaskSTS

    class LocalSTS(AbsTaskSTS):  # type: ignore[misc]
        min_score, max_score = 0, 5
        metadata = mteb.TaskMetadata(
            name="LocalSTS",
            dataset={"path": "local", "revision": "1"},
            description="Pairs of words.",
            type="STS",
            category="t2t",
            eval_langs=["eng-Latn"],
            main_score="cosine_spearman",
        )

        def load_data(self, **options: Any) -> None:
            one, two, score = zip(*PAIRS, strict=True)
            rows = datasets.Dataset.from_dict({"sentence1": one, "sentence2": two, "score": score})
            self.dataset = datasets.DatasetDict(test=rows)
            self.data_loaded = True

    return LocalSTS()


def test_mteb_runs_a_checkpoint(tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run) -> None:
    from mteb.models.models_protocols import EncoderProtocol

    from mtcl.deploy.mteb import MtebEncoder

    options = {"trainer.max_steps": 1, "data.batch_size": 4, "model.encoder.name": tiny_model, "model.encoder.dim": 8}
    flags = [x for key, value in options.items() for x in (f"--{key}", str(value))]
    fitted = mtcl_command(
        "fit", "--run_dir", "run", "--data.root", str(demo_root), "--tasks.search.weight", "1", *flags
    )
    assert fitted.returncode == 0, fitted.stderr
    encoder = MtebEncoder.load(tmp_path / "run", device="cpu")
    assert isinstance(encoder, EncoderProtocol)
    result = mteb.evaluate(encoder, local_task(), cache=None, co2_tracker=False, show_progress_bar=False)
    assert result.model_name == "mtcl/run"
    other = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    other["state_dict"]["encoder.projection.weight"] += 1
    (tmp_path / "other" / "run" / "checkpoints").mkdir(parents=True)
    torch.save(other, tmp_path / "other" / "run" / "checkpoints" / "best.ckpt")
    metas = [
        MtebEncoder.load(tmp_path / run, device="cpu").mteb_model_meta for run in ("run", "run/../run", "other/run")
    ]
    assert [meta.name for meta in metas] == ["mtcl/run"] * 3
    assert metas[0].revision == metas[1].revision != metas[2].revision, "stored results are taken by name and revision"
    one, two, score = (list(column) for column in zip(*PAIRS, strict=True))
    cosine = (encoder.model(one) * encoder.model(two)).sum(dim=1)
    assert encoder.model(one).shape[1] == 8
    assert result.task_results[0].get_score() == pytest.approx(spearmanr(cosine, score).statistic, abs=1e-6)


def test_mteb_gets_the_prompts(tiny_model: Path) -> None:
    from mteb.types import PromptType

    from mtcl.deploy.mteb import MtebEncoder
    from mtcl.encoder.text_encoder import TextEncoder

    encoder = TextEncoder.base({"name": str(tiny_model)}, prompt={"query": "red ", "document": "blue "})
    wrapped, batches = MtebEncoder(encoder), [{"text": ["dog"]}, {"text": ["cat"]}]
    for prompt_type, words in ((PromptType.query, "red "), (PromptType.document, "blue "), (None, "red ")):
        found = wrapped.encode(batches, prompt_type=prompt_type)
        assert torch.equal(torch.from_numpy(found), encoder([f"{words}dog", f"{words}cat"]))
