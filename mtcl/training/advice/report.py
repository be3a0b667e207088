"""The table of `mtcl tasks check`: statistics of each split, then warnings and suggestions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mtcl.task.kind import Kind
from mtcl.training.advice.reading import Reading, scripts_of
from mtcl.training.advice.rows import most_on_one_key
from mtcl.training.advice.split import Split

MARGIN = 10
"""The width of the word before a line of advice."""
RARE = 0.01
"""A share of the letters below which a script is not shown."""


@dataclass
class TaskReport:
    """Figures by name and split, and the lines that follow them. `numbers` are shown in the order of their names."""

    title: str
    numbers: dict[str, dict[str, str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    advice: list[tuple[str, str]] = field(default_factory=list)

    def add(self, split: str, figures: Mapping[str, str]) -> None:
        """Figures of a split by name."""
        for name, value in figures.items():
            self.numbers.setdefault(name, {})[split] = value

    def print(self, console: Console) -> None:
        """Print the table, no wider than the console; nothing if no split could be read."""
        if not self.numbers:
            return
        splits = list(dict.fromkeys(split for of in self.numbers.values() for split in of))
        table = Table(title=Text(self.title), title_justify="left", show_edge=False, pad_edge=False)
        table.add_column("")
        for split in splits:
            table.add_column(split, justify="right")
        for name, of_split in self.numbers.items():
            table.add_row(name, *(Text(of_split.get(split, "")) for split in splits))
        lines = Table.grid(padding=(0, 2, 0, 0))
        lines.add_column(min_width=MARGIN - 2, no_wrap=True)
        lines.add_column(overflow="fold")
        for what, line in [*(("warning:", warning) for warning in self.warnings), *self.advice]:
            lines.add_row(Text(what), Text(line))
        with console.capture() as shown:
            console.print(table)
            console.print()
            console.print(lines)
        for line in shown.get().splitlines():
            print(line.rstrip(), file=console.file)


def rows_figures(split: Split, num_rows: int) -> dict[str, str]:
    """What a split has, without an encoder."""
    largest, targets = most_on_one_key(split), np.unique(split.positives, return_counts=True)[1]
    words = np.array([len(text.split()) for text in split.words(split.sample())])
    found = {"rows": f"{num_rows:,}", "pairs": f"{len(split):,}"}
    found["left out"] = f"{sum(split.skipped.values()):,}"
    found["distinct texts"] = f"{len(split.texts):,}"
    if split.kind is Kind.POSITIVE:
        found |= {"queries": f"{len(split.queries):,}", "texts to find": f"{len(split.candidates):,}"}
        found["pairs of the most frequent positive"] = _part(int(targets.max()), len(split))
    found["texts with the most frequent key"] = _part(largest, len(split.texts))
    found["words: median, 95 %, most"] = _quantiles(words)
    scripts = scripts_of(split.words(split.sample(1000)))
    shown = [f"{script} {share:.0%}" for script, share in scripts.items() if share >= RARE]
    found["letters"] = ", ".join(shown[:2]) + (f" + {len(shown) - 2}" if len(shown) > 2 else "")
    return found


def reading_figures(reading: Reading) -> dict[str, str]:
    """How an encoder reads a split."""
    return {
        "tokens: median, 95 %, most": _quantiles(reading.lengths),
        f"longer than {reading.max_length} tokens": f"{reading.share_cut:.1%}",
        "tokens cut off": f"{reading.share_lost:.1%}",
        "unknown tokens": f"{reading.share_unknown:.1%}",
        "characters per token": f"{reading.num_characters / reading.lengths.sum():.1f}",
    }


def _part(count: int, total: int) -> str:
    return f"{count:,} ({count / max(1, total):.0%})"


def _quantiles(values: Iterable[int] | np.ndarray) -> str:
    counts = np.asarray(values)
    return f"{np.median(counts):.0f}, {np.quantile(counts, 0.95):.0f}, {counts.max():.0f}"
