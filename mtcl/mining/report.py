"""The report of `mtcl mine`: the number of negatives, why neighbours were left out, and samples to read."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtcl.console import markdown_table, one_line
from mtcl.files import write_text
from mtcl.mining.root import REPORT

if TYPE_CHECKING:
    from mtcl.mining.candidates import Limits, Mined

WIDTH = 160
"""Maximum number of characters of a text in the report."""


@dataclass
class MiningReport:
    """Sums up the results of all blocks; `text` gives them in Markdown."""

    task: str
    encoder: str
    limits: Limits
    num_candidates: int
    recall: float | None = None
    num_samples: int = 8
    num_rows: int = 0
    num_without_positive: int = 0
    num_negatives: int = 0
    by_number: Counter[int] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    score_of_positives: float = 0.0
    score_of_negatives: float = 0.0
    samples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, mined: Mined, positive_N: Any, *, num_rows: int) -> None:
        """Add a block of rows: the result for those that make a pair, and the score of their positives."""
        paired = ~np.isnan(positive_N)
        self.num_rows += num_rows
        self.num_without_positive += num_rows - int(paired.sum())
        numbers = (mined.negatives_NM >= 0).sum(axis=1)[paired]
        self.by_number.update(numbers.tolist())
        self.num_negatives += int(numbers.sum())
        self.left_out += mined.left_out
        self.score_of_positives += float(positive_N[paired].sum())
        self.score_of_negatives += float(np.nansum(mined.scores_NM))

    def show(self, anchor: str, positives: list[str], score: float, negatives: list[tuple[str, float]]) -> None:
        """Add a sample row."""
        if not math.isnan(score):
            self.samples.append({"text": anchor, "positives": positives, "score": score, "negatives": negatives})

    def figures(self) -> dict[str, Any]:
        """The whole report as plain values, for JSON."""
        num_anchors = self.num_rows - self.num_without_positive
        return {
            "task": self.task,
            "encoder": self.encoder,
            **asdict(self.limits),
            "candidates": self.num_candidates,
            "recall": self.recall,
            "rows": self.num_rows,
            "rows_without_positive": self.num_without_positive,
            "negatives": self.num_negatives,
            "rows_with_fewer": sum(n for number, n in self.by_number.items() if number < self.limits.num),
            "rows_with_none": self.by_number[0],
            "mean_score_of_positives": self.score_of_positives / max(1, num_anchors),
            "mean_score_of_negatives": self.score_of_negatives / max(1, self.num_negatives),
            "left_out": dict(self.left_out),
            "samples": self.samples,
        }

    def text(self) -> str:
        """The whole report in Markdown."""
        found, limits = self.figures(), self.limits
        rows = [
            ("rows", f"{self.num_rows:,}"),
            ("rows that make no pair", f"{self.num_without_positive:,}"),
            ("negatives", f"{self.num_negatives:,}"),
            (f"rows with fewer than {limits.num}", f"{found['rows_with_fewer']:,}"),
            ("rows with none", f"{found['rows_with_none']:,}"),
            *((f"neighbours left out: {reason}", f"{number:,}") for reason, number in sorted(self.left_out.items())),
            ("mean score of positives", f"{found['mean_score_of_positives']:.3f}"),
            ("mean score of negatives", f"{found['mean_score_of_negatives']:.3f}" if self.num_negatives else "none"),
        ]
        if self.recall is not None:
            rows.append((f"of the {limits.ranks[1]} nearest, found by the index", f"{self.recall:.1%}"))
        lines = [
            f"# Hard negatives of {self.task}",
            "",
            f"Found with {self.encoder} among {self.num_candidates:,} candidates: up to {limits.num} per row, of ranks "
            f"{limits.ranks[0] + 1} to {limits.ranks[1]}, below {limits.below} of the positive's score.",
            "",
            markdown_table(["what", "number"], rows, numbers={1}).rstrip(),
        ]
        for sample in self.samples:
            lines += ["", f"**{_short(sample['text'])}**", ""]
            lines += [f"- positive ({sample['score']:.3f}): {_short(' / '.join(sample['positives']))}"]
            lines += [f"- negative ({score:.3f}): {_short(text)}" for text, score in sample["negatives"]]
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write `negatives.md` and `negatives.json`."""
        write_text(folder / f"{REPORT}.md", self.text() + "\n")
        write_text(folder / f"{REPORT}.json", json.dumps(self.figures(), indent=1))


def _short(text: str) -> str:
    return one_line(text, WIDTH)
