"""What is known about an encoder: from a run's checkpoint, from an exported folder, and from malformed ones.

python -m pytest tests/test_facts.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import mtcl
from mtcl import ConfigError, TextEncoder
from mtcl.encoder.checkpoint import SavedRun
from mtcl.encoder.facts import FILE, Facts, TaskFacts
from mtcl.encoder.heads import write_heads


def test_a_run_records_what_a_model_card_needs(trained_run: Path, tiny_model: Path) -> None:
    encoder = TextEncoder.load(trained_run)
    facts = encoder.facts
    assert (facts.base, facts.version, facts.step) == (str(tiny_model), mtcl.__version__, 4)
    assert list(facts.tasks) == ["search", "interest", "storyline"]
    search, interest, storyline = facts.tasks.values()
    assert search.prompt == {"query": "query: ", "document": "post: "}
    assert (search.max_length, search.metric, search.owner) == (24, "ndcg@10", "@mtcl")
    assert search.loss == "Matryoshka(InfoNCE(), dims=[8])"
    assert search.about
    assert search.num_pairs
    assert 0 < search.base < 1
    assert 0 < search.now < 1
    assert (interest.head, interest.loss) == (4, "InfoNCE()")
    assert not storyline.is_trained
    assert storyline.loss == ""
    assert storyline.num_pairs is None
    assert encoder.dims_of(None) == encoder.dims_of("search") == [16, 8]
    assert encoder.dims_of("interest") == [4]


def test_a_folder_has_the_facts_and_heads_of_its_run(trained_run: Path, tiny_model: Path, tmp_path: Path) -> None:
    run = TextEncoder.load(trained_run)
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny_model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / FILE).write_text(json.dumps(run.facts.plain()))
    assert TextEncoder.load(folder).facts == run.facts
    assert TextEncoder.load(folder).prompts == run.prompts
    write_heads(folder, run.heads)  # of 16 dimensions
    with pytest.raises(ConfigError, match="head of task 'interest' does not fit the encoder's 32 dimensions"):
        TextEncoder.load(folder)
    (folder / "heads.safetensors").write_bytes(b"?")
    with pytest.raises(ConfigError, match=r"heads.safetensors is malformed"):
        TextEncoder.load(folder)


def test_a_folder_of_a_model_is_loaded_as_it_declares(tiny_model: Path) -> None:
    encoder, base = TextEncoder.load(tiny_model), TextEncoder.base({"name": str(tiny_model)})
    torch.testing.assert_close(encoder.encode("a post"), base.encode("a post"), rtol=0, atol=0)
    assert encoder.facts == Facts(base=str(tiny_model))
    assert encoder.fingerprint() == base.fingerprint()


def test_fingerprints_depend_on_values_only(trained_run: Path, tiny_model: Path) -> None:
    run, base = TextEncoder.load(trained_run), TextEncoder.load(tiny_model)
    assert run.fingerprint() == TextEncoder.load(trained_run).fingerprint() != base.fingerprint()
    assert run.head_fingerprint("interest") != run.head_fingerprint("search") is None
    one = next(run.model.parameters())
    before = run.fingerprint()
    with torch.no_grad():
        one[0, 0] += 1e-6 + one[0, 0].abs() * 1e-6
    assert run.fingerprint() != before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "has no facts about a run"),
        ({"tasks": {"search": {"max_length": 0}}}, r"search.max_length is 0: give 1 or more"),
        ({"tasks": {"search": {"prompt": {"passage": "x"}}}}, r"prompt is .*passage"),
        ({"tasks": {"search": {"num": 1}}}, r"tasks.search has an unknown name 'num'"),
        ({"tasks": []}, r"tasks is \[\]: give a dict"),
        ({"trained_dims": ["50"]}, r"trained_dims is \['50'\]"),
        ({"step": True}, r"step is True"),
    ],
)
def test_malformed_facts_are_refused_in_one_line(content: Any, words: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=words):
        Facts.of_folder(tmp_path)
    (tmp_path / FILE).write_text("{")
    with pytest.raises(ConfigError, match="not readable as JSON"):
        Facts.of_folder(tmp_path)


def test_the_dimensions_of_a_loss_come_from_an_untrusted_text(trained_run: Path) -> None:
    content = SavedRun.read(trained_run).content
    for loss in (
        "{class_path: Matryoshka, init_args: {dims: 50}}",
        "{class_path: os.system, init_args: {dims: [8]}}",
        "[1]",
        "{class_path: Matryoshka, init_args: {dims: [99, -1, a]}}",
    ):
        about = {
            **content["mtcl"],
            "config": content["mtcl"]["config"].split("tasks:")[0] + f"tasks: {{search: {{loss: {loss}}}}}",
        }
        assert Facts.of_run(SavedRun.of({**content, "mtcl": about}, "x")).trained_dims == [], loss


def test_plain_values_give_the_same_facts_again() -> None:
    facts = Facts(base="m", step=3, trained_dims=[8], tasks={"a": TaskFacts(prompt="x", base=0.5)})
    assert Facts.of(json.loads(json.dumps(facts.plain())), where="x") == facts
