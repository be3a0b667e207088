"""The base encoder that a run is compared with: it is loaded again when needed, and its validation metrics are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder

if TYPE_CHECKING:
    from mtcl.training.module import MtclModule


class BaseReference:
    """The encoder before training, with its initial projection.

    `figures` are its primary metrics on validation by task, including held-out tasks; `weights` is the fingerprint of
    its backbone.
    """

    def __init__(self, config: EncoderConfig, encoder: Encoder) -> None:
        self.config, self.weights = config, encoder.fingerprint()
        self.projection: nn.Linear | None = None
        if encoder.projection is not None:
            self.projection = deepcopy(encoder.projection).requires_grad_(False)
        self.figures: dict[str, float] = {}

    def begin_with(self, encoder: Encoder) -> None:
        """Keep the encoder's projection as the initial one."""
        if self.projection is not None and encoder.projection is not None:
            self.projection.load_state_dict(encoder.projection.state_dict())

    def encoder(self, device: torch.device) -> Encoder:
        """Load the base encoder again, without adapters and with nothing that trains."""
        config = replace(self.config, compile=False, train="none", lora=None, freeze_layers=0)
        encoder = Encoder.load(config).to(device)
        if encoder.projection is not None and self.projection is not None:
            encoder.projection.load_state_dict(self.projection.state_dict())
        return encoder


@contextmanager
def as_base(module: MtclModule) -> Iterator[None]:
    """Inside this context, a module has the base encoder and no heads; afterwards it has its own ones again."""
    own = module.encoder, module.heads
    module.encoder, module.heads = module.base.encoder(module.device), nn.ModuleDict()
    try:
        yield
    finally:
        module.encoder, module.heads = own
