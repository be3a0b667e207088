"""Wraps a Hugging Face tokenizer: texts to ragged arrays of ids, on all cores."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtcl.arrays import Ragged, offsets_of
from mtcl.errors import ConfigError, root_cause
from mtcl.task.prompt import NO_PROMPT, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


MAX_CHARACTERS = 100_000
"""Longer texts are cut before tokenisation: no encoder reads more, and tokenizers take seconds for a megabyte."""
WHOLE = 1 << 20
"""A max length in tokens at which no text is cut."""
NO_LIMIT = 1 << 30
"""transformers writes a number above it if a tokenizer's files set no maximum length."""
LEAST_TOKENS, SMALL = 2, 1000
"""The least tokens besides the special ones. Of a folder without a vocabulary, transformers makes a tokenizer of these
alone, in some families with the mark of a word's beginning. Only small vocabularies are looked through.
"""
PLAIN = ("The quick brown fox jumps over the lazy dog, 0123456789.", "naïve CAFÉ", "日本語 텍스트")
"""Texts whose tokens differ between vocabularies, but not between versions of a library."""
CUTTING = threading.Lock()
"""Held while texts are tokenised: the length at which a tokenizer cuts is its state, which all threads share."""
log = logging.getLogger("mtcl")


@dataclass(frozen=True)
class Tokenizer:
    """A Hugging Face tokenizer and a digest of its files."""

    backend: PreTrainedTokenizerBase
    digest: str

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        trust_remote_code: bool = False,
        lower_case: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> Tokenizer:
        """Load from a model's folder.

        Args:
            folder: It has the tokenizer's files.
            trust_remote_code: Run code in the folder.
            lower_case: Turn texts to lower case first, if the tokenizer does not do so itself.
            options: Arguments of the tokenizer that differ from those in its files.

        Raises `ConfigError` if it cannot be loaded or has no vocabulary.
        """
        from transformers import AutoTokenizer

        files = [p for p in sorted(folder.iterdir()) if p.is_file() and p.suffix in (".json", ".txt", ".model")]
        parts = [p.name.encode() + p.read_bytes() for p in files if p.name != "config.json"]
        parts += [repr(sorted(options.items())).encode()] if options else []
        try:
            backend = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, **options or {})
        except Exception as error:  # any of a dozen types, by tokenizer
            raise ConfigError(f"the tokenizer in {folder} cannot be loaded: {root_cause(error)}") from error
        if len(backend) < SMALL and len({*backend.get_vocab().values()} - {*backend.all_special_ids}) < LEAST_TOKENS:
            raise ConfigError(
                f"the tokenizer in {folder} has no vocabulary, so all texts would be the same: save the tokenizer "
                "there too, next to the model"
            )
        if lower_case:
            parts.append(b"lower case")
            _lower_case(backend)
        _check_end(backend, folder)
        return cls(backend, hashlib.sha256(b"".join(parts)).hexdigest())

    def check_length(self, task: str | None, max_length: int, *, positions: int | None = None) -> None:
        """Raise `ConfigError` for a max length that is too short for any word or too long for the model, which has this
        many `positions`. `task` is None for texts of no particular task.
        """
        whose = "" if task is None else f"task {task!r}: "
        least, most = self.backend.num_special_tokens_to_add() + 1, self.longest
        if max_length < least or (most is not None and max_length > most):
            limit = f"at least {least}" if most is None else f"{least} to {most}"
            raise ConfigError(f"{whose}max_length is {max_length}: the tokenizer takes {limit}")
        if positions is not None and max_length > positions:
            raise ConfigError(f"{whose}max_length is {max_length}, but the encoder reads {positions} tokens")

    def check_prompt(self, task: str, prompt: Prompt, max_length: int) -> int:
        """The tokens of a task's longer prompt, special tokens included. Raises `ConfigError` if they leave no room for
        a text.
        """
        lengths = self([prompt.query, prompt.document], WHOLE).lengths() if prompt != NO_PROMPT else np.zeros(1)
        longest = int(lengths.max())
        if longest >= max_length:
            raise ConfigError(
                f"task {task!r} would learn nothing: its prompt takes {longest} tokens, and max_length is "
                f"{max_length}, so nothing of a text is left: raise max_length or shorten the prompt"
            )
        return longest

    @property
    def longest(self) -> int | None:
        """The most tokens of a text; None if the tokenizer's files set no limit."""
        limit = int(self.backend.model_max_length)
        return None if limit > NO_LIMIT else limit

    def tokens_from(self, number: int) -> list[str]:
        """The tokens with this number or a higher one, except special ones: padding is often added at the end."""
        if len(self.backend) <= number:
            return []
        own = set(self.backend.all_special_ids)
        places = {place: token for token, place in self.backend.get_vocab().items()}
        return [places[place] for place in sorted(places) if place >= number and place not in own]

    @cached_property
    def dtype(self) -> type[np.integer[Any]]:
        return np.uint16 if len(self.backend) <= 1 << 16 else np.int32

    @property
    def probe(self) -> str:
        """A digest of the tokens of a few plain texts. Tokenizers that give the same tokens have the same probe."""
        return self.tokens_digest(PLAIN, WHOLE)

    def tokens_digest(self, texts: Sequence[str], max_length: int) -> str:
        """16 hexadecimal digits that tell the tokens of these texts from others."""
        tokens = self(list(texts), max_length)
        content = tokens.offsets.astype(np.int64).tobytes() + tokens.values.astype(np.int64).tobytes()
        return hashlib.sha256(content).hexdigest()[:16]

    @property
    def cuts_left(self) -> bool:
        """Whether it keeps the end of a text that is too long, and not the beginning."""
        return str(self.backend.truncation_side) == "left"

    def shortened(self, text: str) -> str:
        """At most `MAX_CHARACTERS` of a text, from the end that the tokenizer keeps."""
        return text[-MAX_CHARACTERS:] if self.cuts_left else text[:MAX_CHARACTERS]

    def __call__(self, texts: list[str], max_length: int) -> Ragged:
        """The ids of each text, including special tokens, cut to `max_length`; uses all cores."""
        ids: list[list[int]]
        if texts and self.backend.is_fast:  # skips transformers' own conversion, which takes 50 % more time
            fast: Any = self.backend.backend_tokenizer
            with CUTTING:
                fast.no_padding()
                fast.enable_truncation(max_length, direction=self.backend.truncation_side)
                encodings = fast.encode_batch_fast(texts)
            ids = [encoding.ids for encoding in encodings]
        else:
            ids = self.backend(texts, truncation=True, max_length=max_length)["input_ids"] if texts else []
        lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        values = np.fromiter(chain.from_iterable(ids), dtype=self.dtype, count=int(lengths.sum()))
        return Ragged(offsets_of(lengths), values)


def _lower_case(backend: Any) -> None:
    """Turn texts to lower case before everything else, as sentence-transformers does for `do_lower_case`."""
    if not backend.is_fast:
        backend.do_lower_case = True
        return
    from tokenizers.normalizers import Lowercase, Sequence

    own = backend.backend_tokenizer.normalizer
    backend.backend_tokenizer.normalizer = Sequence([Lowercase()] if own is None else [Lowercase(), own])


def _check_end(backend: Any, folder: Path) -> None:
    """Warn if the files ask for an end-of-text token that the tokenizer does not add: last-token pooling needs it."""
    file = folder / "tokenizer_config.json"
    asked = file.is_file() and json.loads(file.read_text(encoding="utf-8")).get("add_eos_token")
    if asked and backend.eos_token_id is not None and backend.eos_token_id not in backend("a")["input_ids"]:
        log.warning(
            "the tokenizer in %s asks for %s after each text but does not add it: vectors of last-token pooling may be "
            "wrong; save the tokenizer again with a post-processor that adds it",
            folder,
            backend.eos_token,
        )
