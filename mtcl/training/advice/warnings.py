"""The warnings that `mtcl tasks check` and `mtcl fit` have in common."""

from __future__ import annotations

from collections.abc import Callable
from unicodedata import normalize

import numpy as np

from mtcl.losses import Loss
from mtcl.task.kind import Kind
from mtcl.training.advice import rows
from mtcl.training.advice.reading import Reading, long_prompt, read, unseparated
from mtcl.training.advice.seen import Seen, seen_in
from mtcl.training.advice.split import MOST_PAIRS, Split
from mtcl.training.datamodule import MtclDataModule
from mtcl.training.task_config import TaskConfig

OF_TRAINING: tuple[Callable[[Split], list[str]], ...] = (
    rows.left_out,
    rows.contradictions,
    rows.skew,
    rows.copies,
    rows.unreadable,
)
OF_EVALUATION: tuple[Callable[[Split], list[str]], ...] = (
    rows.left_out,
    rows.contradictions,
    rows.few_to_evaluate,
    rows.unreadable,
)


def of_run(data: MtclDataModule, loss_of: Callable[[str], Loss]) -> list[str]:
    """Warnings about each task that a run trains, before its first step; call it on one rank.

    Of a large task only the first `MOST_PAIRS` pairs are read, and near copies are left to `mtcl tasks check`.
    """
    found = []
    for name in data.tasks:
        store = data.store(name, "train")
        train = Split.of("train", store.pairs, num_whole=store.num_whole, most=MOST_PAIRS)
        lines = of_training(train) + prompt_of(data, name) + reading_of(data, name).lines("train")
        lines += hard_negatives_of(data, name, loss_of(name))
        if data.stores.is_open(name, "validation"):
            has_labels = bool(getattr(data.tasks[name].pairs, "has_labels", False))
            validation = Split.of("validation", data.store(name, "validation").pairs)
            seen = seen_in(train, validation, with_near=False)
            lines += of_evaluation(train, validation, seen, has_labels=has_labels)
            # a corpus has too many texts to compare their spellings at every start
            lines += twins_of(data, name, "validation") or (rows.spellings(validation) if has_labels else [])
        found += [f"task {name!r}: {line}" for line in lines]
    return found


def of_training(train: Split) -> list[str]:
    """Warnings about the rows of a training split."""
    return [line for find in OF_TRAINING for line in find(train)]


def of_evaluation(train: Split | None, split: Split, seen: Seen | None, *, has_labels: bool = False) -> list[str]:
    """Warnings about a validation or test split, and about what training has seen of it, if there is any training."""
    found = [line for find in OF_EVALUATION for line in find(split)]
    if train is None or seen is None:
        return found
    return found + seen.lines() + (rows.new_labels(train, split) if has_labels else [])


def hard_negatives_of(data: MtclDataModule, name: str, loss: Loss) -> list[str]:
    """A warning if a task's rows have fewer hard negatives per pair than a step asks for, or more, or if its loss uses
    none. Of a large task only the first `MOST_PAIRS` pairs are counted.
    """
    wanted, negatives = data.task_configs[name].hard_negatives, data.store(name, "train").pairs.negatives
    if negatives is None:
        is_asked = wanted > TaskConfig.hard_negatives
        return [f"hard_negatives is {wanted}, but its training rows have none: leave it out"] if is_asked else []
    if wanted and not loss.uses_negatives:
        return [
            f"hard_negatives is {wanted}, but its loss {type(loss).__name__} uses none, so steps encode them for "
            f"nothing: give tasks.{name}.hard_negatives 0"
        ]
    most = int(np.diff(negatives.offsets[: MOST_PAIRS + 1]).max(initial=0))
    if wanted > most:
        return [f"hard_negatives is {wanted}, but a pair has at most {most}; the other places stay empty: give {most}"]
    if 0 < wanted < most:
        return [
            f"a pair has up to {most} hard negatives, of which a step takes {wanted}, drawn again in each epoch: "
            f"give tasks.{name}.hard_negatives up to {most} to use more at once"
        ]
    return []


def prompt_of(data: MtclDataModule, name: str) -> list[str]:
    """Warnings about a task's prompt. Raises `ConfigError` if it leaves no room for a text."""
    length, prompt = data.stores.length_of(name), data.stores.prompt_of(name)
    found = long_prompt(data.stores.tokenizer.check_prompt(name, prompt, length), length)
    return found + (unseparated(prompt) if prompt != data.stores.declared.prompt else [])


def twins_of(data: MtclDataModule, name: str, split: str) -> list[str]:
    """A warning about texts to find that differ and have the same tokens, so that equal cosines decide between them."""
    store = data.store(name, split)
    if store.pairs.kind is not Kind.POSITIVE or store.pairs.exclude_self:  # posts of a cluster may be copies
        return []
    candidates = np.unique(store.pairs.candidates)
    found = rows.twins(np.asarray(store.identity)[candidates])
    if found is None:
        return []
    number, pair = found
    words = Split.of(split, store.pairs).words(candidates[list(pair)])
    looks_equal = len({normalize("NFKC", text) for text in words}) == 1
    one, another = (ascii(text) if looks_equal else repr(text) for text in words)
    return [
        f"{number:,} of the {len(candidates):,} texts to find in {split} have the same tokens as another one (for "
        f"example {one:.60} and {another:.60}), so no encoder can tell them apart: write each in one way only, or "
        "raise max_length if they differ further on"
    ]


def reading_of(data: MtclDataModule, name: str, split: str = "train", count: int = 2000) -> Reading:
    """How the run's encoder reads about `count` texts of a split."""
    store = data.store(name, split)
    table = Split.of(split, store.pairs)
    chosen = table.sample(count)
    sides = np.asarray(store.sides)[chosen]
    return read(
        table.words(chosen), sides, data.stores.tokenizer, data.stores.prompt_of(name), data.stores.length_of(name)
    )
