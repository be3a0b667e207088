"""docs/python.md runs as it is written.

python -m pytest tests/test_python_page.py
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def test_the_page_runs(
    demo_root: Path, tiny_model: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Block after block in one session; with the tiny encoder, fewer dimensions and fewer steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MTCL_CACHE", str(cache))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "demo").symlink_to(demo_root)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
    assert len(blocks) >= 6
    changes = {
        'encoder={"dim": 50}': f'encoder={{"dim": 16, "name": {str(tiny_model)!r}}}',
        "EncoderConfig()": f"EncoderConfig(name={str(tiny_model)!r})",
        "max_steps=60": 'max_steps=4, accelerator="cpu"',
        "val_check_interval=30": "val_check_interval=2",
        'optimizer={"lr": 1e-4}': 'optimizer={"lr": 1e-4}, evaluate_base=False',
    }
    text = "\n".join(blocks)
    for old, new in changes.items():
        assert old in text, f"the page has no {old!r} any more"
        text = text.replace(old, new)
    session: dict[str, object] = {}
    exec(compile(text, "docs/python.md", "exec"), session)
    assert session["encoder"].encode("a text").shape == (16,)  # type: ignore[attr-defined]
    assert (tmp_path / "runs" / "notebook" / "checkpoints" / "best.ckpt").is_file()
