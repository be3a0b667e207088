"""Weights that are not numbers and damaged checkpoints are refused by every command that reads them, with the name.

python -m pytest tests/test_finite.py
"""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from mtcl import ConfigError, TextEncoder
from mtcl.encoder.checkpoint import SavedRun
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder
from tests.conftest import Run

WEIGHT = "encoder.backbone.encoder.layer.1.output.dense.weight"


@pytest.fixture
def diverged(trained_run: Path, tmp_path: Path) -> Path:
    """A run whose checkpoints have one NaN and one infinite value."""
    shutil.copytree(trained_run, tmp_path / "diverged")
    for path in (tmp_path / "diverged" / "checkpoints").glob("*.ckpt"):
        content = torch.load(path, weights_only=True)
        content["state_dict"][WEIGHT].view(-1)[:2] = torch.tensor([float("nan"), float("inf")])
        torch.save(content, path)
    return tmp_path / "diverged"


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "--ckpt", "diverged"],
        ["test", "--ckpt", "diverged"],
        ["merge", "diverged", "base", "--out", "merged"],
        ["export", "diverged", "model"],
        ["embed", "diverged", "texts.txt", "--out", "vectors"],
        ["serve", "diverged"],
        ["fit", "--resume", "diverged"],
        ["fit", "--init_from", "diverged", "--tasks.search.weight", "1"],
        ["mine", "search", "--ckpt", "diverged", "--out", "mined"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_commands_refuse_weights_that_are_not_numbers(
    diverged: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run, arguments: list[str]
) -> None:
    (tmp_path / "texts.txt").write_text("red dog\n")
    root = ["--data.root", str(demo_root)] if arguments[0] in ("predict", "test", "fit", "mine") else []
    before = {path for path in tmp_path.iterdir() if path.is_dir()}
    ended = mtcl_command(*arguments, *root)
    assert ended.returncode == 2
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("mtcl:")]
    name = "last" if "--resume" in arguments else "best"
    assert line == (
        f"mtcl: ConfigError: checkpoint 'diverged/checkpoints/{name}.ckpt': 2 of 2,048 values of {WEIGHT} are not "
        "finite: give one from before training diverged"
    )
    assert {path for path in tmp_path.iterdir() if path.is_dir()} == before


def test_a_model_s_folder(tiny_model: Path, trained_run: Path, tmp_path: Path) -> None:
    """An exported one, its heads included, and a base encoder."""
    from safetensors.torch import load_file, save_file

    TextEncoder.load(trained_run).save_pretrained(tmp_path / "model")
    for file, weight in (("heads.safetensors", "heads.interest.weight"), ("model.safetensors", None)):
        path = tmp_path / "model" / file
        state = load_file(path)
        name = weight or next(name for name in state if name.endswith("dense.weight"))
        whole = state[name].clone()
        state[name].view(-1)[0] = float("nan")
        save_file(state, path, metadata={"format": "pt"})
        with pytest.raises(ConfigError, match=r"1 of [\d,]+ values of .*weight are not finite: "):
            TextEncoder.load(tmp_path / "model")
        save_file(state | {name: whole}, path, metadata={"format": "pt"})
    TextEncoder.load(tmp_path / "model")
    shutil.copytree(tiny_model, tmp_path / "base")
    state = load_file(tmp_path / "base" / "model.safetensors")
    state["embeddings.word_embeddings.weight"][3] = float("-inf")
    save_file(state, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    told = r"32 of [\d,]+ values of backbone.embeddings.word_embeddings.weight are not finite"
    with pytest.raises(ConfigError, match=told):
        Encoder.load(EncoderConfig(name=str(tmp_path / "base")))


def test_a_flipped_byte_of_a_checkpoint_is_noticed(trained_run: Path, tmp_path: Path) -> None:
    """Torch reads other weights without a word."""
    path = tmp_path / "best.ckpt"
    shutil.copy(trained_run / "checkpoints" / "best.ckpt", path)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as parts:
        part = max((one for one in parts.infolist() if "/data/" in one.filename), key=lambda one: one.file_size)
    content[part.header_offset + 500] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)
    with pytest.raises(ConfigError, match=f"is damaged \\({part.filename} has other content than was written\\)"):
        SavedRun.read(path)
