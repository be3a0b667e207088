"""How an encoder reads texts: its tokenizer, the types of tokens, the length that texts are cut to, and the prompts it
can take.
"""

from __future__ import annotations

import inspect

from torch import nn

from mtcl.data.tokenizer import Tokenizer
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.declared import Declared
from mtcl.encoder.hub import resolve_model
from mtcl.errors import ConfigError
from mtcl.task.prompt import Prompt, PromptSide

UNDECLARED = 512
"""The most tokens of a text for a model that declares no maximum length."""


def declared_of(config: EncoderConfig) -> Declared:
    """What the encoder's folder declares."""
    return Declared.read(resolve_model(config.name, revision=config.revision), config.name)


def tokenizer_of(config: EncoderConfig, declared: Declared | None = None) -> Tokenizer:
    """The encoder's own tokenizer. Raises `ConfigError` if it has tokens for which the model has no vector."""
    declared = declared or declared_of(config)
    tokenizer = Tokenizer.load(
        declared.folder,
        trust_remote_code=config.trust_remote_code,
        lower_case=declared.lower_case,
        options=declared.tokenizer_options,
    )
    if declared.vocab_size is not None and (odd := tokenizer.tokens_from(declared.vocab_size)):
        raise ConfigError(
            f"model {config.name!r}: its tokenizer has {len(odd):,} tokens more than the model has vectors for "
            f"({odd[0]!r} is the first; the model has {declared.vocab_size:,}): give a folder whose files belong "
            "together"
        )
    return tokenizer


def token_types_of(backbone: nn.Module, declared: Declared, config: EncoderConfig) -> tuple[int, int] | None:
    """The types that the tokenizer gives to a text's tokens and to its last one; None where they make no difference.

    XLNet's last token has a type of its own. GPT-2 adds a word's vector for each type, BERT one for type 0 in any case.
    """
    takes_them = "token_type_ids" in inspect.signature(backbone.forward).parameters
    if not takes_them or hasattr(backbone.config, "type_vocab_size"):
        return None
    types = tokenizer_of(config, declared).backend("a").get("token_type_ids")
    return (types[0], types[-1]) if types else None


def default_length(declared: Declared, tokenizer: Tokenizer, num_positions: int | None = None) -> int:
    """Tokens a text is cut to if nothing else is configured: what the model declares, else what it can read, at most
    `UNDECLARED`.
    """
    given = declared.max_length or min(tokenizer.longest or UNDECLARED, UNDECLARED)
    return given if num_positions is None else min(given, num_positions)


def check_pooled(prompt: Prompt, declared: Declared) -> Prompt:
    """Return `prompt`. Raises `ConfigError` if the model's pooling leaves out its tokens, as Instructor's does."""
    if not declared.pools_prompt and any(prompt[side] for side in PromptSide):
        raise ConfigError(
            f"the model in {declared.folder} leaves the prompt's tokens out of its pooling, which mtcl cannot apply: "
            "give no prompt, or another model"
        )
    return prompt
