"""What several tests share: a tiny BERT of random weights, a small data root, a command line in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import pytest

ROOT = Path(__file__).resolve().parents[1]
WORDS = [*"abcdefghijklmnopqrstuvwxyz", "red", "green", "blue", "dog", "cat", "bird", "post", "job", "news", "query"]
INTEREST = '''
class Interest(Task):
    """A post -> its topic."""

    name = "{name}"
    data = Files("interest")
    pairs = LabelText(text="text", label="topic")
    metric = {metric}()
    sample = [{{"text": "a", "topic": "b"}}]
'''
"""The end of a file with a task on the posts of the demo corpus."""
Run = Callable[..., subprocess.CompletedProcess[str]]


def quiet_trainer(**options: Any) -> Any:
    """Lightning's Trainer with its own defaults, but on a CPU and without files and bars."""
    from lightning.pytorch import Trainer

    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(**{"accelerator": "cpu", **quiet, **options})


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a BERT of 2 layers and 32 dimensions (dropout 0.1) and a WordPiece tokenizer of some 50 words."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny_model")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(WORDS), *(f"##{c}" for c in WORDS[:26])]
    pieces += [str(n) for n in range(10)] + [f"##{n}" for n in range(10)]
    (folder / "vocab.txt").write_text("\n".join(pieces))
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(pieces), max_position_embeddings=128, **sizes)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root as `mtcl demo` writes it, of 300 posts."""
    from mtcl.demo import write_demo

    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder, posts=300, seed=0)
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for token stores, shared by the session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def mtcl_command(tmp_path: Path, cache: Path) -> Run:
    """`mtcl` in a process of its own, in `tmp_path`, with one thread."""

    def run(*arguments: str, timeout_s: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
        own = {"MTCL_CACHE": str(cache), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MTCL_")}
        return subprocess.run(
            [sys.executable, "-m", "mtcl", *arguments],
            cwd=tmp_path,
            env=inherited | own | environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    return run
