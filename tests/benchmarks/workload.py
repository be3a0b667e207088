"""The workload "four tasks": generated texts of realistic lengths, with words from the encoder's own vocabulary.

post -> one of 150 two-word labels; post -> one of 400 tags with Zipf 1.3 frequencies; post -> post; query -> post.
Words per post are log-normal (mean of logs ln 45, sigma 0.9, cut to 4..250); per query ln 3, 0.5, 1..12.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

TASKS = ("labels", "tags", "posts", "queries")
CLASS = '''"""Benchmark."""

from mtcl import MRR, Files, QueryDocument, Task


class Generated(Task):
    """Generated texts."""

    name = "{name}"
    data = Files("{name}")
    pairs = QueryDocument(query="anchor", document="positive")
    metric = MRR()
    sample = [{{"anchor": "a", "positive": "b"}}]
'''


def rows_of(task: str, count: int, words: list[str], generator: np.random.Generator) -> list[dict[str, str]]:
    """`count` distinct pairs of a task."""
    vocabulary = np.array(words)

    def text(mean: float, sigma: float, least: int, most: int) -> str:
        length = int(np.clip(np.exp(generator.normal(np.log(mean), sigma)), least, most))
        return " ".join(generator.choice(vocabulary, length))

    def post() -> str:
        return text(45, 0.9, 4, 250)

    labels = [" ".join(generator.choice(vocabulary, 2)) for _ in range(150)]
    tags = list(generator.choice(vocabulary, 400, replace=False))
    frequencies = 1 / np.arange(1, 401) ** 1.3
    positives = {
        "labels": lambda: labels[generator.integers(150)],
        "tags": lambda: tags[generator.choice(400, p=frequencies / frequencies.sum())],
        "posts": post,
        "queries": post,
    }[task]
    return [
        {"anchor": text(3, 0.5, 1, 12) if task == "queries" else post(), "positive": positives()} for _ in range(count)
    ]


def vocabulary_of(encoder: Path) -> list[str]:
    """The whole words of a folder's WordPiece vocabulary."""
    return [word for word in (encoder / "vocab.txt").read_text(encoding="utf-8").split("\n") if word.isalpha()]


def write(folder: Path, *, pairs: int, vocabulary: list[str], seed: int = 0) -> None:
    """Write a data root and a folder of task files: `folder/data/<task>/*.parquet` and `folder/tasks/<task>.py`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for number, task in enumerate(TASKS):
        generator = np.random.default_rng([seed, number])
        (folder / "data" / task).mkdir(parents=True, exist_ok=True)
        for split, count in (("train", pairs), ("validation", 4)):
            rows = rows_of(task, count, vocabulary, generator)
            pq.write_table(pa.Table.from_pylist(rows), folder / "data" / task / f"{split}.parquet")
        (folder / "tasks").mkdir(exist_ok=True)
        (folder / "tasks" / f"{task}.py").write_text(CLASS.format(name=task))
