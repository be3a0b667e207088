"""Wraps a Hugging Face tokenizer: texts to ragged arrays of ids, on all cores."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtcl.errors import ConfigError
from mtcl.types import Ragged, offsets_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


MAX_CHARACTERS = 100_000
"""Longer texts are cut before tokenisation: no encoder reads more, and tokenizers take seconds for a megabyte."""


@dataclass(frozen=True)
class Tokenizer:
    """A Hugging Face tokenizer and a digest of its files."""

    backend: PreTrainedTokenizerBase
    digest: str

    @classmethod
    def load(cls, folder: Path, *, trust_remote_code: bool = False) -> Tokenizer:
        from transformers import AutoTokenizer

        files = [p for p in sorted(folder.iterdir()) if p.is_file() and p.suffix in (".json", ".txt", ".model")]
        digest = hashlib.sha256(b"".join(p.name.encode() + p.read_bytes() for p in files if p.name != "config.json"))
        return cls(AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code), digest.hexdigest())

    def check_length(self, task: str, max_length: int) -> None:
        """Raise `ConfigError` for a max length that is too short for any word or too long for the model."""
        least, most = self.backend.num_special_tokens_to_add() + 1, self.backend.model_max_length
        if not least <= max_length <= most:
            raise ConfigError(f"task {task!r}: max_length is {max_length}: the tokenizer takes {least} to {most}")

    @cached_property
    def dtype(self) -> type[np.integer[Any]]:
        return np.uint16 if len(self.backend) <= 1 << 16 else np.int32

    def __call__(self, texts: list[str], max_length: int) -> Ragged:
        """The ids of each text, including special tokens, cut to `max_length`; uses all cores."""
        ids: list[list[int]]
        if texts and self.backend.is_fast:  # skips transformers' own conversion, which takes 50 % more time
            fast: Any = self.backend.backend_tokenizer
            fast.no_padding()
            fast.enable_truncation(max_length, direction=self.backend.truncation_side)
            ids = [encoding.ids for encoding in fast.encode_batch_fast(texts)]
        else:
            ids = self.backend(texts, truncation=True, max_length=max_length)["input_ids"] if texts else []
        lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        values = np.fromiter(chain.from_iterable(ids), dtype=self.dtype, count=int(lengths.sum()))
        return Ragged(offsets_of(lengths), values)
