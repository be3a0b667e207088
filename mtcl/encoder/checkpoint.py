"""Reading a run's checkpoint: its content, its configuration, and its encoder without the run.

Weights only; nothing in the file is executed.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
import yaml

from mtcl.data.tokenizer import Tokenizer
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.hub import resolve_model
from mtcl.errors import ConfigError, root_cause
from mtcl.types import BEST, LAST

PREFIX = "encoder."


def find(path: Path, default: str = BEST) -> Path:
    """A .ckpt file, or checkpoint `default` of a run folder. Raises `ConfigError` if there is none."""
    file = path
    if path.is_dir():
        folder = path / "checkpoints"
        file = folder / default
        if default == LAST and not file.is_file() and (folder / BEST).is_file():
            raise ConfigError(
                f"{path} holds weights only, no {LAST} to go on from: start from its weights with --init_from {path}"
            )
    if not file.is_file():
        raise ConfigError(f"no checkpoint {str(file)!r}: give a run folder or a .ckpt file")
    return file


def read(path: Path) -> dict[str, Any]:
    """A checkpoint's content. Raises `ConfigError` for a file that is none of ours."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen types for damaged files
        raise ConfigError(f"{str(path)!r} is no checkpoint, or a damaged one ({root_cause(error)})") from error
    if not isinstance(content, dict) or "mtcl" not in content:
        raise ConfigError(f"{str(path)!r} is no checkpoint of mtcl")
    return content


def config_of(saved: dict[str, Any]) -> dict[str, Any]:
    """The configuration that a checkpoint holds."""
    return dict(yaml.safe_load(saved["mtcl"]["config"]) or {})


def given_to_tasks(config: dict[str, Any], key: str) -> dict[str, Any]:
    """What a configuration sets under `tasks.NAME.KEY`, by name of the task."""
    given = {name: (settings or {}).get(key) for name, settings in config["tasks"].items()}
    return {name: value for name, value in given.items() if value is not None}


def trained_of(saved: dict[str, Any]) -> set[str]:
    """The tasks that a checkpoint's weights have seen: its run's, and those of the weights that the run began with."""
    return {*config_of(saved)["tasks"], *saved["mtcl"].get("trained_before", ())}  # earlier versions did not know


def base_weights_of(saved: dict[str, Any]) -> str | None:
    """The fingerprint of the base encoder that a checkpoint's run, or the runs that it was merged from, began with."""
    content = saved["mtcl"]
    facts = content.get("facts") or {}
    found: str | None = content.get("base_weights") or (facts.get("model.encoder") or {}).get("weights")
    return found


def encoder_config_of(config: dict[str, Any]) -> EncoderConfig:
    """The encoder's part of a run's configuration, not compiled: that is worth its minute in training only."""
    known = {one.name for one in fields(EncoderConfig)} - {"compile"}
    return EncoderConfig(**{name: value for name, value in config["model"]["encoder"].items() if name in known})


def tokenizer_of(config: EncoderConfig) -> Tokenizer:
    """The encoder's own."""
    folder = resolve_model(config.name, revision=config.revision)
    return Tokenizer.load(folder, trust_remote_code=config.trust_remote_code)


def encoder_of(saved: dict[str, Any], config: EncoderConfig) -> Encoder:
    """A checkpoint's encoder as it was trained, on the CPU."""
    encoder = Encoder.load(config)
    state = saved["state_dict"]
    encoder.load_state_dict({k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)})
    return encoder


def is_checkpoint(path: Path) -> bool:
    """Whether `path` is a run folder or a .ckpt file, and not a model's folder or name."""
    return path.is_file() if path.suffix == ".ckpt" else (path / "checkpoints").is_dir()
