"""Scores and neighbours from before the first step, kept in the run's folder for the comparisons of a resumed run."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from mtcl.evaluation.pool import Items, Pool
from mtcl.files import write_text
from mtcl.training.board.neighbours import Found
from mtcl.training.board.watched import Before

FOLDER = "board"
RECORD = "start.json"
log = logging.getLogger("mtcl")


def write_start(folder: Path, pools: Iterable[Pool], start: Mapping[str, Before]) -> None:
    """Write everything but the vectors, which the projector's files have. `start` is by task."""
    own, record = folder / FOLDER, {}
    for pool in (pool for pool in pools if pool.name in start):
        before = start[pool.name]
        before.items.write(own / f"{pool.name}.parquet")
        found = before.neighbours.items()
        plain = {str(a): [[one.text, one.cosine, one.is_right] for one in several] for a, several in found}
        record[pool.name] = {"pool": pool.store.folder.name, "neighbours": plain}
    write_text(own / RECORD, json.dumps(record))


def read_start(folder: Path, pools: Iterable[Pool]) -> dict[str, Before]:
    """By task, what an earlier process of the run wrote, without tasks whose pool has changed since then."""
    own, start = folder / FOLDER, {}
    try:
        record = json.loads((own / RECORD).read_text(encoding="utf-8"))
        for pool in pools:
            kept = record.get(pool.name)
            if kept is None or kept["pool"] != pool.store.folder.name:
                continue
            found = {int(anchor): [Found(*one) for one in several] for anchor, several in kept["neighbours"].items()}
            start[pool.name] = Before(_read_items(own / f"{pool.name}.parquet"), found)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read (%s): the board compares with the base's figures only", own, error)
        return {}
    return start


def _read_items(path: Path) -> Items:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    names = tuple(name for name in table.column_names if name not in ("item", "cluster"))
    scores = np.stack([table[name].to_numpy() for name in names], axis=1)
    return Items(table["item"].to_numpy(), table["cluster"].to_numpy(), names, scores)
