"""A run names its base encoder; a folder of the same name elsewhere, or with other files, is not taken for it.

The checkpoint has all weights, so another tokenizer or pooling would give wrong vectors without an error.

python -m pytest tests/test_base_name.py
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mtcl import ConfigError, TextEncoder
from mtcl.encoder.checkpoint import SavedRun
from tests.conftest import Run, command_in

POOLING = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


@pytest.fixture(scope="module")
def run(tiny_model: Path, demo_root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose base encoder is the folder `base` of the working folder."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copytree(tiny_model, folder / "base")
    done = command_in(folder, cache)(
        *("fit", "--model.encoder.name", "base", "--data.root", str(demo_root), "--data.batch_size", "8"),
        *("--data.num_workers", "0", "--tasks.search.weight", "1", "--trainer.max_steps", "1", "--run_dir", "run"),
        *("--board", "null", "--trainer.enable_progress_bar", "false"),
    )
    assert done.returncode == 0, done.stderr
    return folder / "run"


def other_words(folder: Path) -> None:
    """The same words with other numbers."""
    content = json.loads((folder / "tokenizer.json").read_text())
    words = sorted(content["model"]["vocab"], key=content["model"]["vocab"].get)
    words = [*words[:5], *reversed(words[5:])]
    content["model"]["vocab"] = {word: number for number, word in enumerate(words)}
    (folder / "tokenizer.json").write_text(json.dumps(content))


def other_pooling(folder: Path) -> None:
    (folder / "modules.json").write_text(json.dumps(POOLING))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')


def other_weights(folder: Path) -> None:
    import torch
    from transformers import BertModel

    model = BertModel.from_pretrained(folder, add_pooling_layer=False)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight += 0.1
    model.save_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (other_words, "another tokenizer than the model 'base'"),
        (other_pooling, "mean pooling, not cls as in the model"),
    ],
)
def test_another_model_of_the_same_name_is_refused(
    change: object, told: str, run: Path, tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run
) -> None:
    shutil.copytree(tiny_model, tmp_path / "base")
    (tmp_path / "a.txt").write_text("dog\n")
    of_task = ("--data.root", str(demo_root), "--data.num_workers", "0")
    commands = (
        ("embed", str(run), "a.txt", "--out", "vectors", "--tokenize", "here"),
        ("export", str(run), "model"),
        ("test", "--ckpt", str(run), "--no_base", *of_task),
    )
    for command in commands:  # of the same files elsewhere
        done = mtcl_command(*command)
        assert done.returncode == 0, done.stderr
    for name in ("vectors", "model"):
        shutil.rmtree(tmp_path / name)
    assert callable(change)
    change(tmp_path / "base")
    for command in commands:
        done = mtcl_command(*command)
        assert done.returncode == 2
        assert told in done.stderr
        assert "restore its files" in done.stderr


def test_vectors_are_searched_with_their_own_tokenizer(
    run: Path, tiny_model: Path, tmp_path: Path, mtcl_command: Run
) -> None:
    """An exported model has no checkpoint to compare with, but the folder of vectors knows its tokens."""
    shutil.copytree(tiny_model, tmp_path / "base")
    (tmp_path / "a.txt").write_text("dog\n")
    assert mtcl_command("export", str(run), "model").returncode == 0
    assert mtcl_command("embed", "model", "a.txt", "--out", "vectors", "--tokenize", "here").returncode == 0
    done = mtcl_command("search", "vectors", "dog")
    assert done.returncode == 0, done.stderr
    other_words(tmp_path / "model")
    done = mtcl_command("search", "vectors", "dog")
    assert done.returncode == 2
    assert "the encoder's tokenizer is not the one that vectors was embedded with" in done.stderr


def test_a_merge_with_another_base_is_refused(run: Path, tiny_model: Path, tmp_path: Path, mtcl_command: Run) -> None:
    shutil.copytree(tiny_model, tmp_path / "base")
    done = mtcl_command("merge", str(run), "base", "--out", "merged.ckpt")
    assert done.returncode == 0, done.stderr
    assert SavedRun.read(tmp_path / "merged.ckpt").record.tokenizer == SavedRun.read(run).record.tokenizer
    other_weights(tmp_path / "base")
    done = mtcl_command("merge", str(run), "base", "--out", "other.ckpt")
    assert done.returncode == 2
    assert "the model 'base' has other weights than those that" in done.stderr


def test_files_that_say_the_same_in_another_way_are_accepted(
    run: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts are tokens, not the files: a tokenizer that is saved again has others."""
    shutil.copytree(tiny_model, tmp_path / "base")
    file = tmp_path / "base" / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()), indent=7))
    monkeypatch.chdir(tmp_path)
    vector = TextEncoder.load(run, device="cpu").encode("dog")
    other_words(tmp_path / "base")
    with pytest.raises(ConfigError, match="another tokenizer"):
        TextEncoder.load(run, device="cpu")
    assert len(vector) == 32
