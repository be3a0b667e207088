"""The token stores of a run's tasks, and how their texts are read: tokenizer, prompts, maximum lengths.

The base encoder's tokenizer reads the texts. A store is built if it is missing, opened once, and closed when another
encoder is to read the texts.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from mtcl.arrays import IntArray
from mtcl.data.leaks import AllowLeaks, TrainedTexts, check_leaks
from mtcl.data.store import TokenStore, prepare
from mtcl.data.subset import few_per_label, without_texts
from mtcl.data.tokenizer import Tokenizer
from mtcl.distributed import of_all_ranks, together, world
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.declared import Declared
from mtcl.encoder.reading import check_pooled, declared_of, default_length, tokenizer_of
from mtcl.errors import DataError, at
from mtcl.task.contract import Task, kind_of
from mtcl.task.kind import Kind
from mtcl.task.prompt import Prompt
from mtcl.task.sources import Source
from mtcl.training.run_tasks import RunTasks, for_each_replayed
from mtcl.training.task_config import MixtureConfig, TaskConfig, TaskRole

log = logging.getLogger("mtcl")


@dataclass
class Stores:
    """The stores of `tasks`, opened when they are asked for.

    `max_length` and `prompt` hold where a task gives none, and if they are None, what the base encoder declares. With a
    limit of examples per label in `mixture`, a training split's store has the pairs of those that `seed` chooses.
    """

    tasks: RunTasks
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
            self.check_length(name)
            self._open[name, split] = prepare(
                self.tasks.evaluated[name],
                split,
                root=self.root,
                tokenizer=self.tokenizer,
                max_length=self.length_of(name),
                cache=self.cache,
                prompt=self.prompt_of(name),
            )
            if world()[0] == 0:
                log.info("%s/%s: %s", name, split, self._open[name, split].summary())
            if split == "train":
                self._open[name, split] = self._limited(name, self._open[name, split])
        return self._open[name, split]

    def leave_out_leaks(self, allow_leaks: AllowLeaks) -> None:
        """Refuse, report or leave out the training texts that held-out tasks have; called by all ranks together."""
        found: dict[str, IntArray] = {}
        with together():
            if world()[0] == 0:
                splits = {n: [s for s in ("validation", "test") if self.has(n, s)] for n in self.tasks.held_out}
                held_out = {n: [self.store(n, split).pairs.texts for split in of_task] for n, of_task in splits.items()}
                stores = {n: self.store(n, "train") for n in self.tasks.trained}
                trained = {n: TrainedTexts(store.pairs.texts, store.pairs.keys) for n, store in stores.items()}
                found = check_leaks(held_out, trained, allow_leaks=allow_leaks)
        with together():
            for name, texts in of_all_ranks(found)[0].items():
                self._leave_out(name, texts)

    def _leave_out(self, name: str, texts: IntArray) -> None:
        """Train on no pair of the task that has one of these rows of texts."""
        whole = TokenStore.open(self.store(name, "train").folder)
        self._left_out[name] = texts
        self._open[name, "train"] = self._limited(name, whole)

    def _limited(self, name: str, store: TokenStore) -> TokenStore:
        """A training split without the texts to leave out, and of the configured number of examples per label."""
        left_out, task = self._left_out.get(name), self.tasks.configs.get(name, TaskConfig())
        if left_out is not None and len(left_out):
            with at(f"task {name!r}, without the texts that held-out tasks have, ", DataError):
                store = without_texts(store, left_out)
        if (per_label := self.mixture.per_label({name: task}).get(name)) is None:
            return store
        if store.pairs.groups is None and not getattr(self.tasks.evaluated[name].pairs, "has_labels", False):
            raise self.mixture.no_labels(name, task, "a method of its own")
        with at(f"task {name!r}, pairs_per_label {per_label}: ", DataError):
            return few_per_label(store, per_label, seed=self.seed, name=name)

    def open_for(self, stage: str, *, reads_training_texts: bool) -> None:
        """Open the stores that a stage of Lightning needs. Apart from training itself, training splits are needed only
        for a PCA (`reads_training_texts`) or for the languages seen in training.
        """
        tasks, evaluation = self.tasks, "test" if stage in ("test", "predict") else "validation"
        for name in tasks.evaluated:
            self.check_length(name)

        def open_train(name: str) -> None:
            if stage == "fit" or reads_training_texts or kind_of(tasks.trained[name]) is Kind.PARALLEL:
                self.store(name, "train")

        def open_both(name: str) -> None:
            open_train(name)
            self.store(name, evaluation)

        for name in tasks.with_role(TaskRole.TRAIN):
            open_train(name)
        for_each_replayed(tasks.with_role(TaskRole.REPLAY), open_both)
        evaluated = self.evaluated_in(evaluation)
        for name in evaluated:
            self.store(name, evaluation)
        if stage == "fit" and (without := [name for name in tasks.evaluated if name not in evaluated]):
            log.info("without a validation split, so only `mtcl test` evaluates them: %s", ", ".join(without))

    def evaluated_in(self, split: str) -> dict[str, Task]:
        """The tasks that are evaluated on a split. Watched and held-out tasks may have a test split alone."""
        if split == "test":
            return self.tasks.evaluated
        return {
            name: task
            for name, task in self.tasks.evaluated.items()
            if name in self.tasks.trained or self.has(name, split) or not self.has(name, "test")
        }

    def languages_seen(self, name: str) -> frozenset[str] | None:
        """The languages of a task's training split, if it is open; None if there are none."""
        languages = self.store(name, "train").pairs.language_names if self.is_open(name, "train") else ()
        return frozenset(languages) or None

    def has(self, name: str, split: str) -> bool:
        """Whether the task has rows of a split, as far as its source can say."""
        source = self.tasks.evaluated[name].data
        return source.has(split, self.root) if isinstance(source, Source) else True

    def check_length(self, name: str) -> None:
        """Raise `ConfigError` if a task's texts are longer than the encoder reads, or no longer than their prompt."""
        length = self.length_of(name)
        self.tokenizer.check_length(name, length, positions=self.num_positions)
        self.tokenizer.check_prompt(name, self.prompt_of(name), length)

    def length_of(self, name: str) -> int:
        """Tokens a task's texts are cut to."""
        own = self.tasks.configs[name].max_length if name in self.tasks.configs else None
        return self.default_length if own is None else own

    @property
    def default_length(self) -> int:
        """Tokens that texts are cut to if their task gives no number."""
        if self.max_length is not None:
            return self.max_length
        return default_length(self.declared, self.tokenizer, self.num_positions)

    def prompt_of(self, name: str) -> Prompt:
        """The prompts before a task's texts."""
        own = self.tasks.configs[name].prompt if name in self.tasks.configs else None
        given = self.tasks.evaluated[name].prompt if own is None else own
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
