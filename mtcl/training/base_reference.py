"""The base encoder that a run is compared with, which is loaded again when it is needed."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn

from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder


class BaseReference:
    """The encoder before training, with its initial projection. `weights` is the digest of its backbone."""

    def __init__(self, config: EncoderConfig, encoder: Encoder) -> None:
        self.config, self.weights = config, encoder.base_weights()
        self.projection: nn.Linear | None = None
        if encoder.projection is not None:
            self.projection = deepcopy(encoder.projection).requires_grad_(False)

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
