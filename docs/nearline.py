"""Near-line embeddings: posts that arrive as JSON lines in a folder are embedded and stored, each exactly once.

    mtcl serve runs/demo &
    python docs/nearline.py inbox vectors.sqlite --server http://127.0.0.1:8000 --task interest
    python docs/nearline.py inbox postgresql://me@db/posts --server http://127.0.0.1:8000 --task interest

Writers put files `*.jsonl` into the folder, or append whole lines to them: `{"id": "p1", "text": "We are hiring"}`. A
line counts when it ends with a line break. A later line with the same id replaces the vector.

Exactly once: the vectors of some lines and the position in the file after them are written in one transaction, so a
kill at any moment loses and repeats nothing. A second process on the same store does no harm: the position is moved
only if it is still where the lines were read.

Vectors of different encoders must not be compared. Each answer carries the fingerprint of the weights that made it. The
store keeps that of its first vectors, and vectors of any other are refused, also when the server is replaced while this
runs. SQLite needs nothing but Python; Postgres needs its extension pgvector, and here `pip install psycopg pgvector`.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sqlite3
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS files (name TEXT PRIMARY KEY, position BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS posts (id TEXT PRIMARY KEY, vector {vector} NOT NULL, writes INTEGER NOT NULL DEFAULT 1);
CREATE TABLE IF NOT EXISTS rejected (
    file TEXT, position BIGINT, line {bytes}, reason TEXT, PRIMARY KEY (file, position)
);
"""
UPSERT = """
INSERT INTO posts (id, vector) VALUES (?, ?)
ON CONFLICT (id) DO UPDATE SET vector = excluded.vector, writes = posts.writes + 1
"""
ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(202)"
"""Two processes may make the tables of Postgres at once, which it does not allow."""
TRY_AGAIN = (429, 500, 502, 503, 504)
LONGEST_PAUSE_S = 10.0


class StopError(Exception):
    """What a person has to look at; one line."""


class RefusedError(Exception):
    """The server does not take this request; without one of its texts, it may."""


@dataclass(frozen=True)
class Line:
    """A line of a file: where it starts, and its post or why it has none."""

    position: int
    content: bytes
    id: str = ""
    text: str = ""
    reason: str = ""


