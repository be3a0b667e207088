"""Scores, neighbours and vectors from before the first step, kept for the comparisons of a resumed run."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from mtcl.evaluation.pool import Items, Pool
from mtcl.files import write_text
from mtcl.training.board.neighbours import Found, Neighbours

FOLDER = "board"
RECORD = "start.json"
log = logging.getLogger("mtcl")


@dataclass
class BoardStart:
    """By task: item scores, neighbours of the anchors, and the vectors (T, D) of the sampled points."""

    items: dict[str, Items] = field(default_factory=dict)
    neighbours: dict[str, Neighbours] = field(default_factory=dict)
    vectors: dict[str, Tensor] = field(default_factory=dict)

    def write(self, folder: Path, pools: Iterable[Pool]) -> None:
        """Write everything but the vectors, which the projector's files have."""
        own = folder / FOLDER
        record = {}
        for pool in (pool for pool in pools if pool.name in self.items):
            self.items[pool.name].write(own / f"{pool.name}.parquet")
            found = self.neighbours.get(pool.name, {})
            plain = {str(a): [[one.text, one.cosine, one.is_right] for one in several] for a, several in found.items()}
            record[pool.name] = {"pool": pool.store.folder.name, "neighbours": plain}
        write_text(own / RECORD, json.dumps(record))

    @classmethod
    def read(cls, folder: Path, pools: Iterable[Pool]) -> BoardStart:
        """Read what an earlier process of the run wrote, without tasks whose pool has changed since then."""
        own, start = folder / FOLDER, cls()
        try:
            record = json.loads((own / RECORD).read_text(encoding="utf-8"))
            for pool in pools:
                kept = record.get(pool.name)
                if kept is None or kept["pool"] != pool.store.folder.name:
                    continue
                start.items[pool.name] = _read_items(own / f"{pool.name}.parquet")
                start.neighbours[pool.name] = {
                    int(anchor): [Found(*one) for one in several] for anchor, several in kept["neighbours"].items()
                }
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s cannot be read (%s): the board compares with the base's figures only", own, error)
            return cls()
        return start


def _read_items(path: Path) -> Items:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    names = tuple(name for name in table.column_names if name not in ("item", "cluster"))
    scores = np.stack([table[name].to_numpy() for name in names], axis=1)
    return Items(table["item"].to_numpy(), table["cluster"].to_numpy(), names, scores)
