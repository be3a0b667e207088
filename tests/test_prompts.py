"""A prompt stands before every text of its task, in training and evaluation, and nowhere else.

python -m pytest tests/test_prompts.py
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml

from mtcl import (
    MRR,
    Augmented,
    Cluster,
    Duplicates,
    Labelled,
    LabelText,
    Pairs,
    Parallel,
    QueryDocument,
    Rows,
    Scored,
    Tags,
    Task,
)
from mtcl.data.plan import Plan, PlanTask
from mtcl.data.rows import TaskData
from mtcl.data.steps import StepDataset
from mtcl.data.store import TokenStore, prepare
from mtcl.data.tokenizer import Tokenizer
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.studies.compare.config import EncoderSpec
from mtcl.studies.compare.encoders import Plain
from mtcl.task.pairs.sides import split_sides
from mtcl.task.prompt import NO_PROMPT, Prompt, PromptSide
from mtcl.task.registry import discover
from mtcl.training.datamodule import MtclDataModule
from mtcl.training.task_config import TaskConfig
from tests.conftest import ROOT, Run

MODULES = {"": "Transformer", "1_Pooling": "Pooling"}
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
    assert plain.pairs.texts.to_pylist() == asked.pairs.texts.to_pylist()
    assert np.array_equal(plain.pairs.keys.values, asked.pairs.keys.values)
    texts = [f"what colour? {text}" for text in plain.pairs.texts.to_pylist()]
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
        assert data.stores.prompt_of("asked") == Prompt(expected, expected)


def test_a_run_with_prompts_is_compared_with_them_and_not_resumed_without(
    tmp_path: Path, tiny_model: Path, mtcl_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "asked.py").write_text(FILE.format(title="Asked", name="asked", prompt="own: ", rows=ROWS))
    common = [
        "--tasks.asked.prompt",
        "asked: ",
        "--tasks.asked.max_length",
        "12",
        "--data.batch_size",
        "2",
        "--model.encoder.name",
        str(tiny_model),
    ]
    common += ["--data.num_workers", "0", "--trainer.max_steps"]
    fitted = mtcl_command("fit", "--run_dir", "run", *common, "1")
    assert fitted.returncode == 0, fitted.stderr
    encoder = TextEncoder.load(tmp_path / "run")
    assert (encoder.prompts, encoder.lengths) == ({"asked": Prompt("asked: ", "asked: ")}, {"asked": 12})
    asked = discover(tmp_path / "tasks")["asked"]
    assert (encoder.length_of(asked), encoder.prompt_of(asked)) == (12, Prompt("asked: ", "asked: "))
    changed = mtcl_command("fit", "--resume", "run", "--tasks.asked.prompt", "", "--trainer.max_steps", "2")
    assert changed.returncode == 2
    assert "tasks.asked.prompt: only in the checkpoint" in changed.stderr
    encoders = {"run": {"run": "run"}}
    compared = {"tasks": ["asked"], "encoders": encoders, "split": "validation", "tokenizer": str(tiny_model)}
    (tmp_path / "compare.yaml").write_text(yaml.safe_dump(compared))
    seen: list[str] = []
    plain = TextEncoder.__call__

    def kept(self: TextEncoder, texts: list[str], length: int, **more: Any) -> Any:
        assert length == 12
        seen.extend(texts)
        return plain(self, texts, length, **more)

    monkeypatch.setattr(TextEncoder, "__call__", kept)
    done = mtcl_command("compare", "--config", "compare.yaml", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert sorted(seen) == ["asked: blue", "asked: red", "asked: the first", "asked: the second"]


class Search(Task):
    """One text is both a query and a document."""

    name = "search"
    data = Rows(
        train=[{"query": "red", "document": "blue"}, {"query": "blue", "document": "the first"}],
        validation=[{"query": "red", "document": "blue"}, {"query": "blue", "document": "the first"}],
    )
    pairs = QueryDocument()
    metric = MRR()
    sample = ROWS


ASYMMETRIC = Prompt("red ", "blue ")


def searched(tokenizer: Tokenizer, cache: Path, prompt: Prompt, **options: Any) -> TokenStore:
    return prepare(
        Search(), "train", root=None, tokenizer=tokenizer, max_length=16, cache=cache, prompt=prompt, **options
    )


def test_a_text_in_both_roles_is_two_encodings(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(tiny_model)
    both, one = searched(tokenizer, tmp_path, ASYMMETRIC), searched(tokenizer, tmp_path, Prompt("red ", "red "))
    assert one.pairs.texts.to_pylist() == ["red", "blue", "the first"]
    texts = both.pairs.texts.to_pylist()
    assert texts == ["red", "blue", "the first", "blue"]
    prompted = [ASYMMETRIC[PromptSide(side)] + text for side, text in zip(both.sides.tolist(), texts, strict=True)]
    assert prompted == ["red red", "red blue", "blue the first", "blue blue"]
    expected = tokenizer.backend(prompted)["input_ids"]
    assert [both.tokens[row].tolist() for row in range(4)] == expected
    assert [texts[row] for row in both.pairs.anchors] == ["red", "blue"]
    assert [(texts[row], int(row)) for row in both.pairs.positives] == [("blue", 3), ("the first", 2)]
    assert sorted(both.pairs.candidates.tolist()) == [2, 3]
    assert set(both.pairs.keys[1].tolist()) == set(both.pairs.keys[3].tolist()), "so that they are never negatives"


def test_symmetric_pairs_have_one_prompt(tiny_model: Path, tmp_path: Path) -> None:
    class Stories(Task):
        """Posts of a story."""

        name = "stories"
        data = Rows(train=[{"text": text, "story": "s"} for text in ("red", "blue")])
        pairs = Cluster(text="text", cluster="story")
        metric = MRR()
        sample = ROWS

    tokenizer = Tokenizer.load(tiny_model)
    for prompt, words in ((Prompt("red ", "blue "), "red "), (Prompt("red ", ""), ""), (Prompt("", "blue "), "")):
        store = prepare(
            Stories(), "train", root=None, tokenizer=tokenizer, max_length=16, cache=tmp_path, prompt=prompt
        )
        assert set(store.sides.tolist()) == {PromptSide.EITHER}
        expected = tokenizer.backend([words + text for text in store.pairs.texts.to_pylist()])["input_ids"]
        assert [store.tokens[row].tolist() for row in range(2)] == expected


def test_evaluation_and_training_use_both_prompts(tiny_model: Path, tmp_path: Path) -> None:
    """The scores are those of vectors that are made one by one with the right prompt."""
    config = EncoderConfig(name=str(tiny_model), dropout=0.0)
    encoder = TextEncoder.base(config, prompt={"query": "red ", "document": "blue "}, max_length=16)
    store = searched(encoder.tokenizer, tmp_path, encoder.prompt)
    vectors_TD = encoder.model.embed(store.tokens, tokens_per_chunk=64)
    for row, (text, side) in enumerate(zip(store.pairs.texts.to_pylist(), store.sides.tolist(), strict=True)):
        role = "query" if side == PromptSide.QUERY else "document"
        torch.testing.assert_close(vectors_TD[row], encoder.encode(text, role=role), rtol=0, atol=1e-6)  # type: ignore[arg-type]
    batch = StepDataset(Plan((PlanTask("search", 2, 2),), 0), [TaskData(store)])[0]
    assert len(batch.texts.place_T) == 4, "blue is encoded as a query and as a document"


def test_a_base_s_prompts_are_the_default_of_a_run(tiny_model: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in MODULES.items()]
    (base / "modules.json").write_text(json.dumps(modules))
    declared = {"prompts": {"query": "red ", "document": "blue "}}
    (base / "config_sentence_transformers.json").write_text(json.dumps(declared))
    (tmp_path / "tasks").mkdir()
    for name, line in (("asked", 'prompt = "own: "'), ("bare", 'prompt = ""'), ("open_one", "")):
        text = FILE.format(title=name.title(), name=name, prompt="", rows=ROWS).replace('prompt = ""', line)
        (tmp_path / "tasks" / f"{name}.py").write_text(text)
    options: dict[str, Any] = {"tasks_dir": str(tmp_path / "tasks"), "encoder": {"name": str(base)}}
    names: dict[str, Any] = {"asked": {}, "bare": {}, "open_one": {}}

    def prompts(**more: Any) -> list[Any]:
        data = MtclDataModule(tasks=names, **options, **more)
        return [data.stores.prompt_of(name).plain() for name in names]

    both = {"query": "red ", "document": "blue "}
    assert prompts() == ["own: ", "", both]
    assert prompts(prompt="") == ["own: ", "", ""]
    assert prompts(prompt={"query": "the "}) == ["own: ", "", {"query": "the ", "document": ""}]
    data = MtclDataModule(tasks=names | {"asked": {"prompt": {"document": "blue "}}}, **options)
    assert data.stores.prompt_of("asked").plain() == {"query": "", "document": "blue "}


@pytest.mark.parametrize("given", ["{query: 3}", "{answer: a}", "[a]", "3"])
def test_a_malformed_prompt_is_named(given: str, mtcl_command: Run, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(f"data: {{prompt: {given}}}\n")
    done = mtcl_command("fit", "--config", "c.yaml")
    assert done.returncode == 2
    assert "data.prompt" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_run_keeps_its_prompts_and_lengths(
    tmp_path: Path, tiny_model: Path, demo_root: Path, mtcl_command: Run
) -> None:
    done = mtcl_command(
        *("fit", "--run_dir", "run", "--tasks.search.weight", "1", "--data.batch_size", "4", "--data.root"),
        *(str(demo_root), "--data.prompt", "{query: 'red ', document: 'blue '}", "--model.encoder.name"),
        *(str(tiny_model), "--trainer.max_steps", "1", "--data.num_workers", "0", "--tasks_dir"),
        str(ROOT / "tasks" / "demo"),
    )
    assert done.returncode == 0, done.stderr
    encoder = TextEncoder.load(tmp_path / "run")
    assert (encoder.prompt, encoder.max_length) == (ASYMMETRIC, 128)
    alone = TextEncoder.load(tmp_path / "run", device="cpu")
    assert torch.equal(encoder.encode("dog", role="query"), alone(["red dog"])[0])
    assert torch.equal(encoder.encode("dog"), alone(["blue dog"])[0])


T = ["red", "blue", "dog", "cat"]
OF_ONE_KIND: dict[str, tuple[Pairs, dict[str, list[Any]]]] = {
    "Cluster": (Cluster("text", "c"), {"text": T, "c": ["1", "1", "2", "2"]}),
    "Duplicates": (Duplicates(), {"anchor": T, "positive": T[1:] + T[:1]}),
    "Parallel": (Parallel(), {"source": T, "target": T[::-1]}),
    "Scored": (Scored(), {"first": T, "second": T[::-1], "score": [0.0, 0.3, 0.6, 1.0]}),
    "Labelled": (Labelled(), {"first": T, "second": T[::-1], "label": [0, 1, 0, 1]}),
    "Augmented": (Augmented(), {"text": [f"{text} {text} bird job" for text in T]}),
}
OF_TWO_KINDS: dict[str, tuple[Pairs, dict[str, list[Any]]]] = {
    "QueryDocument": (QueryDocument(), {"query": T, "document": T[1:] + T[:1]}),
    "LabelText": (LabelText(), {"text": T, "label": ["job", "job", "news", "news"]}),
    "LabelText by both": (LabelText(by="both"), {"text": T, "label": ["job", "job", "news", "news"]}),
    "Tags": (Tags(), {"text": T, "tags": [["job"], ["job", "news"], ["news"], ["red"]]}),
}


@pytest.mark.parametrize("name", OF_ONE_KIND)
def test_pairs_of_one_kind_of_text_are_not_split(name: str) -> None:
    pairs, columns = OF_ONE_KIND[name]
    table = pairs(pa.table(columns))
    split, sides = split_sides(table)
    assert split is table
    assert set(sides.tolist()) == {PromptSide.EITHER}


@pytest.mark.parametrize("name", OF_TWO_KINDS)
def test_no_text_of_a_split_table_is_on_both_sides(name: str) -> None:
    pairs, columns = OF_TWO_KINDS[name]
    table = pairs(pa.table(columns))
    split, sides = split_sides(table)
    copies = split.texts.slice(len(table.texts))
    both = {*table.texts.take(pa.array(table.queries)).to_pylist()} & {*copies.to_pylist()}
    assert sorted(copies.to_pylist()) == sorted(both)
    assert set(sides[split.queries].tolist()) == {PromptSide.QUERY}
    assert set(sides[split.candidates].tolist()) == {PromptSide.DOCUMENT}
    if split.groups is None:
        assert set(sides[split.positives].tolist()) == {PromptSide.DOCUMENT}
    texts = split.texts.to_pylist()
    for column in ("queries", "candidates"):
        now, before = (t.texts.take(pa.array(getattr(t, column))).to_pylist() for t in (split, table))
        assert now == before
    assert len(set(zip(texts, sides.tolist(), strict=True))) == len(texts)


def test_a_comparison_sends_the_encoder_s_own_prompts(tiny_model: Path, tmp_path: Path) -> None:
    """And cuts what it sends. A task's own prompt is for encoders that were trained with it."""
    store = searched(Tokenizer.load(tiny_model), tmp_path, NO_PROMPT, apart=True)
    bare, both = EncoderSpec(endpoint="m"), ["red", "blue", "the first", "blue"]
    assert bare.as_sent(store) == both
    assert bare.as_sent(store, ASYMMETRIC) == ["red red", "red blue", "blue the first", "blue blue"]
    spec = EncoderSpec(endpoint="m", prompt={"query": "query: "}, max_characters=8)
    assert spec.as_sent(store, ASYMMETRIC) == ["query: r", "query: b", "the firs", "blue"]
    plain = Plain(lambda texts: torch.zeros(len(texts), 1), ASYMMETRIC)
    assert plain.prompt_of(Toy()) == ASYMMETRIC
