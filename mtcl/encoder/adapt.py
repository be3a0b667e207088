"""Chooses which parameters of an encoder train: freezing, LoRA adapters, and parameters that no vector depends on.

The adapters are those of `peft`, injected into the backbone in place: its class and its `forward` stay the same, so
attention without padding and the kernels of `kernels.py` work as before. A weight W with an adapter is named
`X.base_layer.weight` in the state, and the adapter `X.lora_A.default.weight` (r, in) and `X.lora_B.default.weight`
(out, r); `lora_state.py` converts between such a state and a plain one.
"""

from __future__ import annotations

import importlib
import logging
import re
from typing import Any

import torch
from torch import Tensor, nn

from mtcl.encoder.config import EncoderConfig, LoraConfig
from mtcl.encoder.layers import Layers, layers_of
from mtcl.encoder.trial import two_texts
from mtcl.errors import ConfigError

log = logging.getLogger("mtcl")
EXPERT = "expert"
"""Part of the name of parameters that only some tokens use, in a mixture of experts."""


def adapt(backbone: nn.Module, config: EncoderConfig) -> None:
    """Freeze parameters and inject adapters, as configured. Call it before the backbone is compiled.

    Raises `ConfigError` if the backbone does not have the layers that the configuration names.
    """
    if config.freeze_layers:
        layers = layers_of(backbone)
        _check_number(config.freeze_layers, layers)
        for floor in layers.floors()[: config.freeze_layers + 1]:
            for parameter in floor:
                parameter.requires_grad_(False)
    if config.train != "all":
        backbone.requires_grad_(False)
        for parameter in backbone.parameters():  # buffers keep theirs: rotary positions need float32
            parameter.data = parameter.data.to(getattr(torch, config.frozen_dtype))
    if config.adapter is not None:
        _inject(backbone, config.adapter, above=config.freeze_layers)


def _check_number(freeze_layers: int, layers: Layers) -> None:
    if freeze_layers > len(layers.stack):
        raise ConfigError(
            f"model.encoder.freeze_layers is {freeze_layers}, but the encoder has {len(layers.stack)} layers: "
            f"give at most {len(layers.stack)}"
        )


def _inject(backbone: nn.Module, lora: LoraConfig, *, above: int) -> None:
    """Give the linear layers of the layers `above` (counted from the lowest) an adapter each, in float32."""
    try:
        peft: Any = importlib.import_module("peft")
    except ImportError as error:
        raise ConfigError("model.encoder.train is lora, which needs peft: pip install 'mtcl[lora]'") from error
    names = _targets(backbone, lora, above=above)
    settings = peft.LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=names, bias="none"
    )
    peft.inject_adapter_in_model(settings, backbone)
    for name, parameter in backbone.named_parameters():
        is_adapter = ".lora_" in name
        parameter.requires_grad_(is_adapter)
        if is_adapter:
            parameter.data = parameter.data.float()


def _targets(backbone: nn.Module, lora: LoraConfig, *, above: int) -> list[str]:
    """The names of the linear layers that get an adapter. Raises `ConfigError` if there are none."""
    layers = layers_of(backbone)
    _check_number(above, layers)
    begins = [f"{layers.name}.{number}." for number in range(above, len(layers.stack))]
    linear = [name for name, module in backbone.named_modules() if isinstance(module, nn.Linear)]
    free = [name for name in linear if any(name.startswith(begin) for begin in begins)]
    if lora.target_modules is None:
        found = free
    else:
        known = sorted({name.rpartition(".")[2] for name in free})
        for target in lora.target_modules:
            if not any(name == target or name.endswith(f".{target}") for name in free):
                raise ConfigError(
                    f"model.encoder.lora.target_modules has {target!r}, which is not a linear layer of "
                    f"{type(backbone).__name__}: give some of {', '.join(known)}, or null for all"
                )
        found = [n for n in free if any(n == t or n.endswith(f".{t}") for t in lora.target_modules)]
    if not found:
        raise ConfigError(
            f"model.encoder.train is lora, but {above} of {len(layers.stack)} layers are frozen and the others have no "
            "linear layer for an adapter: give fewer model.encoder.freeze_layers"
        )
    return found


def freeze_unused(encoder: nn.Module) -> list[str]:
    """Freeze the parameters of an `Encoder`'s backbone that no vector depends on, such as XLNet's `mask_emb`; returns
    their names.

    They would never get a gradient, and such a parameter makes DDP stop averaging all gradients, without an error. The
    graph of a tiny forward pass leads to all parameters in use. Experts are not frozen, since other tokens may use
    them.
    """
    used = _used(encoder)
    if not used:
        return []
    rows = {name: p for name, p in _backbone_of(encoder).named_parameters() if p.requires_grad and EXPERT not in name}
    used_anywhere = {_shape_of_name(name) for name, p in rows.items() if id(p) in used}
    unused = [name for name, p in rows.items() if id(p) not in used and _shape_of_name(name) not in used_anywhere]
    for name in unused:
        rows[name].requires_grad_(False)
    if unused:
        log.debug("parameters without a part in any vector do not train: %s", ", ".join(unused))
    return unused


def _shape_of_name(name: str) -> str:
    """The name without numbers, which is the same in all layers."""
    return re.sub(r"\.\d+\.", ".#.", name)


def _used(encoder: nn.Module) -> set[int]:
    """The ids of the parameters that the vectors of two short texts depend on."""
    was_training = encoder.training
    encoder.eval()
    try:
        with torch.enable_grad():
            vectors_TD = encoder(two_texts(_backbone_of(encoder)).to(next(encoder.parameters()).device))
    except (TypeError, ValueError, RuntimeError, AttributeError, LookupError) as error:
        log.debug("no forward pass to find unused parameters: %s", error)
        return set()
    finally:
        encoder.train(was_training)
    return {id(leaf) for leaf in leaves_of(vectors_TD)}


def _backbone_of(encoder: nn.Module) -> nn.Module:
    return encoder.get_submodule("backbone")


def leaves_of(value: Tensor) -> list[Tensor]:
    """The tensors that would get a gradient from `value.backward()`, from its graph alone."""
    found: dict[int, Tensor] = {}
    seen, waiting = set(), [value.grad_fn]
    while waiting:
        node: Any = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found[id(node.variable)] = node.variable
        waiting += [following for following, _ in node.next_functions]
    return list(found.values())
