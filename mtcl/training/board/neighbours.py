"""The nearest neighbours of a few fixed validation texts per task, at the start of the run and now."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtcl.arrays import every_nth
from mtcl.console import markdown_table, one_line
from mtcl.evaluation.pool import PoolVectors, Result
from mtcl.training.board.judging import Judging

NUM_ANCHORS, NUM_NEIGHBOURS = 6, 3
WIDTH = 90
"""Characters of a text to show."""


@dataclass(frozen=True)
class Found:
    """A text that an anchor finds, as an index into the pool's store, and whether it is right. For judged pairs, `text`
    is the other text of the pair, and `is_right` is None.
    """

    text: int
    cosine: float
    is_right: bool | None


Neighbours = dict[int, list[Found]]
"""What each anchor (an index into the pool's store, or a pair's number) finds, nearest first."""


def neighbours_of(judging: Judging, vectors: PoolVectors, result: Result) -> Neighbours:
    """The anchors are the same whenever the pool is the same."""
    if not judging.is_searched:
        table, cosines_P = judging.pool.store.pairs, result.items.column("cosine")
        chosen = every_nth(np.arange(len(cosines_P)), NUM_ANCHORS)
        return {int(p): [Found(int(table.positives[p]), float(cosines_P[p]), None)] for p in chosen}
    found: Neighbours = {}
    for block in judging.blocks(vectors, most=NUM_ANCHORS):
        top = block.cosines_NC.topk(min(NUM_NEIGHBOURS, len(judging.candidates)), dim=1)
        for row, (query, places, cosines) in enumerate(
            zip(block.queries.tolist(), top.indices.tolist(), top.values.tolist(), strict=True)
        ):
            found[query] = [
                Found(int(judging.candidates[place]), cosine, bool(block.relevant_NC[row, place]))
                for place, cosine in zip(places, cosines, strict=True)
                if cosine > -1.5  # the query itself
            ]
    return found


def markdown(judging: Judging, start: Neighbours | None, now: Neighbours) -> str:
    """A table with a row per anchor, and its neighbours at the start and now; ✔ is right, ✘ wrong."""
    table = judging.pool.store.pairs

    def text(index: int) -> str:
        return shortened(table.texts[index].as_py())

    def cell(found: Sequence[Found] | None) -> str:
        if found is None:
            return "not known"
        marks = {True: "✔ ", False: "✘ ", None: ""}
        return "<br>".join(f"{marks[one.is_right]}{one.cosine:.2f} {text(one.text)}" for one in found)

    if judging.is_searched:
        head = ["validation text", "nearest at the start", f"nearest now ({_share_right(now):.0%} right)"]
        rows = [[text(anchor), cell((start or {}).get(anchor)), cell(found)] for anchor, found in now.items()]
        return markdown_table(head, rows)
    assert table.scores is not None
    head = ["one text", "the other", "score", "cosine at the start", "cosine now"]
    pairs = [
        [
            text(int(table.anchors[pair])),
            text(found[0].text),
            f"{table.scores[pair]:g}",
            f"{start[pair][0].cosine:.2f}" if start and pair in start else "not known",
            f"{found[0].cosine:.2f}",
        ]
        for pair, found in now.items()
    ]
    return markdown_table(head, pairs, numbers={2, 3, 4})


def _share_right(found: Neighbours) -> float:
    marks = [one.is_right is True for several in found.values() for one in several[:1]]
    return sum(marks) / max(1, len(marks))


def shortened(text: str, width: int = WIDTH) -> str:
    """One line of at most `width` characters, which Markdown shows as it is."""
    line = html.escape(one_line(text, width, end="…"), quote=False)
    return "".join(f"\\{one}" if one in "\\`*_[]#~" else one for one in line)
