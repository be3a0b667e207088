"""The base encoder that a run is compared with: how it is made again, and what it scored on validation."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn

from mtcl.encoder.backbone import digest_of
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder


class BaseReference:
    """The encoder before training, with the projection that the run began with.

    `figures` are its primary metrics on validation by task, held-out tasks among them; `weights` is the fingerprint of
    its backbone.
    """

    def __init__(self, config: EncoderConfig, encoder: Encoder) -> None:
        self.config, self.weights = config, digest_of(encoder.backbone)
        self.projection: nn.Linear | None = None
        if encoder.projection is not None:
            self.projection = deepcopy(encoder.projection).requires_grad_(False)
        self.figures: dict[str, float] = {}

    def begin_with(self, encoder: Encoder) -> None:
        """Keep the encoder's projection as the one that the run begins with."""
        if self.projection is not None and encoder.projection is not None:
            self.projection.load_state_dict(encoder.projection.state_dict())

    def encoder(self, device: torch.device) -> Encoder:
        """The base encoder, loaded again."""
        encoder = Encoder.load(replace(self.config, compile=False)).to(device)
        if encoder.projection is not None and self.projection is not None:
            encoder.projection.load_state_dict(self.projection.state_dict())
        return encoder
