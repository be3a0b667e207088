"""How an encoder reads texts: its tokenizer, the length that texts are cut to, and the prompts it can take."""

from __future__ import annotations

from mtcl.data.tokenizer import Tokenizer
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.declared import Declared
from mtcl.encoder.hub import resolve_model
from mtcl.errors import ConfigError
from mtcl.task.prompt import Prompt, Side

UNDECLARED = 512
"""The most tokens of a text for a model that declares no maximum length."""


def declared_of(config: EncoderConfig) -> Declared:
    """What the encoder's folder declares."""
    return Declared.read(resolve_model(config.name, revision=config.revision), config.name)


def tokenizer_of(config: EncoderConfig, declared: Declared | None = None) -> Tokenizer:
    """The encoder's own tokenizer."""
    declared = declared or declared_of(config)
    return Tokenizer.load(
        declared.folder,
        trust_remote_code=config.trust_remote_code,
        lower_case=declared.lower_case,
        options=declared.tokenizer_options,
    )


def default_length(declared: Declared, tokenizer: Tokenizer, num_positions: int | None = None) -> int:
    """Tokens a text is cut to if nothing else is configured: what the model declares, else what it can read, at most
    `UNDECLARED`.
    """
    given = declared.max_length or min(tokenizer.longest or UNDECLARED, UNDECLARED)
    return given if num_positions is None else min(given, num_positions)


def check_pooled(prompt: Prompt, declared: Declared) -> Prompt:
    """Return `prompt`. Raises `ConfigError` if the model's pooling leaves out its tokens, as Instructor's does."""
    if not declared.pools_prompt and any(prompt[side] for side in Side):
        raise ConfigError(
            f"the model in {declared.folder} leaves the prompt's tokens out of its pooling, which mtcl cannot apply: "
            "give no prompt, or another model"
        )
    return prompt
