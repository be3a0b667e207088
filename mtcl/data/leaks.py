"""Finds texts of held-out tasks among the training texts: a held-out score is only valid for unseen texts.

Texts are compared by their keys, so case and spacing make no difference. A training split's table and token store
already have the keys of all its texts, so only the texts of held-out tasks are hashed here. Training keys are read in
blocks and may be memory-mapped. Near copies are looked up as well (`near_copies.py`) and reported separately. They
never stop a run, because people must decide whether one matters.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from mtcl.arrays import IntArray, Ragged
from mtcl.console import one_line
from mtcl.data.near_copies import NearCopies
from mtcl.errors import ConfigError, DataError, nearest
from mtcl.task.pairs.keys import text_key, text_keys
from mtcl.task.pairs.shared_keys import BLOCK, occurring

if TYPE_CHECKING:
    import pyarrow as pa

EXAMPLE_CHARACTERS = 60
AllowLeaks = bool | Literal["remove"] | list[list[str]]
"""Whether a run continues if texts of held-out tasks are in the training data: `remove` leaves them out of training; a
list names the pairs of a held-out and a trained task whose common texts are accepted."""
log = logging.getLogger("mtcl")


@dataclass(frozen=True)
class TrainedTexts:
    """The texts of a training split, and the keys of each."""

    texts: pa.LargeStringArray
    keys: Ragged


@dataclass(frozen=True)
class Leak:
    """Texts that a held-out task shares with a trained task's training split.

    `keys` are those of texts that differ only in case and spacing, and `example` is one of these texts. `num_near`
    further texts only have near copies; `near_example` is one of them, with its copy. `rows` are the training texts
    that are copies or near copies of texts of any held-out task.
    """

    held_out: str
    trained: str
    keys: IntArray
    example: str
    num_near: int
    near_example: tuple[str, str]
    rows: IntArray


def check_leaks(
    held_out: Mapping[str, Sequence[pa.LargeStringArray]],
    trained: Mapping[str, TrainedTexts],
    *,
    allow_leaks: AllowLeaks,
) -> dict[str, IntArray]:
    """Log which texts of held-out tasks occur in training, and return those to leave out: rows of each trained task.

    There are none to leave out unless `allow_leaks` is `remove`. Raises `DataError` if any text occurs in training,
    unless `allow_leaks` accepts it. `held_out` has the texts of each task's splits.
    """
    leaks = find_leaks(held_out, trained)
    equal, near = [leak for leak in leaks if len(leak.keys)], [leak for leak in leaks if leak.num_near]
    if allow_leaks == "remove":
        for said in ([_said(equal)] if equal else []) + ([_said_near(near)] if near else []):
            log.info("%s: left out of training", said)
        return {leak.trained: leak.rows for leak in leaks}
    if allow_leaks is True:
        refused: list[Leak] = []
    else:
        accepted = {tuple(couple) for couple in allow_leaks or ()}
        refused = [leak for leak in equal if (leak.held_out, leak.trained) not in accepted]
    if refused:
        pairs = ", ".join(f"[{leak.held_out}, {leak.trained}]" for leak in refused)
        raise DataError(
            f"{_said(refused)}: leave them out of training with data.allow_leaks: remove, or accept them with "
            f"data.allow_leaks: [{pairs}]"
        )
    if equal:
        log.warning("%s: their scores are not for unseen texts", _said(equal))
    if near:
        log.warning("%s: look at them, or leave them out of training with data.allow_leaks: remove", _said_near(near))
    if not leaks:
        log.info("held out: %s; none of their texts are in the training data, nor near copies", ", ".join(held_out))
    return {}


def check_allow_leaks(given: AllowLeaks, held_out: Collection[str], trained: Collection[str]) -> None:
    """Raise `ConfigError` for a value that is not one of `AllowLeaks`, or a pair that names other tasks."""
    if isinstance(given, bool) or given == "remove":
        return
    if not isinstance(given, list | tuple):
        raise ConfigError(f"allow_leaks is {given!r:.80}: give true, false, remove or pairs [held_out, trained]")
    for couple in given:
        if not isinstance(couple, list | tuple) or len(couple) != 2:
            raise ConfigError(f"allow_leaks has {couple!r:.80}: give pairs of a held-out and a trained task")
        for name, known, role in zip(couple, (held_out, trained), ("held out", "trained"), strict=True):
            if name not in known:
                raise ConfigError(f"allow_leaks has {list(couple)}, but {name!r} is not {role}{nearest(name, known)}")


def find_leaks(
    held_out: Mapping[str, Sequence[pa.LargeStringArray]], trained: Mapping[str, TrainedTexts]
) -> list[Leak]:
    """A leak for each held-out and trained task that share texts or near copies. Arguments are as in `check_leaks`."""
    import pyarrow as pa

    texts, keys = {}, {}
    for name, splits in held_out.items():
        all_texts = pa.chunked_array([split.cast(pa.large_string()) for split in splits], type=pa.large_string())
        keys[name], places = np.unique(text_keys(all_texts), return_index=True)
        texts[name] = all_texts.take(pa.array(places))
    starts = dict(zip(texts, np.cumsum([0, *(len(one) for one in texts.values())])[:-1].tolist(), strict=True))
    index = NearCopies(pa.chunked_array([chunk for one in texts.values() for chunk in one.chunks], pa.large_string()))
    leaks = []
    for other, known in trained.items():
        copies = index.among(known.texts)
        equal = {name: np.flatnonzero(occurring(keys[name], known.keys.values, block=BLOCK)) for name in texts}
        rows = np.union1d(copies.rows, rows_of_keys(known, np.concatenate([keys[name][equal[name]] for name in texts])))
        for name, own_texts in texts.items():
            own = copies.own - starts[name]
            is_near = (own >= 0) & (own < len(own_texts)) & ~np.isin(own, equal[name])
            if not len(equal[name]) and not is_near.any():
                continue
            example = own_texts[int(equal[name][0])].as_py() if len(equal[name]) else ""
            near_example = ("", "")
            if is_near.any():
                first = int(np.flatnonzero(is_near)[0])
                near_example = (own_texts[int(own[first])].as_py(), known.texts[int(copies.copies[first])].as_py())
            leak = Leak(name, other, keys[name][equal[name]], example, int(is_near.sum()), near_example, rows)
            leaks.append(leak)
    order = list(texts)
    return sorted(leaks, key=lambda leak: order.index(leak.held_out))


def rows_of_keys(trained: TrainedTexts, keys: IntArray) -> IntArray:
    """The rows of the texts whose own key is one of `keys`; a text also has the keys of texts that it belongs to."""
    found: list[int] = []
    wanted = set(keys.tolist())
    for start in range(0, len(trained.keys) if wanted else 0, BLOCK):
        offsets = np.asarray(trained.keys.offsets[start : start + BLOCK + 1])
        is_wanted = np.isin(trained.keys.values[offsets[0] : offsets[-1]], keys)
        rows = np.unique(np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))[is_wanted]) + start
        found += [row for row in rows.tolist() if text_key(trained.texts[row].as_py()) in wanted]
    return np.array(found, dtype=np.int64)


def _said(leaks: Sequence[Leak]) -> str:
    by_task = {leak.held_out: [other.keys for other in leaks if other.held_out == leak.held_out] for leak in leaks}
    total = sum(len(np.unique(np.concatenate(keys))) for keys in by_task.values())
    where = "; ".join(f"{leak.held_out} in {leak.trained}: {len(leak.keys):,}" for leak in leaks)
    return (
        f"{total:,} texts of held-out tasks are in the training data ({where}; for example {_shown(leaks[0].example)})"
    )


def _said_near(leaks: Sequence[Leak]) -> str:
    where = "; ".join(f"{leak.held_out} in {leak.trained}: {leak.num_near:,}" for leak in leaks)
    own, copy = leaks[0].near_example
    return (
        f"texts of held-out tasks have near copies in the training data ({where}; for example {_shown(own)} and "
        f"{_shown(copy)})"
    )


def _shown(text: str) -> str:
    return repr(one_line(text, EXAMPLE_CHARACTERS, end="..."))
