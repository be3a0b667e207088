"""Runs for the tests of the board: eight tasks of all kinds of pairs on the demo corpus, and an encoder that knows its
words, so that seconds of training show on every chart.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

TASKS = {
    "rewording": ("Augmented(text='text')", "MRR()", [{"text": "one"}]),
    "same_topic": (
        "Labelled(first='first', second='second', label='label')",
        "AveragePrecision()",
        [{"first": "a", "second": "b", "label": 1}],
    ),
    "closeness": (
        "Scored(first='first', second='second', score='score', low=0, high=5)",
        "Spearman()",
        [{"first": "a", "second": "b", "score": 2.5}],
    ),
}
EIGHT = ("interest", "hashtag", "storyline", "search", "translation", *TASKS)
SIZES = {"train": 600, "validation": 200, "test": 100}


def write_tasks(root: Path, folder: Path) -> None:
    """Write three tasks on the demo's posts, with their files in `folder` and their rows in the data root."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (pairs, metric, sample) in TASKS.items():
        (folder / f"{name}.py").write_text(
            f'from mtcl import *\n\nclass T(Task):\n    """Posts of the demo, for a test."""\n\n    name = "{name}"\n'
            f'    data = Files("{name}")\n    pairs = {pairs}\n    metric = {metric}\n    sample = {sample}\n'
        )
    for split, size in SIZES.items():
        posts = pq.read_table(root / "interest" / f"{split}.parquet").to_pylist()
        generator = np.random.default_rng(0)
        ones, others = (generator.integers(len(posts), size=size) for _ in range(2))
        by_topic: dict[str, list[int]] = {}
        for number, post in enumerate(posts):
            by_topic.setdefault(post["topic"], []).append(number)
        same = [int(generator.choice(by_topic[posts[one]["topic"]])) for one in ones]
        seconds = np.where(generator.random(size) < 0.4, same, others)
        first, second = ([posts[int(n)]["text"] for n in numbers] for numbers in (ones, seconds))
        label = [int(posts[int(a)]["topic"] == posts[int(b)]["topic"]) for a, b in zip(ones, seconds, strict=True)]
        score = [5.0 if a == b else 3.5 * one for a, b, one in zip(first, second, label, strict=True)]
        tables = {
            "rewording": {"text": [posts[int(n)]["text"] for n in ones]},
            "same_topic": {"first": first, "second": second, "label": label},
            "closeness": {"first": first, "second": second, "score": score},
        }
        for name, columns in tables.items():
            (root / name).mkdir(exist_ok=True)
            pq.write_table(pa.table(columns), root / name / f"{split}.parquet")


def write_model(root: Path, folder: Path) -> None:
    """Write a BERT of one layer and 48 dimensions whose vocabulary is the words under a data root."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words: set[str] = set()
    for file in sorted(root.rglob("*.parquet")):
        for column in pq.read_table(file).columns:
            values = column.combine_chunks()
            values = values.flatten() if pa.types.is_list(values.type) else values
            if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
                words.update(*(re.findall(r"\w+|[^\w\s]", text.lower()) for text in values.to_pylist()))
    folder.mkdir(parents=True)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(words)]
    (folder / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 96}
    config = BertConfig(vocab_size=len(pieces), max_position_embeddings=128, **sizes)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)


def arguments(run: str, *, model: Path, root: Path, tasks: tuple[str, ...] = EIGHT, **changed: object) -> list[str]:
    """The arguments of `mtcl fit` for a run of 30 steps with three validations; a key's dots are written as `__`."""
    values = {
        "run_dir": f"runs/{run}",
        "model.encoder.name": model,
        "model.optimizer.lr": 3e-3,
        "model.gradient_cosines_every_n_steps": 5,
        "data.root": root,
        "data.batch_size": 16,
        "data.max_length": 48,
        "data.num_workers": 0,
        **{f"tasks.{task}": "{}" for task in tasks},
        "trainer.max_steps": 30,
        "trainer.val_check_interval": 10,
        "trainer.log_every_n_steps": 2,
        "trainer.enable_progress_bar": "false",
        "checkpoint_every_n_steps": 5,
        **{key.replace("__", "."): value for key, value in changed.items()},
    }
    return [part for key, value in values.items() for part in (f"--{key}", str(value))]
