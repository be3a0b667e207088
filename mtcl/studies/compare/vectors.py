"""A disk cache of vectors by model and text, so that no text is paid for twice. One SQLite file, written per batch.

A killed comparison keeps the answers that it has received; several comparisons may share the file.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtcl.arrays import Float32Array

LOOK_UPS = 500
"""Keys per query; SQLite limits the number of variables."""


@dataclass(frozen=True)
class VectorCache:
    """`model` identifies everything besides the text that determines a vector: endpoint, model, dimensions."""

    path: Path
    model: str

    def get(self, texts: Sequence[str]) -> dict[str, Float32Array]:
        """The cached vectors, by text."""
        by_key = {self._key(text): text for text in texts}
        keys, found = list(by_key), dict[str, Float32Array]()
        with closing(self._open()) as database:
            for start in range(0, len(keys), LOOK_UPS):
                some = keys[start : start + LOOK_UPS]
                marks = ",".join("?" * len(some))
                rows = database.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", some)  # noqa: S608, marks
                found |= {by_key[key]: np.frombuffer(vector, dtype="<f4") for key, vector in rows}
        return found

    def put(self, vectors: Mapping[str, Float32Array]) -> None:
        """Store vectors: all of them or, if killed, none."""
        rows = [(self._key(text), vector.astype("<f4").tobytes()) for text, vector in vectors.items()]
        with closing(self._open()) as database, database:
            database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self.path, timeout=60)
        database.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID")
        return database

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(f"{self.model}\0{text}".encode()).digest()
