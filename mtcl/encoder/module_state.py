"""A module's state: its weights by name, and the prefix of each part."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

State = dict[str, Tensor]
ENCODER, PROJECTION, HEADS, LOSSES, WEIGHTING = "encoder.", "encoder.projection.", "heads.", "losses.", "weighting."
ORIGINS = BASE_PROJECTION, BASE_HEADS = "base_projection.", "base_heads."
"""The values that projection and heads started from."""
SIZED = (PROJECTION, HEADS, *ORIGINS)
"""The parts whose size is an option."""


def part(state: Mapping[str, Tensor], prefix: str) -> State:
    """The weights whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
