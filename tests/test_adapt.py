"""What trains of an encoder, in eleven families of architectures: frozen layers, adapters, parameters without a part.

python -m pytest tests/test_adapt.py
"""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mtcl.arrays import Ragged, offsets_of
from mtcl.data.packing import Packed, pack
from mtcl.encoder.adapt import freeze_unused, leaves_of
from mtcl.encoder.backbone import digest_of
from mtcl.encoder.config import EncoderConfig, LoraConfig
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.layers import layers_of, stack_of
from mtcl.encoder.lora_state import as_named, merged
from mtcl.errors import ConfigError
from mtcl.training.optimizer import OptimizerConfig, build_optimizer

BERT = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
BERT |= {"max_position_embeddings": 64}
DECODER = BERT | {"num_key_value_heads": 1, "head_dim": 8}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Bert": ("BertModel", BERT),
    "Roberta": ("RobertaModel", BERT),
    "MPNet": ("MPNetModel", BERT),
    "DistilBert": ("DistilBertModel", {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 24}),
    "T5": ("T5EncoderModel", {"d_model": 16, "num_layers": 3, "num_heads": 2, "d_kv": 8, "d_ff": 24}),
    "DebertaV2": ("DebertaV2Model", BERT | {"relative_attention": True, "norm_rel_ebd": "layer_norm"}),
    "ModernBert": ("ModernBertModel", BERT | {"global_attn_every_n_layers": 2, "local_attention": 8}),
    "Qwen3": ("Qwen3Model", DECODER),
    "Llama": ("LlamaModel", DECODER),
    "Gemma3Text": ("Gemma3TextModel", DECODER | {"layer_types": ["sliding_attention"] * 2 + ["full_attention"]}),
    "XLNet": ("XLNetModel", {"d_model": 16, "n_layer": 3, "n_head": 2, "d_inner": 24}),
}
BELOW = {"MPNet": "relative_attention_bias", "DebertaV2": "encoder.LayerNorm", "T5": "relative_attention_bias"}
"""Tables that all layers share, though they are registered after or in the first layer."""
TOP = {"T5": "final_layer_norm", "ModernBert": "final_norm", "Qwen3": "norm", "Llama": "norm", "Gemma3Text": "norm"}


def backbone(family: str) -> Any:
    import transformers

    name, sizes = FAMILIES[family]
    torch.manual_seed(0)
    special = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    config = getattr(transformers, f"{family}Config")(vocab_size=90, **special, **sizes)
    without_pooler = {"add_pooling_layer": False} if family in ("Bert", "Roberta", "MPNet") else {}
    return getattr(transformers, name)._from_config(config, attn_implementation="eager", **without_pooler)


def encoder_of(family: str, *, dim: int | None = None, attention: str = "eager", **options: Any) -> Encoder:
    encoder = Encoder(backbone(family), dim=dim).train()
    encoder.choose_attention(attention)
    encoder.adapt(EncoderConfig(dim=dim, **options))
    return encoder


def texts() -> Packed:
    lengths = np.array([3, 12, 7, 5])
    tokens = Ragged(offsets_of(lengths), np.random.default_rng(0).integers(5, 87, lengths.sum()))
    return pack(tokens, tokens_per_chunk=64)


def steps(encoder: Encoder, *, num: int = 2, mixed: bool = False) -> set[str]:
    """The names of the parameters that move in some steps of training, in bf16-mixed if `mixed`."""
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in encoder.parameters() if p.requires_grad], lr=0.01, weight_decay=0)
    for _ in range(num):
        encoder.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss = encoder(texts())[:, :4].sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name for name, p in encoder.named_parameters() if not torch.equal(p, before[name])}


def names_of(encoder: Encoder, parameters: list[nn.Parameter]) -> set[str]:
    wanted = {id(p) for p in parameters}
    return {name for name, p in encoder.named_parameters() if id(p) in wanted}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_is_on_one_floor(family: str) -> None:
    model = backbone(family)
    layers = layers_of(model)
    floors = layers.floors()
    assert len(layers.stack) == 3
    assert len(floors) == 4
    assert sorted(id(p) for floor in floors for p in floor) == sorted(id(p) for p in model.parameters())
    below = {name for name, p in model.named_parameters() if any(p is one for one in layers.embeddings)}
    top = {name for name, p in model.named_parameters() if any(p is one for one in layers.top)}
    assert any("embed" in name or "shared" in name for name in below)
    if family in BELOW:
        assert any(BELOW[family] in name for name in below)
    assert all(TOP[family] in name for name in top) if family in TOP else not top
    assert bool(top) == (family in TOP)


