"""Tries a backbone on two short texts, to find out what its architecture does not declare."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from mtcl.arrays import Ragged
from mtcl.data.packing import Packed, pack
from mtcl.errors import ConfigError

log = logging.getLogger("mtcl")
Pooled = Callable[[Packed], Tensor]
"""Gives the pooled states of packed texts."""
ANY_SIZE = 64
"""Of the vocabulary of an architecture that has none, such as CANINE, which reads characters."""


def two_texts(backbone: nn.Module) -> Packed:
    """Two texts of different length in one chunk."""
    return pack(_tokens(backbone), tokens_per_chunk=1024)


def _tokens(backbone: nn.Module) -> Ragged:
    config: Any = backbone.config
    vocabulary, padding = int(getattr(config, "vocab_size", ANY_SIZE)), getattr(config, "pad_token_id", None)
    ids = np.array([i for i in range(vocabulary // 2, vocabulary) if i != padding][:9])
    return Ragged(np.array([0, 4, len(ids)]), ids)


@torch.no_grad()
def check_runs(pooled: Pooled, backbone: nn.Module, dtype: str) -> None:
    """Raise `ConfigError` for a backbone whose code mixes types, for example with a table of positions in float32."""
    try:
        pooled(two_texts(backbone))
    except RuntimeError as error:
        raise ConfigError(
            f"model.encoder.frozen_dtype is {dtype}, which {type(backbone).__name__} does not support "
            f"({str(error).splitlines()[0]:.80}): give float32"
        ) from error


@torch.no_grad()
def is_padding_read(encoder: nn.Module) -> bool:
    """Whether a text's vector depends on the padding after it, as with convolutions or Fourier transforms over tokens.

    Warns if it is so. `encoder` is an `Encoder`.
    """
    pooled: Pooled = cast("Any", encoder).pooled
    backbone, was_training = encoder.get_submodule("backbone"), encoder.training
    tokens = _tokens(backbone)
    encoder.eval()
    try:
        together = pooled(two_texts(backbone))
        alone = torch.cat([pooled(pack(tokens.take(np.array([row])), tokens_per_chunk=1024)) for row in (0, 1)])
    except (TypeError, ValueError, RuntimeError, AttributeError, LookupError) as error:
        log.debug("no forward pass to find out whether padding is read: %s", error)
        return False
    finally:
        encoder.train(was_training)
    if torch.allclose(together, alone, rtol=1e-3, atol=1e-4):
        return False
    log.warning(
        "%s reads the padding after a text: mtcl encodes only texts of equal length together, so that a text has one "
        "vector; libraries that pad give others",
        type(backbone).__name__,
    )
    return True
