"""The backbone: a Hugging Face encoder or decoder in float32, loaded from safetensors, without parameters that no task
uses.
"""

from __future__ import annotations

import inspect
import json
from typing import Any

import torch
import xxhash
from torch import nn

from mtcl.encoder import unpadded
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.declared import Declared
from mtcl.encoder.quiet import only_errors
from mtcl.errors import ConfigError

DESCRIPTIVE = {"architectures", "dtype", "id2label", "label2id", "torch_dtype", "transformers_version", "use_cache"}
"""Keys of a Hugging Face configuration that say nothing about vectors."""


def hidden_size(backbone: nn.Module) -> int:
    """H, the size of the backbone's hidden states."""
    config: Any = backbone.config
    return int(config.hidden_size)


def load_backbone(declared: Declared, config: EncoderConfig) -> nn.Module:
    """Load a backbone in float32 from safetensors, without a pooler or a decoder beside an encoder.

    Raises `ConfigError` if it cannot be loaded, or if the file lacks weights or has them in other sizes.
    """
    from transformers import AutoConfig

    attention = config.attention
    if attention in ("auto", unpadded.NAME):
        attention = "sdpa" if torch.cuda.is_available() and attention == "auto" else "eager"
    try:
        with only_errors():
            settings = AutoConfig.from_pretrained(
                declared.folder, trust_remote_code=config.trust_remote_code, **declared.config_options
            )
            settings.use_cache = False
            if config.dropout is not None:
                _set_dropout(settings, config.dropout)
            model_class = _class_of(settings, config.name)
            loaded = model_class.from_pretrained(
                declared.folder,
                config=settings,
                dtype=torch.float32,
                attn_implementation=attention,
                use_safetensors=True,
                trust_remote_code=config.trust_remote_code,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                output_loading_info=True,
                **_without_pooler(settings),
            )
    except ConfigError:
        raise
    except Exception as error:  # of a dozen types: safetensors and huggingface_hub have some of their own
        reason = f"{type(error).__name__}: {error}".strip() if " " not in str(error) else str(error).strip()
        raise ConfigError(
            f"model {config.name!r} cannot be loaded from {declared.folder}: {reason.splitlines()[0]}"
        ) from error
    backbone: nn.Module = loaded[0]
    if other := sorted(loaded[1]["mismatched_keys"]):
        name, found, wanted = other[0]
        raise ConfigError(
            f"model {config.name!r}: config.json does not fit {len(other)} of the weights ({name} is {tuple(found)}, "
            f"{tuple(wanted)} by config.json): give a folder whose files belong together"
        )
    if missing := sorted(loaded[1]["missing_keys"]):
        raise ConfigError(
            f"model {config.name!r} lacks {len(missing)} weights of a {type(backbone).__name__} ({missing[0]}, ...): "
            "give a folder with the whole model"
        )
    return backbone


def num_positions(backbone: nn.Module) -> int | None:
    """The most tokens that a text can have; None if the architecture has no limit.

    RoBERTa and its relatives start numbering after the padding id, so a text can have fewer tokens than their table of
    positions has rows.
    """
    tables = [
        module
        for name, module in backbone.named_modules()
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
    ]
    if tables:
        return min(t.num_embeddings - (0 if t.padding_idx is None else t.padding_idx + 1) for t in tables)
    config: Any = backbone.config
    given = getattr(config, "max_position_embeddings", None)
    return given if isinstance(given, int) and given > 0 else None  # XLNet has -1


def _class_of(settings: Any, name: str) -> Any:
    """The class to load; for an encoder-decoder such as T5, only the encoder."""
    from transformers import AutoModel, AutoModelForTextEncoding

    kinds: Any = AutoModelForTextEncoding._model_mapping
    if type(settings) in kinds and kinds[type(settings)].__name__.endswith("EncoderModel"):
        settings.is_encoder_decoder = False
        return AutoModelForTextEncoding
    if getattr(settings, "is_encoder_decoder", False):
        raise ConfigError(
            f"model {name!r} is a {settings.model_type}, an encoder-decoder whose encoder cannot be loaded alone: give "
            "an encoder, a decoder or a T5"
        )
    return AutoModel


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
    """A digest of the names and values of all parameters and buffers, 16 hexadecimal digits."""
    digest = xxhash.xxh3_64()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def function_digest(module: nn.Module) -> str:
    """A fingerprint of what a module computes, 16 hexadecimal digits: its values and its options, such as activations.

    The name of a file with its output has it. Names, versions and dropout are not part of it.
    """
    facts = [digest_of(module)]
    for name, part in module.named_modules():
        if not isinstance(part, nn.Dropout):
            facts.append(f"{name} {type(part).__name__}({part.extra_repr()})")
        if callable(to_dict := getattr(getattr(part, "config", None), "to_dict", None)):
            facts.append(json.dumps(_options(to_dict()), sort_keys=True, default=str))
    return xxhash.xxh3_64("\n".join(facts).encode()).hexdigest()


def _options(config: dict[str, Any]) -> dict[str, Any]:
    """The options of a Hugging Face configuration that can change vectors."""
    return {
        name: value
        for name, value in config.items()
        if not (name in DESCRIPTIVE or name.startswith("_") or "dropout" in name)
    }


@torch.no_grad()
def values_digest(module: nn.Module, *also: str) -> str:
    """A fingerprint of the values and shapes of all parameters in their order, whatever their names, and of `also`."""
    digest = xxhash.xxh3_64("|".join(also).encode())
    values: Any = list(module.parameters())
    for value in values:
        digest.update(repr(tuple(value.shape)).encode())
        digest.update(value.cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()
