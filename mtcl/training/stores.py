"""The token stores of a run's tasks, and how their texts are read: tokenizer, prompts, maximum lengths.

The base encoder's tokenizer reads the texts. A store is built if it is missing, opened once, and closed when another
encoder is to read the texts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mtcl.data.store import TokenStore, prepare
from mtcl.data.subset import few_per_label, without_texts
from mtcl.data.tokenizer import Tokenizer
from mtcl.distributed import world
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.declared import Declared
from mtcl.encoder.reading import check_pooled, declared_of, default_length, tokenizer_of
from mtcl.errors import DataError, at
from mtcl.task.contract import Task
from mtcl.task.prompt import Prompt
from mtcl.task.sources import Source
from mtcl.training.task_config import MixtureConfig, TaskConfig
from mtcl.types import IntArray

log = logging.getLogger("mtcl")


@dataclass
class Stores:
    """The stores of `tasks`, opened when they are asked for.

    `configs` has the options of those tasks that the run configures; `max_length` and `prompt` hold where a task gives
    none, and if they are None, what the base encoder declares. With a limit of examples per label in `mixture`, a
    training split's store has the pairs of those that `seed` chooses.
    """

    tasks: Mapping[str, Task]
    configs: Mapping[str, TaskConfig]
    root: Path | None
    cache: Path
    max_length: int | None = None
    prompt: Prompt | None = None
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    seed: int = 0
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    num_positions: int | None = None
    """The most tokens that the encoder's backbone reads, if it is known."""
    _open: dict[tuple[str, str], TokenStore] = field(default_factory=dict)
    _base: tuple[Declared, Tokenizer] | None = None
    _left_out: dict[str, IntArray] = field(default_factory=dict)

    def read_for(self, encoder: EncoderConfig, *, num_positions: int | None) -> bool:
        """Read texts for `encoder` from now on; whether another one read them before."""
        self.num_positions = num_positions
        if same_tokens(self.encoder, encoder):
            return False
        self.encoder, self._base, self._open, self._left_out = encoder, None, {}, {}
        return True

    def is_open(self, name: str, split: str) -> bool:
        return (name, split) in self._open

    def store(self, name: str, split: str) -> TokenStore:
        """A task's store of a split, which is opened (and built) if necessary."""
        if (name, split) not in self._open:
            length = self.length_of(name)
            self.tokenizer.check_length(name, length)
            self.tokenizer.check_prompt(name, self.prompt_of(name), length)
            self._open[name, split] = prepare(
                self.tasks[name],
                split,
                root=self.root,
                tokenizer=self.tokenizer,
                max_length=length,
                cache=self.cache,
                prompt=self.prompt_of(name),
            )
            if world()[0] == 0:
                log.info("%s/%s: %s", name, split, self._open[name, split].summary())
            if split == "train":
                self._open[name, split] = self._limited(name, self._open[name, split])
        return self._open[name, split]

    def leave_out(self, name: str, texts: IntArray) -> None:
        """Train on no pair of the task that has one of these rows of texts."""
        whole = TokenStore.open(self.store(name, "train").folder)
        self._left_out[name] = texts
        self._open[name, "train"] = self._limited(name, whole)

    def _limited(self, name: str, store: TokenStore) -> TokenStore:
        """A training split without the texts to leave out, and of the configured number of examples per label."""
        left_out, task = self._left_out.get(name), self.configs.get(name, TaskConfig())
        if left_out is not None and len(left_out):
            with at(f"task {name!r}, without the texts that held-out tasks have, ", DataError):
                store = without_texts(store, left_out)
        if (per_label := self.mixture.per_label({name: task}).get(name)) is None:
            return store
        if store.groups is None and not getattr(self.tasks[name].pairs, "has_labels", False):
            raise self.mixture.no_labels(name, task, "a method of its own")
        with at(f"task {name!r}, pairs_per_label {per_label}: ", DataError):
            return few_per_label(store, per_label, seed=self.seed, name=name)

    def open(self, split: str, names: Iterable[str]) -> None:
        for name in names:
            self.store(name, split)

    def has(self, name: str, split: str) -> bool:
        """Whether the task has rows of a split, as far as its source can say."""
        source = self.tasks[name].data
        return source.has(split, self.root) if isinstance(source, Source) else True

    def length_of(self, name: str) -> int:
        """Tokens a task's texts are cut to."""
        own = self.configs[name].max_length if name in self.configs else None
        return self.default_length if own is None else own

    @property
    def default_length(self) -> int:
        """Tokens that texts are cut to if their task gives no number."""
        if self.max_length is not None:
            return self.max_length
        return default_length(self.declared, self.tokenizer, self.num_positions)

    def prompt_of(self, name: str) -> Prompt:
        """The prompts before a task's texts."""
        own = self.configs[name].prompt if name in self.configs else None
        given = self.tasks[name].prompt if own is None else own
        return self.default_prompt if given is None else check_pooled(Prompt.of(given), self.declared)

    @property
    def default_prompt(self) -> Prompt:
        """The prompts before texts whose task gives none."""
        return check_pooled(self.declared.prompt if self.prompt is None else self.prompt, self.declared)

    @property
    def declared(self) -> Declared:
        """What the base encoder declares."""
        return self._read_base()[0]

    @property
    def tokenizer(self) -> Tokenizer:
        """The encoder's tokenizer."""
        return self._read_base()[1]

    def _read_base(self) -> tuple[Declared, Tokenizer]:
        if self._base is None:
            declared = declared_of(self.encoder)
            self._base = (declared, tokenizer_of(self.encoder, declared))
        return self._base


def same_tokens(one: EncoderConfig, other: EncoderConfig) -> bool:
    """Whether two encoders read texts as the same tokens."""
    options = ("name", "revision", "trust_remote_code")
    return all(getattr(one, option) == getattr(other, option) for option in options)
