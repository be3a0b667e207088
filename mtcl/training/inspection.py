"""Shows a step for debugging: each task's pairs as text, what is left out of the negatives and why, and what is cut.

data = MtclDataModule(root="data/demo", tasks={"search": {}})
print(mtcl.inspect_batch(data, step=3))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from mtcl.arrays import IntArray
from mtcl.console import one_line
from mtcl.data.batch import EMPTY_PLACE
from mtcl.data.rows import AS_KEY, DrawnRows, TaskData
from mtcl.data.steps import StepDataset
from mtcl.data.store import TokenStore
from mtcl.data.tokenizer import WHOLE, Tokenizer
from mtcl.errors import ConfigError
from mtcl.losses.relation import shares_key
from mtcl.task.contract import Task
from mtcl.task.pairs.keys import id_key, text_key
from mtcl.task.rows import roles_in, rows_of
from mtcl.training.datamodule import MtclDataModule

WIDTH = 72
"""The number of characters of a text to show."""


@dataclass(frozen=True)
class LeftOut:
    """The positive of row `row` is not used as a negative of another row, because both have the key `key`."""

    row: int
    text: str
    key: str


@dataclass(frozen=True)
class InspectedPair:
    """A row of a sub-batch: its texts, and the positives of other rows that are not its negatives."""

    anchor: str
    positive: str
    hard_negatives: tuple[str, ...]
    score: float | None
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class InspectedTask:
    """A task's sub-batch. `max_length` cuts `num_cut_tokens` tokens from `num_cut_texts` texts."""

    name: str
    pairs: tuple[InspectedPair, ...]
    max_length: int
    num_texts: int
    num_cut_texts: int
    num_cut_tokens: int

    @property
    def left_out_share(self) -> float:
        """The share of the other rows' positives that are not negatives, averaged over rows."""
        others = len(self.pairs) * (len(self.pairs) - 1)
        return sum(len(pair.left_out) for pair in self.pairs) / max(1, others)

    def lines(self, num_pairs: int) -> Iterator[str]:
        """The sub-batch as text, line by line."""
        yield (
            f"{self.name}: {len(self.pairs)} pairs, {self.num_texts} texts; left out of the negatives: "
            f"{self.left_out_share:.1%}; cut at {self.max_length} tokens: {self.num_cut_texts} texts, "
            f"{self.num_cut_tokens} tokens"
        )
        for row, pair in enumerate(self.pairs[:num_pairs]):
            score = "" if pair.score is None else f"  (score {pair.score:g})"
            yield f"  {row:>3}  {_short(pair.anchor)}"
            yield f"       + {_short(pair.positive)}{score}"
            yield from (f"       - {_short(text)}" for text in pair.hard_negatives)
            yield from (f"       ~ row {one.row}, {_short(one.text)}: {one.key}" for one in pair.left_out)
        if len(self.pairs) > num_pairs:
            yield f"       ... and {len(self.pairs) - num_pairs} more pairs"


@dataclass(frozen=True)
class InspectedStep:
    """All sub-batches of a step, over all ranks. In the text, + is a positive, - a hard negative, ~ a row left out."""

    step: int
    tasks: tuple[InspectedTask, ...]

    def text(self, num_pairs: int = 8) -> str:
        """The step as text, with the first pairs of each sub-batch."""
        lines = [f"step {self.step}   (+ positive, - hard negative, ~ left out of the negatives)"]
        for task in self.tasks:
            lines += ["", *task.lines(num_pairs)]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()


def inspect_batch(data: MtclDataModule, step: int = 0) -> InspectedStep:
    """Show a training step: its pairs as text, positives, texts left out and by which key, and what is cut.

    Needs no Trainer. Builds missing token stores. `step` counts micro-steps from 0.

    Raises `ConfigError` for a negative step or data without tasks.
    """
    if step < 0:
        raise ConfigError(f"step is {step}: give 0 or more")
    if not data.tasks:
        raise ConfigError("the data has no task to train: give tasks, for example {'search': {}}")
    if data.allow_leaks == "remove" and data.held_out:
        data.check_leaks()
    stores = {name: data.store(name, "train") for name in data.tasks}
    tasks = [TaskData(store, data.task_configs[name].hard_negatives) for name, store in stores.items()]
    dataset, tokenizer, seen = StepDataset(data.plan, tasks), data.stores.tokenizer, dict[str, dict[int, str]]()
    found = []
    for draw in data.plan.draws(step):
        name = list(stores)[draw.task]
        if name not in seen:
            seen[name] = names_of_ids(data.tasks[name], data.root)
        rows = dataset.rows(draw)
        found.append(_inspected(name, rows, stores[name], tokenizer, data, seen[name]))
    return InspectedStep(step, tuple(found))