def test_a_list_inside_a_layer_is_not_the_stack() -> None:
    import transformers

    sizes = FAMILIES["T5"][1] | {"num_layers": 1}
    found = stack_of(transformers.T5EncoderModel(transformers.T5Config(vocab_size=9, **sizes)))
    assert found is not None
    assert found[0] == "encoder.block"


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_layers_keep_their_bits_and_the_others_move(family: str) -> None:
    encoder = encoder_of(family, freeze_layers=2, dropout=0.0)
    freeze_unused(encoder)
    moved, floors = steps(encoder), layers_of(encoder.backbone).floors()
    assert not moved & names_of(encoder, [p for floor in floors[:3] for p in floor])
    trained = names_of(encoder, [p for p in floors[3] if p.requires_grad])
    still = trained - moved
    assert not [name for name in still if not name.endswith(("k.bias", "key.bias", "k_proj.bias", "k_lin.bias"))], still


@pytest.mark.parametrize("family", FAMILIES)
def test_unused_parameters_are_found_in_the_graph(family: str) -> None:
    """Exactly those that get no gradient from a backward pass over other texts."""
    encoder = Encoder(backbone(family)).train()
    unused = set(freeze_unused(encoder))
    assert encoder.training
    encoder.requires_grad_(True)
    encoder(texts())[:, :4].sum().backward()
    assert {name for name, p in encoder.backbone.named_parameters() if p.grad is None} == unused
    assert ("mask_emb" in unused) == (family == "XLNet")


def test_an_unused_expert_still_trains() -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(2))
            self.idle = nn.Linear(16, 16)

    model = backbone("Bert")
    model.more = Experts()
    assert set(freeze_unused(Encoder(model))) == {"more.idle.weight", "more.idle.bias"}


def test_leaves_of_a_graph() -> None:
    a, b, c = (torch.ones(2, requires_grad=True) for _ in range(3))
    assert {id(x) for x in leaves_of((a * 2 + a * b.detach()).sum() + c[0] * 0)} == {id(a), id(c)}


