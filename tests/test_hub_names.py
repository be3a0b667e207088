"""A name on the Hub in place of a folder. The Hub is a folder here: `snapshot_download` gives it.

python -m pytest tests/test_hub_names.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch

from mtcl.encoder.text_encoder import TextEncoder
from mtcl.errors import ConfigError
from tests.conftest import Run


@pytest.fixture
def hub(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, **options: Any) -> str:
        if name != "owner/tiny":
            raise huggingface_hub.errors.LocalEntryNotFoundError("no such model")
        return str(tiny_model)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)


def test_a_name_gives_the_model(hub: None, tiny_model: Path) -> None:
    ours, theirs = TextEncoder.load("owner/tiny"), TextEncoder.load(tiny_model)
    assert ours.encode("a text").equal(theirs.encode("a text"))
    with pytest.raises(ConfigError, match="model 'owner/other' is not a folder and cannot be downloaded from the Hub"):
        TextEncoder.load("owner/other")


def test_a_name_of_an_exported_run_gives_its_tasks(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TextEncoder.load(trained_run)
    run.save_pretrained(tmp_path / "exported")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **options: str(tmp_path / "exported"))
    ours = TextEncoder.load("owner/exported")
    assert (ours.lengths, ours.prompts, ours.heads.keys()) == (run.lengths, run.prompts, run.heads.keys())
    torch.testing.assert_close(ours.encode("a text", task="interest"), run.encode("a text", task="interest"))


def test_a_file_is_embedded_and_searched_by_name(hub: None, mtcl_command: Run, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    done = mtcl_command("embed", "owner/tiny", "rows.jsonl", "--out", "out", "--tokenize", "here")
    assert done.returncode == 0, done.stderr
    refused = mtcl_command("search", "out", "one")  # what a folder names is not downloaded unasked
    assert refused.returncode != 0
    assert "give it as --ckpt" in refused.stderr
    found = mtcl_command("search", "out", "one", "--ckpt", "owner/tiny", "--num", "1", "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["hits"][0]["score"] == pytest.approx(1, abs=1e-5)
