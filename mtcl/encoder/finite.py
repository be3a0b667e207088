"""Refuses weights with NaN or infinite values: all vectors would be NaN, and evaluations would still give figures."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mtcl.errors import ConfigError


def check_finite(state: Mapping[str, Tensor], whose: str, *, advice: str) -> None:
    """Raise `ConfigError` with the name of the first tensor that has a NaN or an infinite value, and `advice`."""
    for name, value in state.items():
        if not value.is_floating_point() or not value.numel():
            continue
        if not torch.isfinite(torch.stack(value.detach().aminmax())).all():  # without a copy of the weights
            num_odd = int((~torch.isfinite(value)).sum())
            raise ConfigError(f"{whose}: {num_odd:,} of {value.numel():,} values of {name} are not finite: {advice}")
