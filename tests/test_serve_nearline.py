"""docs/nearline.py: each post once, whenever the process is killed; another encoder is noticed.

python -m pytest tests/test_serve_nearline.py
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
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


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    words = [sys.executable, str(SCRIPT), "inbox", "store.sqlite", *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(words, cwd=folder, env=environment, stdout=-1, stderr=-1, text=True)


def finish(folder: Path, *options: str) -> tuple[int, str, str]:
    process = start(folder, *options, "--once")
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    (folder / "inbox").mkdir(exist_ok=True)
    with (folder / "inbox" / name).open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def rows_of(folder: Path, query: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(folder / "store.sqlite")) as store:
        return store.execute(query).fetchall()


def check(folder: Path, encoder: TextEncoder, rows: list[dict[str, Any]], **options: Any) -> None:
    """The store has the vector of each id's last text, and has written it once for each line."""
    last, times = {row["id"]: row["text"] for row in rows}, [row["id"] for row in rows]
    stored = {
        name: (vector, writes) for name, vector, writes in rows_of(folder, "SELECT id, vector, writes FROM posts")
    }
    assert {name: writes for name, (_, writes) in stored.items()} == {name: times.count(name) for name in last}
    found = np.stack([np.frombuffer(stored[name][0], dtype="<f4") for name in last])
    np.testing.assert_allclose(found, encoder.encode(list(last.values()), output="numpy", **options), atol=1e-6)


def posts(num: int, seed: int = 0) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [{"id": f"p{draw.randrange(num)}", "text": " ".join(draw.choices(WORDS, k=9))} for _ in range(num)]


def test_killed_at_any_moment(url: str, encoder: TextEncoder, tmp_path: Path) -> None:
    """Six times, while lines are added; afterwards no line is missing and none was stored twice."""
    rows, draw = [{**row, "text": f"post {row['id'][1:]}"} for row in posts(400)], random.Random(1)
    options = ("--server", url, "--task", "search", "--role", "query", "--batch", "3")
    for part in range(6):
        write(tmp_path, f"{part % 2}.jsonl", rows[part * 50 : part * 50 + 50])
        process = start(tmp_path, *options)
        time.sleep(draw.uniform(0.25, 0.6))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    write(tmp_path, "2.jsonl", rows[300:])
    code, out, err = finish(tmp_path, *options)
    assert (code, err) == (0, "")
    assert out == f"{len({row['id'] for row in rows})} posts, 0 lines rejected (table `rejected`)\n"
    check(tmp_path, encoder, rows, task="search", role="query")
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "inbox").iterdir()}
    assert dict(rows_of(tmp_path, "SELECT name, position FROM files")) == sizes


def test_two_processes_share_a_store(url: str, encoder: TextEncoder, tmp_path: Path) -> None:
    rows = posts(120, seed=3)
    write(tmp_path, "0.jsonl", rows)
    both = [start(tmp_path, "--server", url, "--batch", "2", "--once") for _ in range(2)]
    assert [process.communicate(timeout=60)[1] for process in both] == ["", ""]
    check(tmp_path, encoder, rows)


def test_lines_that_are_no_posts(url: str, encoder: TextEncoder, tmp_path: Path) -> None:
    """They are kept with the reason. More lines than the server takes at once are sent in parts."""
    rows = posts(70, seed=4)
    write(tmp_path, "0.jsonl", rows)
    with (tmp_path / "inbox" / "0.jsonl").open("ab") as file:
        file.write(b'dog\n{"id": 1}\n{"id": "x", "text": " "}\n{"id": "y", "text": "\\ud800"}\n\xff\n[]\n')
        file.write(b'{"id": "half", "text": "a line that is still bei')
    code, _, err = finish(tmp_path, "--server", url, "--batch", "100")
    assert (code, err) == (0, "")
    check(tmp_path, encoder, rows)
    reasons = [reason for (reason,) in rows_of(tmp_path, "SELECT reason FROM rejected ORDER BY position")]
    assert [reason.partition(":")[0] for reason in reasons] == [
        *("JSONDecodeError", "KeyError", "ValueError", "UnicodeEncodeError", "UnicodeDecodeError", "TypeError")
    ]
    with (tmp_path / "inbox" / "0.jsonl").open("ab") as file:
        file.write(b'ng written"}\n')
    assert finish(tmp_path, "--server", url)[0] == 0
    assert rows_of(tmp_path, "SELECT writes FROM posts WHERE id = 'half'") == [(1,)]


def test_another_encoder_is_noticed(url: str, encoder: TextEncoder, tmp_path: Path) -> None:
    """Other weights, and another task of the same weights; nothing of them is stored."""
    write(tmp_path, "0.jsonl", [{"id": "a", "text": "dog"}])
    assert finish(tmp_path, "--server", url)[0] == 0
    write(tmp_path, "0.jsonl", [{"id": "b", "text": "cat"}])
    before = rows_of(tmp_path, "SELECT id, vector FROM posts")
    code, _, err = finish(tmp_path, "--server", url, "--task", "interest")
    assert code == 2
    assert "they cannot be compared; use another store" in err
    with torch.no_grad():
        other = TextEncoder.base({"name": encoder.facts.base, "dim": 16}, device="cpu")
    with running(App(replace(other, prompts=encoder.prompts), name="other")) as changed:
        code, _, err = finish(tmp_path, "--server", changed)
    assert code == 2
    assert f"the store has vectors of fingerprint {encoder.fingerprint()}, task None, role document" in err
    assert len(err.splitlines()) == 1
    assert rows_of(tmp_path, "SELECT id, vector FROM posts") == before
    assert finish(tmp_path, "--server", url)[0] == 0
    assert len(rows_of(tmp_path, "SELECT id FROM posts")) == 2


def test_a_server_that_is_away(encoder: TextEncoder, tmp_path: Path) -> None:
    """It waits; and a wrong key or task is a line for a person."""
    write(tmp_path, "0.jsonl", [{"id": "a", "text": "dog"}])
    with running(App(encoder, name="tiny", api_key="s3cret")) as url:
        code, _, err = finish(tmp_path, "--server", url)
        assert (code, "no API key" in err) == (2, True)
    process = start(tmp_path, "--server", url, "--once")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.7)
    process.kill()
    process.communicate()
    assert rows_of(tmp_path, "SELECT id FROM posts") == []


@pytest.mark.nightly
def test_without_a_server(trained_run: Path, encoder: TextEncoder, tmp_path: Path) -> None:
    rows = posts(40, seed=5)
    write(tmp_path, "0.jsonl", rows)
    code, _, err = finish(tmp_path, "--model", str(trained_run), "--task", "interest")
    assert code == 0, err
    check(tmp_path, encoder, rows, task="interest")