def _inspected(
    name: str, rows: DrawnRows, store: TokenStore, tokenizer: Tokenizer, data: MtclDataModule, ids: Mapping[int, str]
) -> InspectedTask:
    texts = store.pairs.texts

    def words(indices: IntArray) -> list[str]:
        return [texts[int(index)].as_py() for index in indices]

    anchors, positives, *hard = rows.texts
    anchor_texts, positive_texts = words(anchors), words(positives)
    hard_texts = words(hard[0]) if hard else []
    per_row = len(hard_texts) // len(anchors)
    shared_NC = shares_key(*(torch.from_numpy(keys_NK) for keys_NK in rows.keys[:2])).numpy()
    pairs = []
    for row, (anchor, positive) in enumerate(zip(anchor_texts, positive_texts, strict=True)):
        left_out = [
            LeftOut(other, positive_texts[other], _said(rows.keys[0][row], rows.keys[1][other], anchor, ids, store))
            for other in np.flatnonzero(shared_NC[row]).tolist()
            if other != row
        ]
        places = range(row * per_row, (row + 1) * per_row)
        own = [hard_texts[place] for place in places if rows.keys[2][place, 0] != EMPTY_PLACE]
        score = None if rows.scores is None else float(rows.scores[row])
        pairs.append(InspectedPair(anchor, positive, tuple(own), score, tuple(left_out)))
    distinct = np.unique(np.concatenate(rows.texts))
    prompt, sides = data.stores.prompt_of(name), np.array(store.sides[distinct]).tolist()
    prompted = [prompt[side] + text for side, text in zip(sides, words(distinct), strict=True)]
    whole = tokenizer(prompted, WHOLE).lengths()
    cut = whole - store.tokens.take(distinct).lengths()
    return InspectedTask(
        name, tuple(pairs), data.stores.length_of(name), len(distinct), int((cut > 0).sum()), int(cut.clip(min=0).sum())
    )


def _said(
    anchor_keys_K: IntArray, other_keys_K: IntArray, anchor: str, ids: Mapping[int, str], store: TokenStore
) -> str:
    """Describe the key that an anchor and another row's positive share."""
    common = [int(key) for key in np.intersect1d(anchor_keys_K, other_keys_K) if key]
    if named := [ids[key] for key in common if key in ids]:
        return f"both have {named[0]}"
    if text_key(anchor) in common:
        return "the anchor is a known positive of it, or reads the same"
    if all((store.identity == identity).any() for identity in np.array(common) - AS_KEY):
        return "both, or what they are paired with, have the same tokens"
    return "a known positive of both"


def names_of_ids(task: Task, root: Path | None) -> dict[int, str]:
    """Key -> description, as in `doc_id '15-1252'`, of the ids in the columns that the task's pairs name."""
    named = [getattr(task.pairs, one.name) for one in fields(task.pairs)] if hasattr(task.pairs, "kind") else []  # type: ignore[arg-type]
    rows = rows_of(task, "train", root, roles_in(task, "train"))
    found: dict[int, str] = {}
    for column in (name for name in named if isinstance(name, str) and name in rows.column_names):
        values = rows[column].combine_chunks()
        values = values.flatten() if hasattr(values, "flatten") else values
        for value in values.unique().to_pylist():
            found[id_key(str(value))] = f"{column} {str(value)[:WIDTH]!r}"
            found.setdefault(text_key(str(value)), f"{column} {str(value)[:WIDTH]!r}")
    return found


def _short(text: str) -> str:
    return one_line(text, WIDTH)
