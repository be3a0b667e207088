"""A team with few labels and a frozen encoder: a linear classifier on the embeddings of a co-trained run, against the
base encoder's.

    MTCL_DATA=... python -m tests.benchmarks.few_shot_probe --start STUDY/runs/joint-{seed} [--task interest_topics]

The task must be a label task that the checkpoints never trained. Examples are drawn from its training split ten times
per seed, the same for both encoders. The score of a test item is the share of draws in which it is classified right.
The classifier is scikit-learn's logistic regression as MTEB uses it, without tuning.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from mtcl.console import markdown_head, markdown_row
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.studies.statistics import Differences, bootstrap
from mtcl.task.registry import discover

DRAWS = 10
POOL = 256
"""Draws use only this many first training rows per label, to embed fewer texts."""
Texts = npt.NDArray[np.str_]
Vectors = npt.NDArray[np.float32]
Shares = npt.NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", required=True, help="the co-trained run; {seed} is replaced with the seed")
    parser.add_argument("--task", default="interest_topics")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--examples", type=int, nargs="+", default=[4, 16, 64], help="examples per label")
    options = parser.parse_args()
    runs = {seed: options.start.format(seed=seed) for seed in options.seeds}
    if len(set(runs.values())) < len(runs):
        parser.error(f"--start {options.start} names one run for all seeds: write {{seed}} in its path")
    (texts, labels), (test_texts, test_labels) = rows(options.task, "train"), rows(options.task, "test")
    shown = np.concatenate([np.flatnonzero(labels == label)[:POOL] for label in np.unique(labels)])
    texts, labels = texts[shown], labels[shown]
    if (fewest := np.unique(labels, return_counts=True)[1].min()) < max(options.examples):
        parser.error(f"--examples {max(options.examples)}: a label of {options.task} has only {fewest} training rows")
    encoders = {seed: TextEncoder.load(Path(run)) for seed, run in runs.items()}

    def embedded(encoder: TextEncoder) -> tuple[Vectors, Vectors]:
        return encoder(list(texts)).numpy(), encoder(list(test_texts)).numpy()

    base_vectors, run_vectors = embedded(base_encoder()), {seed: embedded(one) for seed, one in encoders.items()}
    print(markdown_head(["examples per label", f"{options.task} accuracy, base", "co-trained run", "difference"]))
    for examples in options.examples:
        base, ours = (
            np.stack([accuracy(vectors[seed], labels, test_labels, examples, seed) for seed in options.seeds])
            for vectors in (dict.fromkeys(options.seeds, base_vectors), run_vectors)
        )
        gain = bootstrap(Differences.between(ours, base))
        print(markdown_row([examples, f"{base.mean():.4f}", f"{ours.mean():.4f}", gain]), flush=True)


def rows(task: str, split: str) -> tuple[Texts, Texts]:
    """Texts and labels of a split."""
    plugin = discover()[task]
    table = plugin.data(split, Path(os.environ["MTCL_DATA"]))
    return np.array(table[plugin.pairs.text].to_pylist()), np.array(table[plugin.pairs.label].to_pylist())


def base_encoder() -> TextEncoder:
    return TextEncoder.base(EncoderConfig(), max_length=64)


def accuracy(vectors: tuple[Vectors, Vectors], labels: Texts, test_labels: Texts, examples: int, seed: int) -> Shares:
    """The share of draws in which each test item gets its own label."""
    train_ND, test_ND = vectors
    right = np.zeros(len(test_labels))
    for draw in range(DRAWS):
        order = np.random.default_rng([seed, draw]).permutation(len(labels))
        shown = np.concatenate([order[labels[order] == label][:examples] for label in np.unique(labels)])
        classifier = LogisticRegression(max_iter=100).fit(train_ND[shown], labels[shown])
        right += classifier.predict(test_ND) == test_labels
    return right / DRAWS


if __name__ == "__main__":
    main()
