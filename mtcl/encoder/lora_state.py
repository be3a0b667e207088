"""The weights of an encoder with adapters as those of a plain one, and back; tensors only, without `peft`.

Averaging or comparing A and B separately is wrong: the mean of two products is not the product of the means. So every
reader but the run itself takes the weights with the adapters added.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from mtcl.encoder.module_state import State
from mtcl.errors import ConfigError

BASE, A, B = ".base_layer.", ".lora_A.default.weight", ".lora_B.default.weight"


def is_adapter(name: str) -> bool:
    """Whether a weight is part of an adapter."""
    return name.endswith((A, B))


def has_adapters(state: Iterable[str]) -> bool:
    """Whether any of a state's weights is part of an adapter."""
    return any(map(is_adapter, state))


def plain_name(name: str) -> str:
    """The weight's name in an encoder without adapters."""
    return name.replace(BASE, ".")


def merged(state: State, *, alpha: float) -> State:
    """The state without adapters: W becomes W + alpha / r * B A. Raises `ConfigError` for adapters that don't fit."""
    found: State = {}
    for name, value in state.items():
        if is_adapter(name):
            continue
        owner = name.removesuffix(f"{BASE}weight")
        if owner != name and f"{owner}{A}" in state:
            value = _sum(name, value, state[f"{owner}{A}"], state.get(f"{owner}{B}"), alpha=alpha)
        found[plain_name(name)] = value.float() if value.dtype == torch.bfloat16 else value
    return found


def _sum(name: str, weight_OI: Tensor, a_RI: Tensor, b_OR: Tensor | None, *, alpha: float) -> Tensor:
    if b_OR is None or b_OR.dim() != 2 or a_RI.dim() != 2 or b_OR.shape[1] != len(a_RI) or len(a_RI) == 0:
        raise ConfigError(f"the adapter of {plain_name(name)} is not whole")
    if weight_OI.shape != (len(b_OR), a_RI.shape[1]):
        raise ConfigError(f"the adapter of {plain_name(name)} has another size than the weight")
    return weight_OI.float() + (alpha / len(a_RI)) * (b_OR.float() @ a_RI.float())


def as_named(plain: State, names: Iterable[str]) -> State:
    """A plain state under the names of an encoder that may have adapters, without values for the adapters."""
    return {name: plain[plain_name(name)] for name in names if not is_adapter(name) and plain_name(name) in plain}
