"""A first batch size, number of steps and learning rate for a task, each with its reason.

These are starting values, not the best ones. `best.ckpt` keeps the best validation, so too many steps only cost time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mtcl.training.advice.split import Split

BATCHES_PER_EPOCH = 8
"""Batches that an epoch should have at least."""
OF_A_LABEL = 4
"""Pairs per label in a batch, above which a larger batch adds no new negatives."""
ON_CPU, ON_GPU = 64, 256
LEAST = 8
"""The smallest batch size, unless the task has fewer pairs: a smaller batch has hardly any negatives."""
OF_FEW_LABELS = 32
"""The batch size of a task with very few labels: a smaller one makes the gradient noisy."""
PASSES = 3
LEAST_STEPS, MOST_STEPS = 60, 2000
SHORT = 1000
"""Steps below which the learning rate is that of a short run."""
LEARNING_RATES = {"all": (5e-5, 2e-5), "lora": (2e-4, 2e-4)}
"""Learning rates for short and for long runs, by `model.encoder.train`, from this project's runs
(docs/results/own_tasks.md).
"""


@dataclass(frozen=True)
class Suggestion:
    """A value for a key of the configuration, and why."""

    key: str
    value: str
    reason: str


def suggestions(train: Split, *, has_labels: bool, on_gpu: bool, trains: str = "all") -> list[Suggestion]:
    """Batch size, steps, warm-up and learning rate for a task alone; `trains` is `model.encoder.train`."""
    num_pairs, num_targets = len(train), len(set(train.positives.tolist()))
    limits = {
        "what a GPU holds with short texts" if on_gpu else "the default on a CPU": ON_GPU if on_gpu else ON_CPU,
        f"{BATCHES_PER_EPOCH} batches or more per epoch of {num_pairs:,} pairs": num_pairs // BATCHES_PER_EPOCH,
    }
    if has_labels:
        limits[f"{num_targets:,} labels: more pairs add no new negatives"] = max(
            OF_A_LABEL * num_targets, OF_FEW_LABELS
        )
    why, limit = min(limits.items(), key=lambda item: item[1])
    size = 1 << int(math.log2(max(1, limit)))
    if size < LEAST:
        size, why = LEAST, f"the least, for negatives: {num_pairs / LEAST:.1f} batches per epoch of {num_pairs:,} pairs"
    if size > num_pairs:
        size, why = num_pairs, f"the task has {num_pairs:,} pairs"
    wanted = math.ceil(PASSES * num_pairs / size)
    steps = min(max(wanted, LEAST_STEPS), MOST_STEPS)
    passes = f"{steps * size / num_pairs:.1f} passes over the pairs"
    found = [
        Suggestion("data.batch_size", str(size), why),
        Suggestion("trainer.max_steps", str(steps), passes if steps == wanted else f"{passes}, to begin with"),
    ]
    warm_up = steps // 10
    found.append(Suggestion("model.optimizer.warmup_steps", str(warm_up), "a tenth of the steps"))
    if trains in LEARNING_RATES:
        for_short, for_long = LEARNING_RATES[trains]
        rate, length = (for_short, "a short") if steps < SHORT else (for_long, "a long")
        what = "adapters train" if trains == "lora" else "all weights train"
        reason = f"{what}, in {length} run" + (f" ({for_long:.0e} from {SHORT:,} steps on)" if rate != for_long else "")
        found.append(Suggestion("model.optimizer.lr", f"{rate:.0e}", reason))
    return found
