"""Interpolates the weights of encoders with a common origin.

Weights fine-tuned from one origin lie in one basin: their mean performs as well as each, often better (model soups,
Wortsman et al. 2022, arXiv 2203.05482), and a mean with the base encoder restores what fine-tuning forgot (LM-Cocktail,
Xiao et al. 2023, arXiv 2311.13534). This needs a common origin, so projections that started differently are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtcl.encoder.module_state import BASE_HEADS, ENCODER, ORIGINS, WEIGHTING, State, part
from mtcl.errors import ConfigError


@dataclass(frozen=True)
class Ingredient:
    """A module's weights, with a name for messages; `weight` is its share, in any unit."""

    name: str
    state: State
    weight: float


def merge(ingredients: Sequence[Ingredient]) -> State:
    """The weighted mean of each tensor over the ingredients that have it; weights are divided by their sum.

    All must have the same encoder; loss parameters may be in some ingredients only. Raises `ConfigError` if they do not
    fit.
    """
    _check_weights([one.weight for one in ingredients])
    for other in ingredients[1:]:
        _check_fit(ingredients[0], other)
    names = dict.fromkeys(n for one in ingredients for n in one.state if not n.startswith(WEIGHTING))
    return {name: _mean(name, [one for one in ingredients if name in one.state]) for name in names}


def _mean(name: str, parts: Sequence[Ingredient]) -> Tensor:
    first = parts[0].state[name]
    total = sum(one.weight for one in parts)
    if not first.is_floating_point() or name.startswith(ORIGINS) or total == 0:
        return first.clone()
    mean = torch.zeros_like(first, dtype=torch.float64)  # shares of equal weights in bfloat16 sum to another weight
    for one in parts:
        if one.weight:
            mean += one.state[name].double() * (one.weight / total)
    return mean.to(first.dtype)


def _check_weights(weights: list[float]) -> None:
    if min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise ConfigError(f"weights are {', '.join(map(str, weights))}: give 0 or more each, and not all 0")


def _check_fit(one: Ingredient, other: Ingredient) -> None:
    """Raise `ConfigError` unless names and shapes of the encoder's tensors and the initial projections are the same."""
    shapes = [{k: tuple(v.shape) for k, v in part(each.state, ENCODER).items()} for each in (one, other)]
    differing = [name for name in shapes[0] | shapes[1] if shapes[0].get(name) != shapes[1].get(name)]
    if differing:
        name = differing[0]
        found = [shape.get(name, "absent") for shape in shapes]
        raise ConfigError(
            f"{one.name!r} and {other.name!r} are different encoders ({name}: {found[0]} and "
            f"{found[1]}): merge runs of one base encoder and one model.encoder.dim"
        )
    for name in one.state:
        if name.startswith(ORIGINS) and not torch.equal(one.state[name], other.state.get(name, one.state[name])):
            parts = "heads" if name.startswith(BASE_HEADS) else "projections"
            raise ConfigError(
                f"the {parts} of {one.name!r} and {other.name!r} started differently (a PCA of other texts), so "
                "their dimensions mean different things: start one run from the other's weights with --init_from"
            )
