"""The backbone: a Hugging Face encoder in float32, loaded from safetensors, without parameters that no task uses."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import nn

from mtcl.encoder import unpadded
from mtcl.encoder.config import EncoderConfig, Pooling
from mtcl.errors import ConfigError


def hidden_size(backbone: nn.Module) -> int:
    """H, the size of the backbone's hidden states."""
    config: Any = backbone.config
    return int(config.hidden_size)


def pooling_of(folder: Path) -> Pooling | None:
    """The pooling that a sentence-transformers model declares; None if mtcl does not support it or there is none."""
    file = folder / "1_Pooling" / "config.json"
    declared = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    modes: dict[str, Pooling] = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "last"}
    return next((ours for mode, ours in modes.items() if declared.get(f"pooling_mode_{mode}")), None)


def load_backbone(folder: Path, config: EncoderConfig) -> nn.Module:
    """Load a backbone in float32 from safetensors, without a pooler. Raises `ConfigError` if it cannot be loaded."""
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    transformers_logging: Any = logging

    attention = config.attention
    if attention in ("auto", unpadded.NAME):
        attention = "sdpa" if torch.cuda.is_available() and attention == "auto" else "eager"
    transformers_logging.disable_progress_bar()
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        settings = AutoConfig.from_pretrained(folder, trust_remote_code=config.trust_remote_code)
        if config.dropout is not None:
            _set_dropout(settings, config.dropout)
        backbone: nn.Module = AutoModel.from_pretrained(
            folder,
            config=settings,
            dtype=torch.float32,
            attn_implementation=attention,
            use_safetensors=True,
            trust_remote_code=config.trust_remote_code,
            **_without_pooler(settings),
        )
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(
            f"model {config.name!r} cannot be loaded from {folder}: {str(error).strip().splitlines()[0]}"
        ) from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    return backbone


def _set_dropout(settings: Any, probability: float) -> None:
    for name, value in list(vars(settings).items()):
        if ("dropout" in name or name.endswith("_pdrop")) and type(value) in (int, float):
            setattr(settings, name, probability)


def _without_pooler(settings: Any) -> dict[str, bool]:
    from transformers import AutoModel

    model_class: Any = AutoModel._model_mapping.get(type(settings), None)
    takes_it = model_class is not None and "add_pooling_layer" in inspect.signature(model_class).parameters
    return {"add_pooling_layer": False} if takes_it else {}


@torch.no_grad()
def digest_of(module: nn.Module) -> str:
    """A fingerprint of the values of all parameters and buffers, 16 hexadecimal digits."""
    digest = xxhash.xxh3_64()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()
