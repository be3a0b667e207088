"""A run of mtcl as the teacher of another.

python -m pytest tests/test_teacher.py
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtcl.data.store import TokenStore, prepare
from mtcl.data.tokenizer import Tokenizer
from mtcl.encoder.backbone import digest_of, function_digest
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.dense import Dense
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.teacher import Teacher, vectors_file
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.task.registry import discover
from tests.conftest import ROOT, Run

PARTS = {"": "Transformer", "1_Pooling": "Pooling"}
"""The modules of a sentence-transformers model, by folder."""


def test_a_single_task_run_teaches_the_joint_one(
    tmp_path: Path, tiny_model: Path, demo_root: Path, cache: Path, mtcl_command: Run
) -> None:
    common = ["--model.encoder.name", str(tiny_model), "--data.root", str(demo_root), "--data.batch_size", "8"]
    common += ["--data.max_length", "32", "--trainer.precision", "32-true"]
    before = set(cache.glob("search-train-*/teacher-*.npy"))
    for name, more in {
        "alone": ["--tasks.search.weight", "1", "--trainer.max_steps", "2", "--model.optimizer.lr", "0.01"],
        "joint": [
            *("--tasks.search.loss", "DistillKL", "--tasks.search.loss.teacher", "alone"),
            *("--tasks.interest.weight", "1", "--trainer.max_steps", "1"),
        ],
    }.items():
        done = mtcl_command("fit", "--run_dir", name, *common, *more)
        assert done.returncode == 0, done.stderr
    (made,) = set(cache.glob("search-train-*/teacher-*.npy")) - before
    texts = TokenStore.open(made.parent).pairs.texts.to_pylist()
    expected = TextEncoder.load(tmp_path / "alone")(texts)
    torch.testing.assert_close(torch.from_numpy(np.load(made)), expected, atol=1e-5, rtol=0)


def test_a_changed_activation_makes_other_files(tiny_model: Path, tmp_path: Path) -> None:
    """The weights are equal, so only the configuration tells that the vectors of a cached file are wrong."""
    found = {}
    for name, change in {
        "same": {},
        "described": {"architectures": ["Other"], "transformers_version": "4.0.0", "hidden_dropout_prob": 0.3},
        "activation": {"hidden_act": "relu"},
        "epsilon": {"layer_norm_eps": 1e-3},
    }.items():
        shutil.copytree(tiny_model, tmp_path / name)
        path = tmp_path / name / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        encoder = Encoder.load(EncoderConfig(name=str(tmp_path / name)))
        found[name] = (digest_of(encoder), function_digest(encoder), function_digest(encoder.backbone))
    assert len({weights for weights, *_ in found.values()}) == 1
    assert found["same"] == found["described"]
    for place in (1, 2):
        assert len({found[name][place] for name in ("same", "activation", "epsilon")}) == 3


def test_a_changed_activation_of_a_dense_layer_makes_other_files() -> None:
    options = {"in_features": 4, "out_features": 4}
    torch.manual_seed(0)
    one = Dense(options)
    other = Dense(options | {"activation_function": "torch.nn.modules.linear.Identity"})
    other.load_state_dict(one.state_dict())
    assert digest_of(one) == digest_of(other)
    assert function_digest(one) != function_digest(other)


def test_a_full_disk_leaves_no_vectors(
    tiny_model: Path, demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room is asked for before the file is written; the next try makes it."""
    tokenizer = Tokenizer.load(tiny_model)
    task = discover(ROOT / "tasks" / "demo")["search"]
    store = prepare(task, "validation", root=demo_root, tokenizer=tokenizer, max_length=16, cache=tmp_path)
    teacher = Teacher(Encoder.load(EncoderConfig(name=str(tiny_model))))

    def vectors() -> Path:
        return vectors_file(store, teacher, lambda e, t: e.embed(t, tokens_per_chunk=512), precision="32-true")

    def is_full(*arguments: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", is_full)
        with pytest.raises(OSError, match="No space left"):
            vectors()
    assert [path.suffix for path in store.folder.glob("*teacher-*")] == [".lock"]
    assert np.load(vectors()).shape == (len(store.tokens), 32)


def write_layers(folder: Path, **settings: Any) -> None:
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in PARTS.items()]
    (folder / "1_Pooling").mkdir(exist_ok=True)
    for name, content in {
        "modules.json": modules,
        "1_Pooling/config.json": {},
        "config_sentence_transformers.json": settings,
    }.items():
        (folder / name).write_text(json.dumps(content))


def test_a_teacher_that_is_cut_otherwise_has_other_vectors(tiny_model: Path, demo_root: Path, tmp_path: Path) -> None:
    """`truncate_dim` is no weight, so the digest of the weights does not show it."""
    task = discover(ROOT / "tasks" / "demo")["search"]
    given = {"root": demo_root, "tokenizer": Tokenizer.load(tiny_model), "max_length": 16, "cache": tmp_path / "cache"}
    store, folder, prints = prepare(task, "validation", **given), tmp_path / "model", set()
    shutil.copytree(tiny_model, folder)
    for dim in (None, 16, 8):
        write_layers(folder, truncate_dim=dim)
        teacher = TextEncoder.load(folder)
        prints.add(teacher.fingerprint())
        path = vectors_file(
            store, Teacher(teacher.model), lambda e, t: e.embed(t, tokens_per_chunk=512), precision="32-true"
        )
        assert np.load(path).shape == (len(store.tokens), dim or 32)
    assert len(prints) == 3


def test_damaged_vectors_are_made_again(
    tiny_model: Path, demo_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A flipped byte leaves the size as it was. The next process that opens the store removes the file."""
    given = {"root": demo_root, "tokenizer": Tokenizer.load(tiny_model), "max_length": 16, "cache": tmp_path}
    task = discover(ROOT / "tasks" / "demo")["search"]
    store = prepare(task, "validation", **given)
    teacher = Teacher(Encoder.load(EncoderConfig(name=str(tiny_model))))

    def vectors() -> Path:
        return vectors_file(store, teacher, lambda e, t: e.embed(t, tokens_per_chunk=512), precision="32-true")

    path = vectors()
    before = path.read_bytes()
    prepare(task, "validation", **given)
    assert path.exists(), "an undamaged file stays"
    path.write_bytes(before[:1000] + bytes([before[1000] ^ 1]) + before[1001:])
    prepare(task, "validation", **given)
    assert f"{path} was damaged" in caplog.text
    assert not path.exists()
    assert vectors().read_bytes() == before
