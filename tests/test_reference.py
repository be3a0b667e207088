"""The reference is written from the code: every command, key and public name is in it, and the site builds.

python -m pytest tests/test_reference.py
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

import mtcl
from docs.generators import api, cli, keys, tables
from mtcl.__main__ import COMMANDS
from mtcl.configuration.keys import full_names
from mtcl.configuration.run_keys import run_keys
from mtcl.training.task_config import TaskConfig
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def sections() -> dict[str, str]:
    """The tables of keys by their heading."""
    parts = re.split(r"^##+ (.*)$", keys.keys(), flags=re.M)
    return {title.strip("`"): text for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def test_every_command_is_shown_with_its_options() -> None:
    text = cli.cli()
    assert re.findall(r"^## mtcl (\w+)$", text, flags=re.M) == list(COMMANDS)
    assert {"### mtcl tasks check", "### mtcl tasks batch"} <= set(re.findall(r"^### .*$", text, flags=re.M))
    assert "--replace_changed" in text
    assert "model.optimizer.lr" in text, "the short help of mtcl fit"


def test_every_key_is_shown(sections: dict[str, str]) -> None:
    for name, hint in full_names(run_keys()):
        section, _, key = name.rpartition(".")
        if name not in keys.CLASSES:
            assert f"\n| `{key}` | " in sections[section or "A run"], (name, hint)
    for key in TaskConfig.__dataclass_fields__:
        assert f"\n| `{key}` | " in sections["tasks.NAME"]
    assert {"averaging", "model.keep", "model.encoder.lora", "encoders.NAME"} <= sections.keys()
    assert "`tasks` |" not in sections["data"], "it is set by the top-level key"


def test_a_key_has_type_default_and_meaning(sections: dict[str, str]) -> None:
    assert "| `lr` | `float` | `2.0e-05` | Learning rate of the backbone. |" in sections["model.optimizer"]
    assert "| `gradient_clip_val` | `int \\| float \\| null` | `1.0` |" in sections["trainer"], (
        "mtcl's, not Lightning's"
    )
    assert "| `precision` |" in sections["trainer"]
    assert "by hardware" in sections["trainer"]
    rows = [line for text in sections.values() for line in text.splitlines() if line.startswith("| `")]
    assert all(len(re.split(r"(?<!\\)\|", line)) == 6 for line in rows), "four cells"
    empty = [line for line in rows if not re.split(r"(?<!\\)\|", line)[4].strip()]
    assert not empty, "each has a meaning"


@pytest.mark.parametrize(
    ("hint", "name"),
    [
        (int | None, "int | null"),
        (Literal["a", "b"] | None, "a | b | null"),
        (dict[str, list[int]], "dict[str, list[int]]"),
    ],
)
def test_a_type_is_named_as_in_yaml(hint: object, name: str) -> None:
    assert keys.type_name(hint) == name


def test_every_public_name_is_in_the_api() -> None:
    text = api.api() + api.losses()
    assert sorted(re.findall(r"^\.\. auto\w+:: mtcl\.(\w+)$", text, flags=re.M)) == sorted(mtcl.__all__)


def test_the_tables_have_all_pairs_losses_and_metrics() -> None:
    assert "`QueryDocument(query, document)` | `InfoNCE`" in tables.rows()
    assert "`Scored(first, second, score)` | `CoSENT` | `Spearman`" in tables.rows()
    assert all(f"| `{name}` |" in tables.losses() for name in ("InfoNCE", "Matryoshka", "WeightedSum"))
    assert all(f"| `{name}` |" in tables.metrics() for name in ("NDCG", "BitextAccuracy", "RocAuc"))


@pytest.mark.nightly
@pytest.mark.usefixtures("starts_processes")
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    for package in ("sphinx", "furo", "myst_nb"):
        pytest.importorskip(package, reason="needs the extra `docs`")
    words = ["-W", "--keep-going", "-q", "-b", "html", "docs", str(tmp_path / "site")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    page = (tmp_path / "site" / "reference" / "losses.html").read_text(encoding="utf-8")
    assert "mtcl.InfoNCE" in page
    assert "generated:" not in page, "what the generators write is in its place"
