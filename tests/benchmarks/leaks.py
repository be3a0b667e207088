"""CPU time of the search for texts of held-out tasks, and for their near copies, among the training texts.

MTCL_DATA=... python -m tests.benchmarks.leaks
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from mtcl.console import markdown_head, markdown_row
from mtcl.data.leaks import TrainedTexts, find_leaks
from mtcl.data.near_copies import NearCopies
from mtcl.task.pairs.keys import text_keys
from mtcl.task.registry import discover
from mtcl.task.rows import pairs_of

TRAINED = (
    *("interest_topics", "hashtags", "stackexchange_tags", "storyline_social", "storyline_news"),
    *("stackexchange_search", "duplicate_questions", "job_search"),
)
HELD_OUT = (
    *("occupation_titles", "occupation_related", "crisis_source", "crisis_hashtags"),
    *("sts_multilingual", "parallel_sentences"),
)
TIMES = 8
"""The training texts are searched this many times, to have a million."""


def main() -> None:
    root, tasks = Path(os.environ["MTCL_DATA"]), discover()
    tables = {name: pairs_of(tasks[name], "train", root) for name in TRAINED}
    trained = {name: TrainedTexts(table.texts, table.keys) for name, table in tables.items()}
    held_out = {
        name: [pairs_of(tasks[name], split, root).texts for split in ("validation", "test")] for name in HELD_OUT
    }
    all_held_out = pa.chunked_array([texts for splits in held_out.values() for texts in splits])
    all_trained = pa.chunked_array([one.texts for one in trained.values()])
    print(f"{len(all_trained):,} training texts, {len(all_held_out):,} held-out ones")
    print(markdown_head(["", "s"]))
    leaks = timed("everything", lambda: find_leaks(held_out, trained))
    timed("keys of the held-out texts", lambda: text_keys(all_held_out))
    index = NearCopies(all_held_out)
    many = pa.chunked_array(all_trained.chunks * TIMES)
    timed(f"near copies among {len(many):,} texts", lambda: index.among(many))
    for leak in leaks:
        print(f"{leak.held_out} in {leak.trained}: {len(leak.keys)} {leak.example!r}")
        print(f"  near copies: {leak.num_near} {leak.near_example}")


def timed(what: str, work: Callable[[], Any]) -> Any:
    since = time.process_time()
    found = work()
    print(markdown_row([what, f"{time.process_time() - since:.1f}"]), flush=True)
    return found


if __name__ == "__main__":
    main()
