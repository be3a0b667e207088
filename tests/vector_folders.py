"""Folders of vectors for tests and benchmarks, as `mtcl embed` writes them, from arrays instead of texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mtcl.deploy.embed.numbers import Ranges
from mtcl.deploy.embed.rows import Window
from mtcl.deploy.embed.settings import Settings, agree
from mtcl.deploy.embed.shards import Identity, Shard
from mtcl.deploy.embed.writing import ShardFiles
from mtcl.deploy.vectors import VectorFolder


def settings_of(dim: int, **changes: Any) -> Settings:
    """Settings of a made-up encoder."""
    given: dict[str, Any] = {
        "fingerprint": "0123456789abcdef",
        "tokens": "0123456789abcdef",
        "head": None,
        "task": None,
        "role": "document",
        "prompt": "",
        "max_length": 128,
        "dim": dim,
        "dtype": "float32",
        "precision": "float32",
        "format": "parquet",
        "text": "text",
        "id": "id",
        "keep": [],
        "window": 16_384,
    }
    return Settings(**given | changes)


def write_vectors(
    folder: Path, vectors_ND: Any, ids: Any, *, num_files: int = 1, block: int = 1000, **settings: Any
) -> VectorFolder:
    """Write (N, D) vectors with their ids to files `part-0`, `part-1` ...; `texts` is a kept column if it is given."""
    texts = settings.pop("texts", None)
    vectors_ND = np.asarray(vectors_ND, dtype=np.float32)
    wanted = settings_of(vectors_ND.shape[1], keep=[] if texts is None else ["text"], **settings)
    if wanted.dtype == "int8":
        wanted = settings_of(vectors_ND.shape[1], keep=wanted.keep, **settings, ranges=Ranges.of(vectors_ND).plain())
    wanted = agree(folder, wanted)
    for number, rows in enumerate(np.array_split(np.arange(len(vectors_ND)), num_files)):
        name = f"part-{number}"
        files = ShardFiles(folder, Shard(name, None, ".jsonl"), wanted, Identity(len(rows), name, 0))
        parts = []
        for start in range(0, len(rows), block):
            here = rows[start : start + block]
            columns = {"id": pa.array([ids[row] for row in here])}
            if texts is not None:
                columns["text"] = pa.array([texts[row] for row in here])
            stored = wanted.numbers.encode(vectors_ND[here])
            parts.append(files.write_part(Window(start, start + len(here), [], pa.table(columns), []), stored))
        files.finish(parts, None)
    return VectorFolder.open(folder)


def unit_vectors(rows: int, dim: int, *, seed: int = 0, groups: int = 0) -> Any:
    """Random unit vectors; with `groups`, around as many centres, so that neighbours differ from the rest."""
    generator = np.random.default_rng(seed)
    vectors_ND = generator.normal(size=(rows, dim))
    if groups:
        centres_GD = 2 * generator.normal(size=(groups, dim))
        vectors_ND += centres_GD[generator.integers(groups, size=rows)]
    return (vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)).astype(np.float32)
