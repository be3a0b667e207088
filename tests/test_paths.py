"""What the path of an encoder means.

python -m pytest tests/test_paths.py
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mtcl.encoder.paths import PathKind, is_checkpoint, is_hub_name, kind_of_path


def test_what_reads_like_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert is_hub_name("BAAI/bge-small-en-v1.5")
    for path in ("demo", "runs/demo", "./demo", "../demo", "~/demo", "/demo", "a/b/c", "a/last.ckpt", "a/", ""):
        assert not is_hub_name(path)


def test_what_is_a_run(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "last.ckpt").touch()
    assert is_checkpoint(tmp_path / "run")
    assert is_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert not is_checkpoint(tmp_path)
    assert not is_checkpoint(Path("organisation/model"))
    assert not is_checkpoint(tmp_path / "other.ckpt")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("~/model", PathKind.MODEL_FOLDER),
        ("owner/model", PathKind.HUB_NAME),
        ("~/run", PathKind.CHECKPOINT),
        ("~/run_with_a_model", PathKind.CHECKPOINT),
        ("~/run/checkpoints/last.ckpt", PathKind.CHECKPOINT),
        ("~/nothing", PathKind.CHECKPOINT),
        ("nothing", PathKind.CHECKPOINT),
    ],
)
def test_the_kind_of_a_path(path: str, kind: PathKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for folder in ("run", "run_with_a_model"):
        (tmp_path / folder / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "last.ckpt").touch()
    (tmp_path / "run_with_a_model" / "config.json").touch()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").touch()
    assert kind_of_path(path) is kind
    assert kind_of_path(Path(path)) is kind
