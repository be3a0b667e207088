"""Finds texts of held-out tasks among the training texts: a held-out score is only valid for unseen texts.

Texts are compared by their keys, so case and spacing make no difference. A training split's table and token store
already have the keys of all its texts, so only the texts of held-out tasks are hashed here. Training keys are read in
blocks and may be memory-mapped.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mtcl.errors import DataError
from mtcl.task.pairs.keys import text_keys
from mtcl.task.pairs.shared_keys import BLOCK, occurring
from mtcl.types import IntArray

if TYPE_CHECKING:
    import pyarrow as pa

EXAMPLE_CHARACTERS = 60
log = logging.getLogger("mtcl")


@dataclass(frozen=True)
class Leak:
    """Texts that a held-out task shares with a trained task's training split: their distinct keys, and one example."""

    held_out: str
    trained: str
    keys: IntArray
    example: str


def check_leaks(
    held_out: Mapping[str, Sequence[pa.LargeStringArray]], trained: Mapping[str, IntArray], *, allow_leaks: bool
) -> None:
    """Log whether texts of held-out tasks occur in training. Raises `DataError` if any does, unless `allow_leaks`.

    `held_out` has the texts of each task's splits, `trained` the keys of all training texts of each task.
    """
    leaks = find_leaks(held_out, trained)
    if not leaks:
        log.info("held out: %s; none of their texts are in the training data", ", ".join(held_out))
    elif allow_leaks:
        log.warning("%s: their scores are not for unseen texts", _said(leaks))
    else:
        raise DataError(f"{_said(leaks)}: remove them from the training data, or accept them with allow_leaks: true")


def find_leaks(held_out: Mapping[str, Sequence[pa.LargeStringArray]], trained: Mapping[str, IntArray]) -> list[Leak]:
    """A leak for each held-out and trained task that share texts. Arguments are as in `check_leaks`."""
    import pyarrow as pa

    leaks = []
    for name, splits in held_out.items():
        texts = pa.chunked_array([split.cast(pa.large_string()) for split in splits])
        keys_T, places_T = np.unique(text_keys(texts), return_index=True)
        for other, known in trained.items():
            found = np.flatnonzero(occurring(keys_T, known, block=BLOCK))
            if len(found):
                leaks.append(Leak(name, other, keys_T[found], texts[int(places_T[found].min())].as_py()))
    return leaks


def _said(leaks: Sequence[Leak]) -> str:
    by_task = {leak.held_out: [other.keys for other in leaks if other.held_out == leak.held_out] for leak in leaks}
    total = sum(len(np.unique(np.concatenate(keys))) for keys in by_task.values())
    where = "; ".join(f"{leak.held_out} in {leak.trained}: {len(leak.keys):,}" for leak in leaks)
    example = " ".join(leaks[0].example.split())
    shown = example if len(example) <= EXAMPLE_CHARACTERS else example[: EXAMPLE_CHARACTERS - 3] + "..."
    return f"{total:,} texts of held-out tasks are in the training data ({where}; for example {shown!r})"
