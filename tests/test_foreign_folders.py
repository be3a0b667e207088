"""An exported folder or a token store is data: whoever made it, nothing in it is imported or called.

python -m pytest tests/test_foreign_folders.py
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from mtcl import MRR, LabelText, Rows, Task, TaskError, TextEncoder
from mtcl.data import intact
from mtcl.data.store import prepare
from mtcl.data.tokenizer import Tokenizer
from tests.conftest import Run

EVIL = "from pathlib import Path\nPath({mark!r}).touch()\nclass Evil: pass\n"


def edit(path: Path, **changed: object) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | changed))


def own_model_class(folder: Path) -> None:
    auto = {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"}
    edit(folder / "config.json", auto_map=auto, model_type="evil", architectures=["Evil"])


def own_class_of_a_known_type(folder: Path) -> None:
    edit(folder / "config.json", auto_map={"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"})


def own_tokenizer(folder: Path) -> None:
    edit(
        folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]}, tokenizer_class="Evil"
    )


def own_module(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(
        json.dumps([*modules, {"idx": 9, "name": "9", "path": "", "type": "evil.Evil"}])
    )


def own_options_of_the_model(folder: Path) -> None:
    edit(
        folder / "sentence_bert_config.json",
        model_args={"trust_remote_code": True},
        model_kwargs={"trust_remote_code": True},
    )
    own_class_of_a_known_type(folder)


def own_attention(folder: Path) -> None:
    edit(folder / "config.json", _attn_implementation="evil/kernel", attn_implementation="evil/kernel")


def own_activation(folder: Path) -> None:
    for path in folder.glob("*_Dense/config.json"):
        edit(path, activation_function="evil.Evil")


def pickled_weights(folder: Path) -> None:
    """A pickle that would touch the mark, where older libraries look for weights."""
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cposix\nsystem\n(S'touch mark'\ntR.")


ATTACKS = [
    own_model_class,
    own_class_of_a_known_type,
    own_tokenizer,
    own_module,
    own_options_of_the_model,
    own_attention,
    own_activation,
    pickled_weights,
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda one: one.__name__)
def test_nothing_of_a_model_s_folder_runs(
    attack: Callable[[Path], None],
    trained_run: Path,
    demo_root: Path,
    tiny_model: Path,
    tmp_path: Path,
    mtcl_command: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`mtcl serve`, `search` and `align` load encoders as these commands do."""
    mark = tmp_path / "mark"
    TextEncoder.load(trained_run).save_pretrained(tmp_path / "model")
    for folder in (tmp_path, tmp_path / "model"):
        (folder / "evil.py").write_text(EVIL.format(mark=str(mark)))
    monkeypatch.syspath_prepend(str(tmp_path))
    attack(tmp_path / "model")
    (tmp_path / "posts.txt").write_text("red dog\n")
    (tmp_path / "compare.yaml").write_text(
        yaml.safe_dump(
            {
                "tasks": ["search"],
                "encoders": {"theirs": {"model": "model"}},
                "root": str(demo_root),
                "tokenizer": str(tiny_model),
            }
        )
    )
    for arguments in (
        ["embed", "model", "posts.txt", "--out", "vectors"],
        ["export", "model", "copy"],
        ["compare", "--config", "compare.yaml"],
    ):
        done = mtcl_command(*arguments)
        assert not mark.exists(), arguments
        assert "Traceback" not in done.stderr
        if done.returncode:
            assert len([line for line in done.stderr.splitlines() if line.startswith("mtcl:")]) == 1


class Animals(Task):
    """A post -> its animal."""

    name = "animals"
    data = Rows(train=[{"text": "red dog", "label": "dog"}, {"text": "blue cat", "label": "cat"}])
    pairs = LabelText(text="text", label="label")
    metric = MRR()
    sample = [{"text": "red dog", "label": "dog"}]


class Touches:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def test_a_pickle_in_a_token_store_is_not_read(tiny_model: Path, tmp_path: Path) -> None:
    """Also if its record fits: the digests show damage, they are no signature."""
    given = {"root": None, "tokenizer": Tokenizer.load(tiny_model), "max_length": 8, "cache": tmp_path / "cache"}
    store = prepare(Animals(), "train", **given)
    facts = intact.record_of(store.folder)
    for name in ("files", "digest"):
        facts.pop(name)
    mark = tmp_path / "mark"
    np.save(store.folder / "anchors.npy", np.array([Touches(mark)], dtype=object), allow_pickle=True)
    (store.folder / "meta.json").unlink()
    intact.seal(store.folder, facts)
    with pytest.raises(TaskError, match="Python objects in dtype"):
        prepare(Animals(), "train", **given)
    assert not mark.exists()
    shutil.rmtree(store.folder)
