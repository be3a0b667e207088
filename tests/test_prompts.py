"""A prompt stands before every text of its task, in training and evaluation, and nowhere else.

python -m pytest tests/test_prompts.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mtcl import MRR, LabelText, Rows, Task
from mtcl.data.batch import StepDataset, TaskData
from mtcl.data.plan import Plan, PlanTask
from mtcl.data.store import TokenStore, prepare
from mtcl.data.tokenizer import Tokenizer
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.task.registry import discover
from mtcl.training.datamodule import MtclDataModule
from mtcl.training.task_config import TaskConfig
from tests.conftest import Run

ROWS = [{"text": "the first", "label": "red"}, {"text": "the second", "label": "blue"}]
FILE = '''
from mtcl import *

class {title}(Task):
    """Asks {name}."""
    name = "{name}"
    prompt = "{prompt}"
    data = Rows(train={rows}, validation={rows})
    pairs = LabelText()
    metric = MRR()
    sample = {rows}
'''


class Toy(Task):
    """A toy."""

    name = "toy"
    prompt = "what colour? "
    data = Rows(train=ROWS, validation=ROWS)
    pairs = LabelText()
    metric = MRR()
    sample = ROWS


def store(tokenizer: Tokenizer, cache: Path, prompt: str, *, max_length: int = 16) -> TokenStore:
    return prepare(Toy(), "train", root=None, tokenizer=tokenizer, max_length=max_length, cache=cache, prompt=prompt)


def test_a_store_holds_the_prompt_in_its_tokens_only(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(tiny_model)
    plain, asked = store(tokenizer, tmp_path, ""), store(tokenizer, tmp_path, "what colour? ")
    assert plain.folder != asked.folder
    assert plain.texts().to_pylist() == asked.texts().to_pylist()
    assert np.array_equal(plain.keys.values, asked.keys.values)
    texts = [f"what colour? {text}" for text in plain.texts().to_pylist()]
    expected = tokenizer.backend(texts, truncation=True, max_length=16)["input_ids"]
    assert [asked.tokens.take(np.array([n])).values.tolist() for n in range(4)] == expected


def test_equal_texts_of_two_prompts_are_encoded_apart(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(tiny_model)
    plan = Plan((PlanTask("one", 2, 2), PlanTask("other", 2, 2)), 0, 0.0)
    for prompts, count in ((("", ""), 4), (("a ", "b "), 8)):
        stores = [TaskData(store(tokenizer, tmp_path, prompt)) for prompt in prompts]
        assert len(StepDataset(plan, stores)[0].texts.place_T) == count


def test_the_runs_prompt_wins_over_the_tasks(tmp_path: Path) -> None:
    (tmp_path / "asked.py").write_text(FILE.format(title="Asked", name="asked", prompt="own: ", rows=ROWS))
    options: dict[str, Any] = {"tasks_dir": str(tmp_path), "batch_size": 2}
    given: dict[str | None, str] = {None: "own: ", "other: ": "other: ", "": ""}
    for configured, expected in given.items():
        data = MtclDataModule(tasks={"asked": TaskConfig(prompt=configured)}, **options)
        assert data.prompt_of("asked") == expected


def test_a_run_with_prompts_is_compared_with_them_and_not_resumed_without(
    tmp_path: Path, tiny_model: Path, mtcl_process: Run
) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "asked.py").write_text(FILE.format(title="Asked", name="asked", prompt="own: ", rows=ROWS))
    common = [
        "--tasks.asked.prompt",
        "asked: ",
        "--tasks.asked.max_length",
        "9",
        "--data.batch_size",
        "2",
        "--model.encoder.name",
        str(tiny_model),
    ]
    fitted = mtcl_process("fit", "--run_dir", "run", *common, "--trainer.max_steps", "1")
    assert fitted.returncode == 0, fitted.stderr
    encoder = TextEncoder.load(tmp_path / "run")
    assert (encoder.prompts, encoder.lengths) == ({"asked": "asked: "}, {"asked": 9})
    asked = discover(tmp_path / "tasks")["asked"]
    assert (encoder.length_of(asked), encoder.prompt_of(asked)) == (9, "asked: ")
    changed = mtcl_process("fit", "--resume", "run", "--tasks.asked.prompt", "", "--trainer.max_steps", "2")
    assert changed.returncode == 2
    assert "tasks.asked.prompt: only in the checkpoint" in changed.stderr
    encoders = {"run": {"run": "run"}}
    compared = {"tasks": ["asked"], "encoders": encoders, "split": "validation", "tokenizer": str(tiny_model)}
    (tmp_path / "compare.yaml").write_text(yaml.safe_dump(compared))
    seen = tmp_path / "seen.txt"
    (tmp_path / "sitecustomize.py").write_text(
        "from mtcl.encoder.text_encoder import TextEncoder\n"
        "plain = TextEncoder.__call__\n"
        "def kept(self, texts, length):\n    assert length == 9\n"
        f"    open({str(seen)!r}, 'a').write('|'.join(texts))\n    return plain(self, texts, length)\n"
        "TextEncoder.__call__ = kept\n"
    )
    done = mtcl_process("compare", "--config", "compare.yaml", "--out", "out", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert sorted(seen.read_text().split("|")) == ["asked: blue", "asked: red", "asked: the first", "asked: the second"]