class Store:
    """Positions and vectors, in SQLite or in Postgres with pgvector: the same statements, but for marks and types."""

    def __init__(self, address: str) -> None:
        self.is_postgres = address.startswith(("postgresql://", "postgres://"))
        if self.is_postgres:
            import psycopg
            from pgvector.psycopg import register_vector

            self.errors: type[Exception] = psycopg.Error
            self.connection: Any = psycopg.connect(address, autocommit=True)
            with self.transaction():
                self.execute(ONE_AT_A_TIME)
                self.execute("CREATE EXTENSION IF NOT EXISTS vector")
                self.execute(SCHEMA.format(vector="vector", bytes="BYTEA"))
            register_vector(self.connection)
        else:
            self.errors = sqlite3.Error
            self.connection = sqlite3.connect(address, timeout=60, isolation_level=None)
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA synchronous = FULL")  # what is committed stays, also if the power fails
            self.connection.executescript(SCHEMA.format(vector="BLOB", bytes="BLOB"))

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        return self.connection.execute(statement.replace("?", "%s") if self.is_postgres else statement, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        if self.is_postgres:
            with self.connection.transaction():
                yield
            return
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def vector(self, raw: bytes) -> Any:
        """A vector of little-endian float32 as its column takes it."""
        if not self.is_postgres:
            return raw
        import numpy as np

        return np.frombuffer(raw, dtype="<f4")


class Server:
    """`mtcl serve` at a URL. It is asked again for as long as it is busy or away."""

    def __init__(self, url: str, fields: dict[str, str]) -> None:
        self.url, self.fields = url.rstrip("/"), fields

    def embed(self, texts: list[str]) -> tuple[list[bytes], str]:
        """Each text's vector as little-endian float32, and the fingerprint of the weights."""
        body = json.dumps({"input": texts, "encoding_format": "base64", **self.fields}).encode()
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get("MTCL_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        pause = 0.1
        while True:
            try:
                request = urllib.request.Request(f"{self.url}/v1/embeddings", body, headers)  # noqa: S310
                with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                    rows = json.load(answer)["data"]
                    return [base64.b64decode(row["embedding"]) for row in rows], answer.headers["x-mtcl-fingerprint"]
            except urllib.error.HTTPError as error:
                if error.code not in TRY_AGAIN:
                    self._refuse(error)
            except (OSError, ValueError):  # away, or gone in the middle of an answer
                pass
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _refuse(self, error: urllib.error.HTTPError) -> None:
        message = error.read().decode(errors="replace")[:300]
        if error.code in (401, 404):
            raise StopError(f"{self.url} refuses this client: {message}") from error
        raise RefusedError(message) from error


class Local:
    """A `TextEncoder` in this process instead of a server."""

    def __init__(self, path: str, fields: dict[str, str]) -> None:
        from mtcl import TextEncoder

        self.encoder, self.options = TextEncoder.load(path), fields
        head = self.encoder.head_fingerprint(fields.get("task"))
        self.fingerprint = self.encoder.fingerprint() + (f".{head}" if head else "")

    def embed(self, texts: list[str]) -> tuple[list[bytes], str]:
        options: Any = self.options
        vectors = self.encoder.encode(texts, output="numpy", **options)
        return [vector.astype("<f4").tobytes() for vector in vectors], self.fingerprint


def lines_from(file: Path, position: int, num: int) -> list[Line]:
    """At most `num` whole lines from a position on."""
    if position > file.stat().st_size:
        raise StopError(f"{file} is shorter than what was read of it: append to files, or write new ones")
    found = []
    with file.open("rb") as content:
        content.seek(position)
        while len(found) < num and (line := content.readline()).endswith(b"\n"):
            found.append(parsed(position, line))
            position += len(line)
    return found


def parsed(position: int, content: bytes) -> Line:
    """A line's post, or the reason why it has none."""
    try:
        row = json.loads(content)
        name, text = str(row["id"]), row["text"]
        if not isinstance(text, str) or not text.strip():
            raise ValueError("the text is empty or not a text")
        text.encode()
        name.encode()
        if "\0" in name:
            raise ValueError("the id contains the character 0, which Postgres does not store")
    except (ValueError, KeyError, TypeError) as error:
        return Line(position, content, reason=f"{type(error).__name__}: {error}")
    return Line(position, content, name, text)


def embedded(embedder: Server | Local, lines: list[Line]) -> tuple[dict[Line, bytes], dict[Line, str], str | None]:
    """Vectors of lines, reasons of those that are refused, and the fingerprint. A refused batch is halved."""
    if not lines:
        return {}, {}, None
    try:
        vectors, fingerprint = embedder.embed([line.text for line in lines])
        return dict(zip(lines, vectors, strict=True)), {}, fingerprint
    except RefusedError as error:
        if len(lines) == 1:
            return {}, {lines[0]: str(error)}, None
    half = len(lines) // 2
    first, second = embedded(embedder, lines[:half]), embedded(embedder, lines[half:])
    if first[2] and second[2] and first[2] != second[2]:
        raise StopError("the server's encoder has changed between two requests: start again")
    return first[0] | second[0], first[1] | second[1], first[2] or second[2]


def check_space(store: Store, space: str) -> None:
    """Stop if the store has vectors of another encoder or task. Runs inside the transaction that adds vectors."""
    store.execute("INSERT INTO about VALUES ('space', ?) ON CONFLICT DO NOTHING", (space,))
    (known,) = store.execute("SELECT value FROM about WHERE key = 'space'").fetchone()
    if known != space:
        raise StopError(
            f"the store has vectors of {known}, these are of {space}: they cannot be compared; use another store"
        )


def advance(store: Store, embedder: Server | Local, file: Path, options: argparse.Namespace) -> bool:
    """Embed and store the next lines of a file; false if there are none."""
    known = store.execute("SELECT position FROM files WHERE name = ?", (file.name,)).fetchone()
    position = known[0] if known else 0
    lines = lines_from(file, position, options.batch)
    if not lines:
        return False
    vectors, refused, fingerprint = embedded(embedder, [line for line in lines if not line.reason])
    refused |= {line: line.reason for line in lines if line.reason}
    with store.transaction():
        store.execute("INSERT INTO files VALUES (?, 0) ON CONFLICT DO NOTHING", (file.name,))
        moved = store.execute(
            "UPDATE files SET position = ? WHERE name = ? AND position = ?",
            (lines[-1].position + len(lines[-1].content), file.name, position),
        )
        if moved.rowcount:  # otherwise another process has stored these lines in the meantime
            if fingerprint is not None:
                check_space(store, f"fingerprint {fingerprint}, task {options.task}, role {options.role}")
            for line, vector in vectors.items():
                store.execute(UPSERT, (line.id, store.vector(vector)))
            for line, reason in refused.items():
                row = (file.name, line.position, line.content, reason)
                store.execute("INSERT INTO rejected VALUES (?, ?, ?, ?)", row)
    return True


def main() -> int:
    """Follow the folder until there is nothing new (`--once`), or for ever."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inbox", type=Path, help="folder of .jsonl files")
    parser.add_argument("store", help="SQLite file, or postgresql://USER@HOST/DATABASE")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--server", help="URL of mtcl serve; its key is read from MTCL_API_KEY")
    where.add_argument("--model", help="run folder, .ckpt or model folder, to embed in this process")
    parser.add_argument("--task", help="whose prompt and head apply")
    parser.add_argument("--role", choices=["query", "document"], default="document")
    parser.add_argument("--batch", type=int, default=64, help="lines of one request and one transaction")
    parser.add_argument("--poll_s", type=float, default=1.0, help="pause when there is nothing new")
    parser.add_argument("--once", action="store_true", help="end when there is nothing new")
    options = parser.parse_args()
    fields = {"role": options.role} | ({"task": options.task} if options.task else {})
    embedder = Server(options.server, fields) if options.server else Local(options.model, fields)
    try:
        store = Store(options.store)
    except Exception as error:  # of either database
        print(f"nearline: the store {options.store} cannot be opened: {error}", file=sys.stderr)
        return 2
    try:
        while True:
            found = [advance(store, embedder, file, options) for file in sorted(options.inbox.glob("*.jsonl"))]
            if not any(found):
                if options.once:
                    break
                time.sleep(options.poll_s)
        (posts,), (rejected,) = (store.execute(f"SELECT COUNT(*) FROM {t}").fetchone() for t in ("posts", "rejected"))  # noqa: S608
    except StopError as error:
        print(f"nearline: {error}", file=sys.stderr)
        return 2
    except store.errors as error:
        print(f"nearline: the store failed ({error}); nothing is lost, start again", file=sys.stderr)
        return 1
    print(f"{posts} posts, {rejected} lines rejected (table `rejected`)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
