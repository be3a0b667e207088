"""The exported folder: every reader gives the vectors of the checkpoint, and the strict ones accept it.

python -m pytest tests/test_export_layout.py
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch.nn import functional as F

from mtcl import ConfigError, TextEncoder
from mtcl.arrays import Ragged
from mtcl.data.tokenizer import Tokenizer
from mtcl.encoder.exported import Exported
from mtcl.task.prompt import Prompt
from tests.export_readers import TextEmbeddingsInference, Vllm
from tests.families import FAMILIES, write_model, write_sentence_transformer, write_tokenizer

sentence_transformers = pytest.importorskip("sentence_transformers", reason="needs the extra `compare`")
TEXTS = ["red green blue", "a dog for the cat", "news", "the bird for the post " * 9]
CLOSE = {"rtol": 0, "atol": 1e-6}


@pytest.fixture(scope="module")
def run(trained_run: Path) -> TextEncoder:
    return TextEncoder.load(trained_run, device="cpu")


@pytest.fixture(scope="module")
def exported(run: TextEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    run.save_pretrained(folder)
    return folder


def encoded(folder: Path, texts: list[str], **options: Any) -> torch.Tensor:
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    return torch.from_numpy(model.encode(texts, **options))


def test_mtcl_loads_the_run_again(run: TextEncoder, exported: Path) -> None:
    again = TextEncoder.load(exported, device="cpu")
    assert again.fingerprint() == run.fingerprint()
    assert again.head_fingerprint("interest") == run.head_fingerprint("interest")
    assert (again.prompts, again.lengths, again.max_length) == (run.prompts, run.lengths, run.max_length)
    assert again.dims_of("search") == [16, 8]
    assert again.dims_of("interest") == [4]
    assert again.facts.tasks == run.facts.tasks
    assert not Path(again.facts.base).is_absolute(), "a folder's name on the machine of the run is nobody's business"
    for task in (None, "search", "interest", "storyline"):
        for role in ("query", "document"):
            torch.testing.assert_close(
                again.encode(TEXTS, task=task, role=role), run.encode(TEXTS, task=task, role=role), **CLOSE
            )


@pytest.mark.parametrize(("name", "role"), [("search_query", "query"), ("search_document", "document")])
def test_sentence_transformers_gives_the_vectors_of_a_task(
    run: TextEncoder, exported: Path, name: str, role: Any
) -> None:
    found = encoded(exported, TEXTS[:3], prompt_name=name)
    torch.testing.assert_close(found, run.encode(TEXTS[:3], task="search", role=role), **CLOSE)
    torch.testing.assert_close(encoded(exported, TEXTS), run.encode(TEXTS), **CLOSE)


def test_what_the_files_say(exported: Path) -> None:
    def read(name: str) -> Any:
        return json.loads((exported / name).read_text(encoding="utf-8"))

    assert [module["type"].removeprefix("sentence_transformers.models.") for module in read("modules.json")] == [
        *("Transformer", "Pooling", "Dense", "Normalize")
    ]
    assert [module["path"] for module in read("modules.json")] == ["", "1_Pooling", "2_Dense", "3_Normalize"]
    assert read("1_Pooling/config.json") == {
        "word_embedding_dimension": 32,
        "pooling_mode_cls_token": False,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_mean_sqrt_len_tokens": False,
        "pooling_mode_weightedmean_tokens": False,
        "pooling_mode_lasttoken": False,
        "include_prompt": True,
        "pooling_mode": "mean",
    }
    assert read("2_Dense/config.json") == {
        "in_features": 32,
        "out_features": 16,
        "bias": True,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    assert read("sentence_bert_config.json") == {"max_seq_length": 32, "do_lower_case": False}
    assert read("tokenizer_config.json")["model_max_length"] == 32
    assert read("config.json")["matryoshka_dimensions"] == [16, 8]
    about = read("config_sentence_transformers.json")
    assert about["prompts"] == {
        "query": "",
        "document": "",
        "search_query": "query: ",
        "search_document": "post: ",
        "interest": "",
        "storyline": "",
    }
    assert (about["default_prompt_name"], about["similarity_fn_name"]) == (None, "cosine")


@pytest.mark.parametrize("reader", [TextEmbeddingsInference, Vllm])
def test_servers_accept_the_folder(reader: Any, run: TextEncoder, exported: Path) -> None:
    model = reader(exported)
    assert model.max_length == 32
    torch.testing.assert_close(model.encode(TEXTS), run.encode(TEXTS), **CLOSE)
    if reader is Vllm:
        torch.testing.assert_close(model.encode(TEXTS, dimensions=8), run.encode(TEXTS, dim=8), **CLOSE)
        with pytest.raises(ValueError, match="dimensions"):
            model.encode(TEXTS, dimensions=5)


def test_by_hand(run: TextEncoder, exported: Path) -> None:
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(exported)
    model: Any = transformers.AutoModel.from_pretrained(exported).eval()
    batch = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    assert batch["input_ids"].shape[1] == 32, "the tokenizer knows the max length"
    with torch.no_grad():
        states = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    dense = load_file(exported / "2_Dense" / "model.safetensors")
    pooled = (states * mask).sum(dim=1) / mask.sum(dim=1)
    vectors = F.normalize(F.linear(pooled, dense["linear.weight"], dense["linear.bias"]), dim=-1)
    torch.testing.assert_close(vectors, run.encode(TEXTS), **CLOSE)


@pytest.mark.parametrize(("task", "dim"), [(None, 8), ("search", 5), ("interest", None), ("interest", 3)])
def test_one_task_and_leading_dimensions(
    task: str | None, dim: int | None, run: TextEncoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "model"
    run.save_pretrained(folder, task=task, dim=dim)
    names = ["query", "document"] if task == "search" else [None, None]
    again = TextEncoder.load(folder, device="cpu")
    for name, role in zip(names, ("query", "document"), strict=True):
        wanted = run.encode(TEXTS, task=task, role=role, dim=dim)
        torch.testing.assert_close(encoded(folder, TEXTS, prompt_name=name), wanted, **CLOSE)
        torch.testing.assert_close(again.encode(TEXTS, role=role), wanted, **CLOSE)
        if task:
            torch.testing.assert_close(again.encode(TEXTS, task=task, role=role), wanted, **CLOSE)
    assert ("were not trained at" in caplog.text) == (dim in (5, 3))
    assert ("tasks with a head of their own (interest) are left out" in caplog.text) == (task is None)
    assert ("do not apply, so their vectors would differ" in caplog.text) == (task == "interest")
    assert list(again.facts.tasks) == ([task] if task else ["search", "storyline"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "serch"}, "task is 'serch', which is not a task of the run; did you mean 'search'"),
        ({"dim": 17}, "dim is 17: give 1 to 16"),
        ({"dim": 0}, "dim is 0: give 1 to 16"),
        ({"task": "interest", "dim": 5}, "dim is 5: give 1 to 4"),
    ],
)
def test_what_the_encoder_does_not_have_is_refused(
    options: dict[str, Any], words: str, run: TextEncoder, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        run.save_pretrained(tmp_path / "model", **options)
    assert list(tmp_path.iterdir()) == [], "nothing is left of an export that failed"


def test_an_existing_folder_is_refused(run: TextEncoder, exported: Path) -> None:
    with pytest.raises(ConfigError, match="exists: remove it, or give another folder"):
        run.save_pretrained(exported)


@pytest.mark.parametrize(
    "family",
    [
        "roberta",
        "qwen3",
        *(
            pytest.param(family, marks=pytest.mark.nightly)
            for family in FAMILIES
            if family not in ("bert", "roberta", "qwen3")
        ),
    ],
)
def test_architectures(family: str, tmp_path: Path) -> None:
    base = TextEncoder.base(
        {"name": str(write_model(tmp_path / "base", family)), "dim": 8}, device="cpu", max_length=24
    )
    base.save_pretrained(tmp_path / "model")
    wanted, again = base.encode(TEXTS), TextEncoder.load(tmp_path / "model", device="cpu")
    assert again.fingerprint() == base.fingerprint()
    torch.testing.assert_close(again.encode(TEXTS), wanted, **CLOSE)
    torch.testing.assert_close(encoded(tmp_path / "model", TEXTS), wanted, **CLOSE)


@pytest.mark.parametrize(
    "pooling", ["cls", "last", "max", "weighted_mean", "sqrt_mean", ["mean", "cls"], ["max", "mean"]]
)
@pytest.mark.parametrize("dim", [None, 8])
def test_poolings(pooling: Any, dim: int | None, tiny_model: Path, tmp_path: Path) -> None:
    base = TextEncoder.base({"name": str(tiny_model), "pooling": pooling, "dim": dim}, device="cpu")
    base.save_pretrained(tmp_path / "model")
    torch.testing.assert_close(encoded(tmp_path / "model", TEXTS), base.encode(TEXTS), **CLOSE)
    torch.testing.assert_close(TextEncoder.load(tmp_path / "model").encode(TEXTS), base.encode(TEXTS), **CLOSE)


def test_a_pooling_twice_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    base = TextEncoder.base({"name": str(tiny_model), "pooling": ["mean", "mean"]}, device="cpu")
    with pytest.raises(ConfigError, match="no layout has a pooling twice"):
        base.save_pretrained(tmp_path / "model")


def test_code_of_the_models_own_repository_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    base = TextEncoder.base({"name": str(tiny_model)}, device="cpu")
    backbone: Any = base.model.backbone
    backbone.__class__ = type("OwnModel", (type(backbone),), {"__module__": "transformers_modules.own"})
    with pytest.raises(ConfigError, match="OwnModel of its repository's own code"):
        base.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_tokenizer_that_changes_when_it_is_saved_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    class Shouting(Tokenizer):
        def __call__(self, texts: list[str], max_length: int) -> Ragged:
            return super().__call__([f"{text} red" for text in texts], max_length)

    base = TextEncoder.base({"name": str(tiny_model)}, device="cpu")
    odd = replace(base, tokenizer=Shouting(base.tokenizer.backend, "odd"))
    with pytest.raises(ConfigError, match="the tokenizer gives other tokens for 'A probe"):
        odd.save_pretrained(tmp_path / "model")


def test_two_prompts_of_one_name(tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = replace(TextEncoder.base({"name": str(tiny_model)}, device="cpu"), prompts={"query": Prompt("a ", "a ")})
    base.save_pretrained(tmp_path / "model")
    about = json.loads((tmp_path / "model" / "config_sentence_transformers.json").read_text())
    assert about["prompts"] == {"query": "", "document": ""}
    assert "two prompts would be called 'query': the one of task 'query' is left out" in caplog.text


def test_layers_of_the_base_model(tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from sentence_transformers.base.modules.dense import Dense
    from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Normalize

    torch.manual_seed(0)
    layers = [
        Dense(32, 24, activation_function=torch.nn.Tanh()),
        Dropout(0.1),
        Dense(24, 24, activation_function=torch.nn.Identity(), use_residual=True),
        LayerNorm(24),
        Dense(24, 20, bias=False, activation_function=torch.nn.ReLU(), use_residual=True),
        Normalize(),
    ]
    theirs = write_sentence_transformer(tmp_path / "base", tiny_model, *layers, truncate_dim=10)
    for name, options in {"all": {}, "projected": {"dim": 6}}.items():
        base = TextEncoder.base({"name": str(tmp_path / "base"), **options}, device="cpu")
        base.save_pretrained(tmp_path / name)
        wanted = base.encode(TEXTS)
        torch.testing.assert_close(encoded(tmp_path / name, TEXTS), wanted, **CLOSE)
        torch.testing.assert_close(TextEncoder.load(tmp_path / name).encode(TEXTS), wanted, **CLOSE)
    assert theirs.encode(TEXTS).shape[1] == 10
    assert "a layer normalisation" in caplog.text
    assert "residual dense layer, which only mtcl and sentence-transformers 5.7 or later" in caplog.text


def test_lower_case_is_part_of_the_tokenizer(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "base")
    write_tokenizer(tmp_path / "base", do_lower_case=False)
    (tmp_path / "base" / "sentence_bert_config.json").write_text('{"max_seq_length": 32, "do_lower_case": true}')
    write_sentence_transformer(tmp_path / "cased", tmp_path / "base")
    file = tmp_path / "cased" / "sentence_bert_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"do_lower_case": True}))
    base = TextEncoder.base({"name": str(tmp_path / "cased")}, device="cpu")
    base.save_pretrained(tmp_path / "model")
    for texts in (["RED Dog"], ["red dog"]):
        torch.testing.assert_close(encoded(tmp_path / "model", texts), base.encode(["red dog"]), **CLOSE)
        torch.testing.assert_close(
            TextEmbeddingsInference(tmp_path / "model").encode(texts), base.encode(["red dog"]), **CLOSE
        )


def test_one_prompt_for_all_is_the_default(tiny_model: Path, tmp_path: Path) -> None:
    base = TextEncoder.base({"name": str(tiny_model)}, prompt="post ", device="cpu")
    base.save_pretrained(tmp_path / "model")
    torch.testing.assert_close(encoded(tmp_path / "model", TEXTS), base.encode(TEXTS), **CLOSE)
    torch.testing.assert_close(TextEncoder.load(tmp_path / "model").encode(TEXTS), base.encode(TEXTS), **CLOSE)


def executed(code: str) -> dict[str, Any]:
    """The names that the code defines."""
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def test_the_code_of_the_card_runs(
    exported: Path, run: TextEncoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(exported.parent)
    text = (exported / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert len(blocks) == 3
    by_mtcl, by_sentence_transformers, by_hand = map(executed, blocks)
    wanted = float(by_mtcl["query"] @ by_mtcl["documents"][0])
    assert by_sentence_transformers["query"] @ by_sentence_transformers["documents"][0] == pytest.approx(
        wanted, abs=1e-6
    )
    assert float(by_hand["vectors"][0] @ by_hand["vectors"][1]) == pytest.approx(wanted, abs=1e-6)
    assert "| `search` | " in text
    assert "`Matryoshka(InfoNCE(), dims=[8])`" in text
    assert f"`{run.fingerprint()}`" in text
    assert "base_model" not in text, "the base is a folder"
    assert str(tmp_path.parent.parent) not in text
    assert "| 16 |" in text


def test_what_is_unknown_is_left_out_of_the_card(tiny_model: Path, tmp_path: Path) -> None:
    TextEncoder.load(tiny_model, device="cpu").save_pretrained(tmp_path / "model")
    text = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    for word in ("Tasks", "None:", "seed", "difference", "trained with"):
        assert (word in text) == (word == "None:")


def test_a_cut_that_was_trained_gives_no_warning(run: TextEncoder, caplog: pytest.LogCaptureFixture) -> None:
    Exported(run, "search", 8)
    assert caplog.text == ""
