"""Tables that are committed, to be read on GitHub: `make tables` writes them, `make check` compares them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

import mtcl
import mtcl.losses
from docs.generators.api import title_of
from mtcl.configuration.help import first_sentence
from mtcl.console import markdown_table
from mtcl.losses import default_loss

ROWS = {
    "QueryDocument": "a query and a document that answers it",
    "LabelText": "a post and its one label, as text",
    "Tags": "a post and its several tags",
    "Cluster": "posts of one story or cluster",
    "Duplicates": "two wordings of the same thing",
    "Parallel": "a text and its translation",
    "Scored": "two texts with a similarity score",
    "Labelled": "two texts, and 1 if they belong together, else 0",
    "Augmented": "texts only",
}
"""The pairs, in the order of the table, and the rows that they are for."""


def rows() -> str:
    """What rows look like -> pairs, default loss, other losses that fit, metrics that fit."""
    known = {name for name in mtcl.__all__ if title_of(name) == "Pairs" and is_pairs(name)}
    if known != ROWS.keys():
        raise AssertionError(f"the table of rows lacks {known ^ ROWS.keys()}: add what rows they are for")
    lines = []
    for name, text in ROWS.items():
        kind = getattr(mtcl, name).kind
        loss = default_loss(kind).words.removesuffix("()")
        metrics = [f"`{one}`" for one in named("Metrics") if one != "Metric" and kind in getattr(mtcl, one).kinds]
        columns = ", ".join(columns_of(name))
        lines.append((text, f"`{name}({columns})`", f"`{loss}`", ", ".join(metrics)))
    return table(("your rows are", "pairs", "default loss", "metrics"), lines)


def losses() -> str:
    """Every loss with the kinds of pairs it takes and its first sentence."""
    lines = [(f"`{name}`", kinds_of(name), summary(name)) for name in named("Losses") if name != "Loss"]
    return table(("loss", "kinds of pairs", "what it does"), lines)


def metrics() -> str:
    """Every metric with the kinds of pairs it judges and its first sentence."""
    lines = [(f"`{name}`", kinds_of(name), summary(name)) for name in named("Metrics") if name != "Metric"]
    return table(("metric", "kinds of pairs", "what it measures"), lines)


def named(title: str) -> list[str]:
    """The public names under a heading of the reference."""
    return [name for name in mtcl.__all__ if title_of(name) == title]


def is_pairs(name: str) -> bool:
    """Whether a public name is a way to form pairs."""
    found = getattr(mtcl, name)
    return isinstance(found, type) and issubclass(found, mtcl.Pairs) and found is not mtcl.Pairs


def kinds_of(name: str) -> str:
    """The kinds of pairs that a loss or a metric is for."""
    kinds = getattr(mtcl, name).kinds
    return "all" if kinds == frozenset(mtcl.Kind) else ", ".join(sorted(kind.value for kind in kinds))


def columns_of(pairs: str) -> list[str]:
    """The columns that rows must have: the arguments whose default is the name of a column."""
    parameters = inspect.signature(getattr(mtcl, pairs)).parameters.values()
    return [p.name for p in parameters if isinstance(p.default, str) and p.name not in ("by", "corpus_text")]


def summary(name: str) -> str:
    """The first sentence of a docstring."""
    return first_sentence((inspect.getdoc(getattr(mtcl, name)) or "").partition("\n\n")[0])


def table(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    return markdown_table(head, lines).rstrip("\n")
