"""Findings about the rows of one split: rows that make no pair, labels that are too frequent, copied texts.

Every function takes a `Split` and returns warnings.
"""

from __future__ import annotations

import numpy as np

from mtcl.arrays import IntArray
from mtcl.task.kind import Kind
from mtcl.task.pairs.columns import reasons
from mtcl.task.pairs.keys import text_keys
from mtcl.task.pairs.search import NOT_RELEVANT
from mtcl.task.pairs.shared_keys import carriers_of
from mtcl.training.advice.split import Split

LEFT_OUT = 0.05
"""A share of rows left out from which it is worth a warning."""
FREQUENT = 0.5
"""A share of the pairs above which one label or document has too many."""
ONE_SCORE = 0.9
"""A share of judged pairs with the same score."""
COPIED = 0.5
"""A share of pairs in which one text contains the other."""
FEW_QUERIES = 100
"""The number of queries below which an evaluation cannot tell small gains from chance."""
UNREADABLE = 0.01
"""A share of texts with characters that were lost when a file was converted."""
TWINS = 0.01
"""A share of texts to find that are equal to another one in some way that is worth a warning."""
LOST = "\N{REPLACEMENT CHARACTER}"


def left_out(split: Split) -> list[str]:
    """Rows that make no pair and should: null or empty texts, repeated pairs. Rows of grade 0 are only for judging."""
    skipped = {reason: count for reason, count in split.skipped.items() if reason != NOT_RELEVANT}
    count = sum(skipped.values())
    if not count or count < LEFT_OUT * split.num_rows:
        return []
    share = f"{count / split.num_rows:.0%} of the rows of {split.name}"
    return [f"{share} make no pair: {reasons(skipped)}; clean the rows"]


def contradictions(split: Split) -> list[str]:
    """Pairs that were judged twice, with different scores."""
    count = split.skipped.get("duplicate pair with another score", 0)
    if not count:
        return []
    return [f"{count:,} pairs of {split.name} occur again with another score, of which the first counts: decide on one"]


def skew(split: Split) -> list[str]:
    """A warning if one label, document or cluster has most of the pairs, or one score most of the judged pairs."""
    if split.scores is not None:
        values, counts = np.unique(split.scores, return_counts=True)
        share = counts.max() / counts.sum()
        if len(values) == 1 or share < ONE_SCORE:
            return []
        return [
            f"{share:.0%} of the pairs of {split.name} have the score {values[counts.argmax()]:.3g}: add pairs with "
            "other scores, since pairs with equal scores teach nothing about each other"
        ]
    targets, counts = np.unique(split.positives, return_counts=True)
    share = counts.max() / counts.sum()
    if len(targets) < 2 or share <= FREQUENT:
        return []
    return [
        f"{share:.0%} of the pairs of {split.name} have the same {_target(split, int(targets[counts.argmax()]))}, so "
        "most texts of a batch cannot be negatives; train on fewer of them (tasks.NAME.pairs_per_label for labels)"
    ]


def copies(split: Split) -> list[str]:
    """A warning if in many pairs one text contains the other, so that words alone find the answer."""
    if split.kind is not Kind.POSITIVE or split.groups is not None:
        return []
    pairs = split.read_pairs()
    share = sum(_contains(*pair) for pair in pairs) / len(pairs)
    if share < COPIED:
        return []
    return [
        f"in {share:.0%} of the pairs of {split.name} one text contains the other: equal words give the answer, so "
        "little else is learned; remove the shorter text from the longer one"
    ]


def few_to_evaluate(split: Split) -> list[str]:
    """A warning about an evaluation with few queries, or with one text to find."""
    found = []
    number = len(split.queries) if split.kind is Kind.POSITIVE else len(split)
    if number < FEW_QUERIES:
        what = "queries" if split.kind is Kind.POSITIVE else "pairs"
        found.append(
            f"{split.name} has only {number:,} {what}: by chance alone the metric varies by about "
            f"{1 / np.sqrt(number):.2f}; give {FEW_QUERIES} or more"
        )
    if split.kind is Kind.POSITIVE and len(split.candidates) == 1:
        found.append(f"{split.name}: there is only one text to find, so any encoder has a perfect metric")
    return found


def spellings(split: Split) -> list[str]:
    """A warning about texts to find that differ only in case or spacing, such as two spellings of a label."""
    import pyarrow as pa

    if split.kind is not Kind.POSITIVE or split.is_symmetric:
        return []
    candidates = np.unique(split.candidates)
    found = twins(text_keys(split.texts.take(pa.array(candidates))))
    if found is None:
        return []
    number, pair = found
    one, other = split.words(candidates[list(pair)])
    return [
        f"{number:,} of the {len(candidates):,} texts to find in {split.name} differ from another one only in case or "
        f"spacing (for example {one!r:.60} and {other!r:.60}), and only one of them is right for a query: write each "
        "in one way"
    ]


def twins(values: IntArray) -> tuple[int, tuple[int, int]] | None:
    """How many of the values occur more than once, and where two equal ones are; None if it is few of them."""
    _, first, of_value, counts = np.unique(values, return_index=True, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(counts[of_value] > 1)
    if len(repeated) < max(1, TWINS * len(values)):
        return None
    other = next(place for place in repeated.tolist() if first[of_value[place]] != place)
    return len(repeated), (int(first[of_value[other]]), other)


def unreadable(split: Split) -> list[str]:
    """A warning about characters that were lost when the file was made."""
    texts = split.words(split.sample())
    share = sum(LOST in text for text in texts) / len(texts)
    if share < UNREADABLE:
        return []
    return [f"{share:.0%} of the texts of {split.name} have the character {LOST}: write the file again as UTF-8"]


def new_labels(train: Split, split: Split) -> list[str]:
    """A warning about labels to find that training never shows, for tasks whose documents are labels."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if split.is_symmetric:  # posts of a cluster
        return []
    targets, wanted = np.unique(train.candidates), np.unique(split.candidates)
    known = train.texts.take(pa.array(targets))
    is_known = pc.is_in(split.texts.take(pa.array(wanted)), value_set=known)
    missing = len(wanted) - int(pc.sum(is_known).as_py() or 0)
    if not missing:
        return []
    return [f"{missing:,} of the {len(wanted):,} labels to find in {split.name} are never a positive in training"]


def most_on_one_key(split: Split) -> int:
    """The number of texts that share the most frequent key: none of them is a negative of another."""
    return int(carriers_of(split.keys).num_carriers.max(initial=0))


def _target(split: Split, target: int) -> str:
    if split.groups is not None:
        return "label or cluster"
    return f"positive, {split.words(np.array([target]))[0][:40]!r}"


def _contains(one: str, other: str) -> bool:
    short, long = sorted((one.casefold(), other.casefold()), key=len)
    return short in long