@pytest.mark.parametrize("family", FAMILIES)
def test_only_adapters_and_projection_train_with_lora(family: str) -> None:
    encoder = encoder_of(family, dim=8, train="lora", lora=LoraConfig(r=2, alpha=4))
    expected = Encoder(backbone(family), dim=8)
    expected.projection = encoder.projection
    with torch.no_grad():
        torch.testing.assert_close(encoder.eval()(texts()), expected.eval()(texts()), atol=1e-6, rtol=0)
    moved = steps(encoder, num=3)
    adapters = {name for name, _ in encoder.named_parameters() if ".lora_" in name}
    linear = [m for layer in layers_of(backbone(family)).stack for m in layer.modules() if isinstance(m, nn.Linear)]
    assert len(adapters) == 2 * len(linear) > 0
    assert adapters - moved == set()
    assert moved - adapters == {"projection.weight", "projection.bias"}
    assert encoder.base_digest == digest_of(backbone(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_weights_give_the_same_vectors(family: str) -> None:
    encoder = encoder_of(family, train="lora", lora=LoraConfig(r=2, alpha=3, dropout=0.1))
    steps(encoder, num=3)
    plain = Encoder(backbone(family))
    with torch.no_grad():
        before, trained = plain.eval()(texts()), encoder.eval()(texts())
        plain.load_state_dict(merged(encoder.state_dict(), alpha=3))
        assert float((trained - before).abs().max()) > 1e-3
        assert float((plain.eval()(texts()) - trained).abs().max()) < 1e-6
    again = as_named(plain.state_dict(), encoder.state_dict())
    assert {name for name in encoder.state_dict() if ".lora_" not in name} == set(again)


def test_targets_and_frozen_layers_of_lora() -> None:
    encoder = encoder_of("Bert", train="lora", lora=LoraConfig(target_modules=["query", "output.dense"]))
    owners = {name.partition(".lora_")[0] for name, _ in encoder.named_parameters() if ".lora_" in name}
    assert {name.partition("layer.")[2][2:] for name in owners} == {
        "attention.self.query",
        "attention.output.dense",
        "output.dense",
    }
    encoder = encoder_of("Bert", train="lora", freeze_layers=2)
    assert {name.split("layer.")[1][0] for name, _ in encoder.named_parameters() if ".lora_" in name} == {"2"}
    with pytest.raises(
        ConfigError, match=r"target_modules has 'querry', which is not a linear layer of BertModel: .*qu"
    ):
        encoder_of("Bert", train="lora", lora=LoraConfig(target_modules=["querry"]))
    with pytest.raises(ConfigError, match="3 of 3 layers are frozen"):
        encoder_of("Bert", train="lora", freeze_layers=3)


def test_lora_works_without_padding() -> None:
    found = []
    for attention in ("eager", "unpadded"):
        encoder = encoder_of("Bert", attention=attention, train="lora", dropout=0.0).eval()
        torch.manual_seed(1)
        for name, parameter in encoder.named_parameters():
            if ".lora_" in name:
                nn.init.normal_(parameter, std=0.1)
        encoder(texts())[:, :4].sum().backward()
        found.append([p.grad for p in encoder.parameters() if p.grad is not None])
    assert encoder.first_position == 0
    for padded, without in zip(*found, strict=True):
        torch.testing.assert_close(without, padded, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["Bert", "ModernBert", "Qwen3", "T5", "MPNet", "DistilBert"])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_base_in_bfloat16(family: str, mixed: bool) -> None:
    """Half the memory; adapters and projection are float32 and train, in both precisions."""
    encoder = encoder_of(family, dim=8, train="lora", frozen_dtype="bfloat16")
    types = {(".lora_" in name or "projection" in name): p.dtype for name, p in encoder.named_parameters()}
    assert types == {True: torch.float32, False: torch.bfloat16}
    assert all(b.dtype != torch.bfloat16 for b in encoder.buffers())
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        vectors_TD = encoder(texts())
    moved = steps(encoder, mixed=mixed)
    assert vectors_TD.dtype == torch.float32
    assert moved == {name for name, p in encoder.named_parameters() if p.dtype == torch.float32}
    assert encoder.base_digest == digest_of(backbone(family)), "that of the weights in float32"


def test_a_backbone_that_mixes_types() -> None:
    model = backbone("Bert")
    model.embeddings.register_forward_hook(lambda module, given, found: found.float())
    with pytest.raises(ConfigError, match="frozen_dtype is bfloat16, which BertModel does not support"):
        Encoder(model).adapt(EncoderConfig(train="none", frozen_dtype="bfloat16"))


@pytest.mark.parametrize(("train", "expected"), [("head", {"projection.weight", "projection.bias"}), ("none", set())])
def test_a_frozen_backbone_has_no_dropout(train: Any, expected: set[str]) -> None:
    encoder = encoder_of("Bert", dim=8, train=train)
    assert {name for name, p in encoder.named_parameters() if p.requires_grad} == expected
    encoder.train()
    assert encoder.training
    assert torch.equal(encoder(texts()), encoder(texts()))
    bare = encoder.without_projection()
    bare.embed(Ragged(np.array([0, 3]), np.array([5, 6, 7])), tokens_per_chunk=64)
    assert not encoder.backbone.training
    if expected:
        assert steps(encoder) == expected


def test_an_encoder_without_its_projection_has_all_else() -> None:
    encoder = encoder_of("Bert", dim=8, train="lora")
    encoder.activation_checkpointing = True
    bare = encoder.without_projection()
    assert encoder.projection is not None
    assert bare.projection is None
    assert bare.dim == encoder.own_dim
    assert {name for name in vars(encoder) if vars(bare)[name] is not vars(encoder)[name]} == {"_modules"}
    assert [*bare.parameters()] == [p for name, p in encoder.named_parameters() if not name.startswith("projection.")]


def test_embedding_leaves_the_mode_of_every_module_as_it_was() -> None:
    """And has no dropout, whatever the modes are."""
    encoder, texts = encoder_of("Bert"), Ragged(np.array([0, 3]), np.array([5, 6, 7]))
    vectors = encoder.eval().embed(texts, tokens_per_chunk=64)
    assert not any(module.training for module in encoder.modules())
    encoder.backbone.encoder.layer[0].train()
    modes = [module.training for module in encoder.modules()]
    assert any(modes)
    assert torch.equal(encoder.embed(texts, tokens_per_chunk=64), vectors)
    assert [module.training for module in encoder.modules()] == modes


def test_the_last_layer_that_trains_is_the_shared_one() -> None:
    encoder = encoder_of("Bert", dim=8, train="lora")
    names = names_of(encoder, encoder.last_shared())
    assert all(("layer.2" in name and "lora" in name) or "projection" in name for name in names)
    assert len(names) == 12 + 2
    assert names_of(encoder, encoder_of("Bert", dim=8, train="head").last_shared()) == set()
    assert len(encoder_of("Bert", dim=8, train="head").last_shared()) == 2
    assert encoder_of("Bert", dim=8, train="none").last_shared() == []


@pytest.mark.parametrize("family", FAMILIES)
def test_rates_fall_from_layer_to_layer(family: str) -> None:
    model = backbone(family)
    config = OptimizerConfig(lr=1.0, head_lr=5.0, layer_decay=0.5, weight_decay=0.1)
    optimizer = build_optimizer(config, backbone=model, heads=[nn.Linear(2, 2)])
    assert optimizer.param_groups[0]["lr"] == 1.0, "the rate that is logged"
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for distance, floor in enumerate(reversed(layers_of(model).floors())):
        assert {rates[id(p)] for p in floor} == {0.5**distance}
    for group in optimizer.param_groups:
        assert {p.ndim >= 2 for p in group["params"]} == {group["weight_decay"] > 0}


def test_without_layer_decay_the_groups_are_as_before() -> None:
    optimizer = build_optimizer(OptimizerConfig(), backbone=backbone("Bert"), heads=[nn.Linear(2, 2)])
    assert len(optimizer.param_groups) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora": LoraConfig()}, r"model\.encoder\.lora is set, but train is all: give train: lora, or lora: null"),
        ({"freeze_layers": 1, "train": "head"}, r"freeze_layers is 1, but train is head"),
        ({"freeze_layers": 1, "train": "none"}, r"freeze_layers is 1, but train is none"),
        ({"freeze_layers": -1}, "freeze_layers is -1: give 0 or more"),
        ({"frozen_dtype": "bfloat16"}, "frozen_dtype is bfloat16, but train is all"),
        ({"lora": {"r": 0}, "train": "lora"}, r"lora\.r is 0: give at least 1"),
        ({"lora": {"dropout": 1.0}, "train": "lora"}, r"lora\.dropout is 1.0"),
        ({"lora": {"alpha": 0}, "train": "lora"}, r"lora\.alpha is 0"),
        ({"lora": {"target_modules": []}, "train": "lora"}, "target_modules is empty"),
        ({"lora": {"rank": 3}, "train": "lora"}, r"encoder\.lora has an unknown name 'rank'"),
        ({"lora": {"r": "x"}, "train": "lora"}, r"encoder\.lora\.r is 'x': give a whole number"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EncoderConfig.of(options)


def test_more_frozen_layers_than_there_are() -> None:
    with pytest.raises(ConfigError, match="freeze_layers is 4, but the encoder has 3 layers: give at most 3"):
        encoder_of("Bert", freeze_layers=4)


def test_layer_decay_out_of_range() -> None:
    for value in (0.0, 1.1):
        with pytest.raises(ConfigError, match=f"layer_decay is {value}: give more than 0 and at most 1"):
            OptimizerConfig(layer_decay=value)


def test_lora_has_defaults_and_needs_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    assert EncoderConfig(train="lora").adapter == LoraConfig(r=16, alpha=32)
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("peft"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"train is lora, which needs peft: pip install 'mtcl\[lora\]'"):
        encoder_of("Bert", train="lora")


def test_a_loaded_encoder_is_adapted(tiny_model: Path) -> None:
    encoder = Encoder.load(EncoderConfig(name=str(tiny_model), train="lora", lora=LoraConfig(r=2)))
    assert encoder.base_weights() == Encoder.load(EncoderConfig(name=str(tiny_model))).base_weights()
    assert encoder.first_position == 0
