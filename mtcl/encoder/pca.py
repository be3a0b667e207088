"""Starts a linear layer as the PCA of vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtcl.errors import ConfigError


@torch.no_grad()
def start_as_pca(layer: nn.Linear, vectors_TH: Tensor) -> None:
    """Set the layer to the PCA of `vectors_TH` (float32): centred, components by decreasing variance.

    Raises `ConfigError` for fewer vectors than the layer has outputs.
    """
    dim = layer.out_features
    if len(vectors_TH) < dim:
        raise ConfigError(f"PCA to {dim} dimensions needs at least {dim} training texts, found {len(vectors_TH)}")
    mean_H = vectors_TH.mean(dim=0)
    _, vectors_HH = torch.linalg.eigh(torch.cov(vectors_TH.double().T))
    components_DH = vectors_HH.flip(1)[:, :dim].T.float()
    layer.weight.copy_(components_DH)
    layer.bias.copy_(-components_DH @ mean_H)
