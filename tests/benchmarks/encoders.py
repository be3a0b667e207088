"""Encoders for the benchmarks: MiniLM where it is installed, and random weights in the shape of known models.

Speed does not depend on the weights' values, so a machine without network needs no model. All random encoders share
one WordPiece tokenizer: MiniLM's, or one of made-up words of the same number.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch

from mtcl.encoder.config import DEFAULT_MODEL
from mtcl.encoder.hub import resolve_model
from mtcl.errors import ConfigError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
NUM_WORDS = 30_522
"""Entries of the made-up vocabulary, as in BERT's."""
TOKENIZER_FILES = ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class Shape:
    """The sizes of an encoder; `key_heads` makes it a decoder like Qwen3, with heads of `head_dim` dimensions."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    key_heads: int | None = None
    head_dim: int = 0

    def backbone(self, num_words: int) -> Any:
        """The model of transformers, with random weights."""
        from transformers import BertConfig, BertModel, Qwen3Config, Qwen3Model

        common: dict[str, Any] = {
            "vocab_size": num_words,
            "num_hidden_layers": self.layers,
            "hidden_size": self.hidden,
            "num_attention_heads": self.heads,
            "intermediate_size": self.intermediate,
            "pad_token_id": 0,
        }
        if self.key_heads is None:
            return BertModel(BertConfig(**common), add_pooling_layer=False)
        own = {"num_key_value_heads": self.key_heads, "head_dim": self.head_dim, "max_position_embeddings": 4096}
        return Qwen3Model(Qwen3Config(**common, **own))


SHAPES = {
    "minilm": Shape(6, 384, 12, 1536),
    "base": Shape(12, 768, 12, 3072),
    "qwen3": Shape(28, 1024, 16, 3072, key_heads=8, head_dim=128),
    "tiny": Shape(2, 32, 1, 128),
    "tiny_qwen3": Shape(2, 32, 4, 64, key_heads=2, head_dim=16),
}
"""`qwen3` is Qwen3-Embedding-0.6B with 30,522 words instead of 151,669."""


def encoder_of(folder: Path, name: str) -> str:
    """The model name or folder of an encoder of `SHAPES`; it is written to a subfolder of `folder` if missing."""
    if name == "minilm" and installed_minilm() is not None:
        return DEFAULT_MODEL
    wanted = folder / name
    if not wanted.exists():
        written = folder / f"{name}.{os.getpid()}"  # renamed when complete: a time limit may end this process
        _write_tokenizer(written)
        num_words = len((written / "vocab.txt").read_text(encoding="utf-8").split("\n"))
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):  # random numbers for 0.5 billion weights
            backbone = SHAPES[name].backbone(num_words)
        if is_decoder(name):  # it is trained through adapters, with its own weights in bfloat16
            backbone = backbone.bfloat16()
        backbone.save_pretrained(written)
        written.rename(wanted)
    return str(wanted)


def is_decoder(name: str) -> bool:
    """Whether an encoder of `SHAPES` is a causal decoder, pooled at the last token."""
    return SHAPES[name].key_heads is not None


def installed_minilm() -> Path | None:
    """MiniLM's folder; None if it is neither installed nor reachable."""
    try:
        return resolve_model(DEFAULT_MODEL)
    except ConfigError:
        return None


def _write_tokenizer(folder: Path) -> None:
    folder.mkdir(parents=True)
    minilm = installed_minilm()
    if minilm is not None:
        for file in TOKENIZER_FILES:
            if (minilm / file).exists():
                shutil.copy(minilm / file, folder)
        return
    from transformers import BertTokenizerFast

    words = ("".join(letters) for letters in product(ascii_lowercase, repeat=4))
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *islice(words, NUM_WORDS - len(SPECIAL))]))
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=512).save_pretrained(folder)
