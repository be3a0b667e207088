"""The server as a process: real clients, its start and its end.

python -m pytest tests/test_serve_process.py
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="needs the extra `serve`")
pytest.importorskip("uvicorn", reason="needs the extra `serve`")
pytest.importorskip("prometheus_client", reason="needs the extra `serve`")

from mtcl.encoder.text_encoder import TextEncoder
from tests.conftest import ROOT, Run

TEXTS = ["dog cat bird", "a red post", "news of a green job"]
LOOPBACK = "127.0.0.1"


class Served:
    """`mtcl serve` in a process of its own, ready for requests. `errors` are its lines on standard error."""

    def __init__(self, run: Path, *options: str, **environment: str) -> None:
        words = [sys.executable, "-m", "mtcl", "serve", str(run), "--port", "0", "--name", "tiny", *options]
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MTCL_")}
        self.process = subprocess.Popen(
            words,
            env=inherited | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.line)
        if not found:
            raise AssertionError(self.process.communicate()[1])
        self.port = int(found[1])
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.errors: list[str] = []
        self.reader = threading.Thread(target=self.errors.extend, args=(self.process.stderr,), daemon=True)
        self.reader.start()

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 30) -> int:
        """Its exit code after a signal."""
        self.process.send_signal(number)
        code = self.process.wait(timeout_s)
        self.reader.join(5)
        return code


@contextlib.contextmanager
def served(run: Path, *options: str, **environment: str) -> Iterator[Served]:
    server = Served(run, *options, **environment)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="module")
def server(trained_run: Path, starts_processes: None) -> Iterator[Served]:
    with served(trained_run, MTCL_API_KEY="s3cret") as server:
        yield server


@pytest.fixture(scope="module")
def encoder(trained_run: Path) -> TextEncoder:
    return TextEncoder.load(trained_run, device="cpu")


def post(server: Served, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


# ------------------------------------------------------------------------------------------------- clients


def test_the_line_at_the_start(server: Served, encoder: TextEncoder) -> None:
    assert server.line == (
        f"serving tiny on {server.url} (tasks: search, interest, storyline; dimensions: 16, 8; "
        f"fingerprint: {encoder.fingerprint()})\n"
    )


def test_openai_client(server: Served, encoder: TextEncoder) -> None:
    """Unchanged: it asks for base64 by default, for floats, for dimensions, and raises its own errors."""
    openai = pytest.importorskip("openai", reason="needs the extra `compare`")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="s3cret", max_retries=0)
    expected = encoder.encode(TEXTS, output="numpy")
    for options in ({}, {"encoding_format": "float"}, {"user": "someone"}):
        answer = client.embeddings.create(model="tiny", input=TEXTS, **options)
        np.testing.assert_allclose([row.embedding for row in answer.data], expected, atol=1e-6)
        assert answer.usage.total_tokens == answer.usage.prompt_tokens > 0
    one = client.embeddings.create(model="tiny", input=TEXTS[0], dimensions=8).data[0].embedding
    np.testing.assert_allclose(one, encoder.encode(TEXTS[0], dim=8, output="numpy"), atol=1e-6)
    extra = {"task": "search", "role": "query"}
    of_task = client.embeddings.create(model="tiny", input=TEXTS, extra_body=extra)
    expected = encoder.encode(TEXTS, task="search", role="query", output="numpy")
    np.testing.assert_allclose([row.embedding for row in of_task.data], expected, atol=1e-6)
    assert [model.id for model in client.models.list()] == ["tiny"]
    with pytest.raises(openai.BadRequestError, match="matryoshka dimensions"):
        client.embeddings.create(model="tiny", input="dog", dimensions=3)
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.embeddings.create(model="other", input="dog")
    with pytest.raises(openai.AuthenticationError, match="wrong API key"):
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="no", max_retries=0).embeddings.create(model="t", input="d")


def test_our_own_endpoint_client(
    server: Served, encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mtcl compare` with the server as an endpoint."""
    pytest.importorskip("openai", reason="needs the extra `compare`")
    from mtcl.studies.compare.config import EncoderSpec
    from mtcl.studies.compare.endpoint import Endpoint
    from mtcl.studies.compare.vectors import VectorCache

    monkeypatch.setenv("SERVED_KEY", "s3cret")
    spec = EncoderSpec(endpoint="tiny", base_url=f"{server.url}/v1", api_key_env="SERVED_KEY")
    vectors = Endpoint(spec, VectorCache(tmp_path / "vectors.sqlite", "served")).embed(TEXTS)
    np.testing.assert_allclose(vectors, encoder.encode(TEXTS, output="numpy"), atol=1e-6)


def test_tei_body_of_its_readme(server: Served, encoder: TextEncoder) -> None:
    status, vectors = post(
        server,
        "/embed",
        b'{"inputs":"dog cat bird"}',
        **{"Content-Type": "application/json", "Authorization": "Bearer s3cret"},
    )
    assert status == 200
    np.testing.assert_allclose(vectors, encoder.encode(TEXTS[:1], output="numpy"), atol=1e-6)
    assert post(server, "/embed", {"inputs": "dog"})[0] == 401


def test_what_is_not_http(server: Served) -> None:
    """A plain 400, and the server goes on."""
    with socket.create_connection((LOOPBACK, server.port), timeout=10) as raw:
        raw.sendall(b"\x16\x03\x01 dog\r\n\r\n")
        answer = raw.recv(1000)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"<html" not in answer
    with urllib.request.urlopen(f"{server.url}/health", timeout=10) as health:
        assert health.status == 200


def answer_to(server: Served, *pieces: bytes) -> bytes:
    """All that the server sends, as far as it has read the pieces."""
    with socket.create_connection((LOOPBACK, server.port), timeout=20) as raw:
        with contextlib.suppress(ConnectionError):  # the server has closed the connection
            for piece in pieces:
                raw.sendall(piece)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while part := raw.recv(65536):
                answer += part
        return answer


@pytest.mark.parametrize("size", [50_000, 300_000])
@pytest.mark.parametrize("kind", ["one header", "many headers", "target", "trailers"])
def test_a_head_that_is_too_large(server: Served, kind: str, size: int) -> None:
    start = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
    whole = {
        "one header": start + b"x-a: " + b"a" * size + b"\r\n\r\n",
        "many headers": start + b"x-a: aaaaaaaa\r\n" * (size // 11) + b"\r\n",
        "target": start.replace(b"health", b"health?" + b"a" * size) + b"\r\n",
        "trailers": start.replace(b"GET /health", b"POST /embed")
        + b"authorization: Bearer s3cret\r\ntransfer-encoding: chunked\r\n\r\n10\r\n"
        + b'{"inputs":"dog"}\r\n0\r\n'
        + b"x-a: aaaaaaaa\r\n" * (size // 11)
        + b"\r\n",
    }[kind]
    expected = b"431" if size > 1 << 16 else b"200"
    answer = answer_to(server, *(whole[at : at + 10_000] for at in range(0, len(whole), 10_000)))
    if answer or expected != b"431":  # a client that is still sending may find the connection reset
        assert answer.startswith(b"HTTP/1.1 " + expected), answer[:200]


@pytest.mark.parametrize("start", [b"GET /health HTTP/1.1\r\nx-a: ", b"GET /", b"POST /embed HTTP/1.1\r\n"])
def test_a_head_without_end(server: Served, start: bytes) -> None:
    most, sent = 64 << 20, 0
    with socket.create_connection((LOOPBACK, server.port), timeout=20) as raw, contextlib.suppress(ConnectionError):
        raw.sendall(start)
        while sent < most:
            raw.sendall(b"a" * 4096)
            sent += 4096
    assert sent < most // 2, "the rest was not taken"


def test_bodies_are_not_counted_as_heads(server: Served) -> None:
    """Also in pieces, and of several requests over one connection."""
    body = json.dumps({"inputs": "dog " * 100_000}).encode()
    head = b"POST /embed HTTP/1.1\r\nhost: x\r\nauthorization: Bearer s3cret\r\n"
    sized = head + b"content-length: %d\r\n\r\n%b" % (len(body), body)
    chunked = head + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    whole = sized * 2 + chunked
    answer = answer_to(server, *(whole[at : at + 30_000] for at in range(0, len(whole), 30_000)))
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200"] * 3, answer[:300]


OFFERS = {
    "h2c": b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAABAAMAAABk\r\n",
    "websocket": b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n",
}


@pytest.mark.parametrize("offer", OFFERS.values(), ids=list(OFFERS))
@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_an_offer_of_another_protocol_is_ignored(
    server: Served, encoder: TextEncoder, offer: bytes, is_chunked: bool, piece: int
) -> None:
    """As Java's client makes with its first request; the body counts, and so does the next request."""
    body = json.dumps({"inputs": TEXTS}).encode()
    head = b"POST /embed HTTP/1.1\r\nhost: x\r\nauthorization: Bearer s3cret\r\n" + offer
    sized = b"content-length: %d\r\n\r\n%b" % (len(body), body)
    chunked = b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    whole = (head + (chunked if is_chunked else sized)) * 2 + b"GET /health HTTP/1.1\r\nconnection: close\r\n\r\n"
    with socket.create_connection((LOOPBACK, server.port), timeout=20) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(whole), piece):
            raw.sendall(whole[start : start + piece])
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200"] * 3, answer
    bodies = re.findall(rb"\r\n\r\n(\[\[.*?\]\])", answer)
    assert len(bodies) == 2
    for one in bodies:
        np.testing.assert_allclose(json.loads(one), encoder.encode(TEXTS, output="numpy"), atol=1e-6)


def test_many_offers_at_once(server: Served) -> None:
    """And CONNECT, which is no offer that can be ignored."""
    request = b"GET /health HTTP/1.1\r\n" + OFFERS["h2c"] + b"\r\n"
    with socket.create_connection((LOOPBACK, server.port), timeout=20) as raw:
        raw.sendall(request * 600)
        answer = b""
        while answer.count(b"200 OK") < 600:
            part = raw.recv(65536)
            assert part, answer[-300:]
            answer += part
    with socket.create_connection((LOOPBACK, server.port), timeout=20) as raw:
        raw.sendall(b"CONNECT example.org:443 HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b" 200 " not in raw.recv(1000)


def test_a_body_that_is_refused_while_it_is_sent(server: Served) -> None:
    """The client reads 413, not a broken pipe."""
    body = json.dumps({"inputs": "dog " * (3 << 20)}).encode()
    status, content = post(server, "/embed", body, Authorization="Bearer s3cret")
    assert (status, content["error_type"]) == (413, "Validation")
    assert "4194304 bytes" in content["error"]


def test_a_body_that_is_refused_before_it_is_sent(server: Served) -> None:
    """As curl announces a large body; a small one is asked for."""
    for size, expected in {5 << 20: b"HTTP/1.1 413 ", 18: b"HTTP/1.1 100 "}.items():
        head = f"POST /embed HTTP/1.1\r\nhost: x\r\nauthorization: Bearer s3cret\r\ncontent-length: {size}\r\n"
        with socket.create_connection((LOOPBACK, server.port), timeout=20) as raw:
            raw.sendall(head.encode() + b"expect: 100-continue\r\n\r\n")
            assert raw.recv(1000).startswith(expected)


# --------------------------------------------------------------------------------------------------- start


def test_the_key_and_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that was made with `echo` ends with a line break; a link keeps its name when it moves."""
    from mtcl.commands.serve import _parser, config_of

    monkeypatch.setenv("MTCL_API_KEY", "secret key\n")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "today").mkdir(parents=True)
    (tmp_path / "prod").symlink_to("runs/today")
    for path, name in {"prod": "prod", "runs/../prod/": "prod", "runs/today/last.ckpt": "last", "a/b": "b"}.items():
        config = config_of(_parser("serve").parse_args([path]))
        assert (config.name, config.api_key) == (name, "secret key")
    monkeypatch.chdir(tmp_path / "prod")
    assert config_of(_parser("serve").parse_args(["."])).name == "today"


def test_starts_that_fail(
    mtcl_command: Run, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each in one line with exit code 2; what costs no time is checked before the model is loaded."""
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = str(taken.getsockname()[1])
        (tmp_path / "empty").mkdir()
        for arguments, message in {
            (str(trained_run), "--port", port): f"cannot serve on 127.0.0.1:{port} (Address already in use)",
            (str(trained_run), "--host", "256.1.1.1"): "cannot serve on 256.1.1.1:8000",
            (str(trained_run), "--port", "70000"): "--port is 70000: give 0 to 65535",
            ("nothing",): "nothing does not exist: give a run folder",
            ("runs/nothing",): "'runs/nothing' is not a folder and cannot be downloaded from the Hub",
            ("empty", "--port", "0"): "empty",
            (str(trained_run), "--workers", "0"): "--workers is 0: give 1 or more",
            (str(trained_run), "--grace_s", "nan"): "--grace_s is nan: give 0 or more",
            (str(trained_run), "--grace_s", "inf"): "--grace_s is inf: give 0 or more",
            (str(trained_run), "--threads", "0"): "--threads is 0: give 1 or more",
            (str(trained_run), "--max_bytes", "0"): "--max_bytes is 0: give 1 or more",
            (str(trained_run), "--max_queue", "9"): "--max_queue is 9, less than the 2048 texts",
            (str(trained_run), "--api_key", ""): "the API key is empty",
            (str(trained_run), "--api_key", " \n"): "the API key is empty",
            (str(trained_run), "--api_key", "two\nlines"): "has a line break or another character",
            (str(trained_run), "--api_key", "schlüssel"): "another character that no header can have",
            (str(trained_run), "--prot", "1"): "unrecognized arguments: --prot",
            (str(trained_run), "--port", "0", "--device", "abacus"): "--device is 'abacus', which cannot be used here ",
        }.items():
            done = mtcl_command("serve", *arguments)
            assert done.returncode == 2, (arguments, done.stderr)
            assert message in done.stderr
            assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = mtcl_command("serve", str(trained_run))
    assert (done.returncode, done.stderr) == (
        2,
        "mtcl: ConfigError: mtcl serve needs uvicorn: pip install 'mtcl[serve]'\n",
    )


# ----------------------------------------------------------------------------------------------------- end


class Client:
    """Sends requests on connections that it keeps; it notes how each of them ended."""

    def __init__(self, port: int) -> None:
        self.port, self.answered, self.lost = port, 0, 0
        self.refused = False

    async def run(self) -> None:
        body = json.dumps({"inputs": TEXTS * 4}).encode()
        request = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        while True:
            try:
                reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
            except OSError:
                self.refused = True
                return
            if not await self.use(reader, writer, request):
                return

    async def use(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bool:
        """Send requests until the server asks to close the connection; false after one without an answer."""
        is_first = True
        while True:
            try:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(re.findall(rb"content-length: (\d+)", head)[0])
                content = json.loads(await reader.readexactly(size))
            except (OSError, asyncio.IncompleteReadError):
                # a new connection may have been in the kernel's queue, where the server never saw it
                self.refused = is_first
                self.lost += not is_first
                return False
            assert head.startswith(b"HTTP/1.1 200"), head
            assert len(content) == 12
            self.answered += 1
            is_first = False
            if b"connection: close" in head:
                writer.close()
                return True


async def load(server: Served, clients: list[Client], seconds: float, number: int) -> float:
    """Requests of all clients without a pause, and a signal amid them; how long the clients went on after it."""
    running = [asyncio.ensure_future(client.run()) for client in clients]
    await asyncio.sleep(seconds)
    server.process.send_signal(number)
    began = time.monotonic()
    await asyncio.wait_for(asyncio.gather(*running), 20)
    return time.monotonic() - began


def end_under_load(run: Path, seconds: float, num_clients: int, number: int, *options: str) -> int:
    with served(run, *options) as server:
        clients = [Client(server.port) for _ in range(num_clients)]
        took = asyncio.run(load(server, clients, seconds, number))
        code = server.process.wait(60)  # unloading torch takes seconds of a busy machine
        server.reader.join(5)
        answered = sum(client.answered for client in clients)
        assert code == 0, server.errors
        assert answered > num_clients
        assert sum(client.lost for client in clients) == 0
        assert all(client.refused for client in clients)
        assert took < 10
        assert not any("Traceback" in line for line in server.errors), server.errors
    return answered


def test_the_end_loses_no_request(trained_run: Path, starts_processes: None) -> None:
    end_under_load(trained_run, 0.7, 8, signal.SIGTERM)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_interrupt_ends_it_at_once(trained_run: Path, starts_processes: None, workers: str) -> None:
    """As Ctrl-C does, which all processes get."""
    with served(trained_run, "--workers", workers) as server:
        processes = [server.process.pid, *(children(server.process.pid) if workers == "2" else ())]
        for _ in range(2):
            for pid in processes:
                os.kill(pid, signal.SIGINT)
            time.sleep(0.1)
        assert server.process.wait(timeout=20) == 128 + signal.SIGINT
    assert not any("Traceback" in line for line in server.errors), server.errors


@pytest.mark.nightly
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_end_loses_no_request_again_and_again(
    trained_run: Path, starts_processes: None, number: int, workers: str
) -> None:
    for attempt in range(5):
        end_under_load(trained_run, 0.5 + 0.37 * attempt, 32, number, "--workers", workers)


@pytest.mark.nightly
def test_more_connections_than_the_limit_of_open_files(trained_run: Path, starts_processes: None) -> None:
    """Those beyond it wait until others close, and a line says so."""
    with served(trained_run) as server, contextlib.ExitStack() as open_connections:
        num = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (num + 8, num + 8))
        for _ in range(20):
            open_connections.enter_context(socket.create_connection((LOOPBACK, server.port), timeout=5))
        deadline = time.monotonic() + 20
        while not server.errors and time.monotonic() < deadline:
            time.sleep(0.05)
        open_connections.close()
        with urllib.request.urlopen(f"{server.url}/health", timeout=20) as answer:
            assert answer.status == 200
        assert server.stop() == 0
    assert server.errors, "no line"
    for line in server.errors:
        assert line.startswith("new connections wait for others to close: [Errno 24] Too many open files"), line
        assert "ulimit -n 1024" in line


def test_workers(trained_run: Path, encoder: TextEncoder, starts_processes: None) -> None:
    """One port, one sum of metrics; a worker that dies is replaced; no worker outlives its parent."""
    with served(trained_run, "--workers", "2") as server:
        assert server.line.endswith("with 2 workers\n")
        workers = children(server.process.pid)
        assert len(workers) == 2
        for _ in range(40):
            status, vectors = post(server, "/embed", {"inputs": TEXTS})
            assert status == 200
            np.testing.assert_allclose(vectors, encoder.encode(TEXTS, output="numpy"), atol=1e-6)
        with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        assert 'te_request_count{method="batch"} 40.0' in text
        assert re.findall(r"^te_queue_size (\S+)$", text, flags=re.MULTILINE) == ["0.0"]
        os.kill(workers[0], signal.SIGKILL)
        wait_until(lambda: len(set(children(server.process.pid)) - set(workers)) == 1)
        wait_until(lambda: any("starting another" in line for line in server.errors))
        new = set(children(server.process.pid)) - set(workers)
        os.kill(new.pop(), signal.SIGKILL)  # while it starts: the others go on, and another one is started
        wait_until(lambda: sum("starting another" in line for line in server.errors) == 2)
        for _ in range(10):
            assert post(server, "/embed", {"inputs": TEXTS})[0] == 200
        wait_until(lambda: len(children(server.process.pid)) == 2)
        workers = children(server.process.pid)
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(is_running(pid) for pid in workers))


@pytest.mark.nightly
def test_workers_that_cannot_start(mtcl_process: Run, tmp_path: Path) -> None:
    """Reported once."""
    (tmp_path / "empty").mkdir()
    done = mtcl_process("serve", "empty", "--port", "0", "--workers", "2")
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def children(pid: int) -> list[int]:
    """Worker processes of a parent."""
    found = subprocess.run(["pgrep", "-P", str(pid), "-f", "spawn_main"], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def is_running(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def wait_until(condition: Any) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.nightly
def test_memory_over_many_requests(trained_run: Path, starts_processes: None) -> None:
    """After the first 4,000 requests, 20,000 more take no further memory."""
    from tests.benchmarks.serve import memory_mib, send_load

    with served(trained_run) as server:
        bodies = [json.dumps({"inputs": TEXTS}).encode()]
        options = {"seconds": 300, "connections": 16}
        sizes = []
        for num in (4000, 10_000, 10_000):
            load = asyncio.run(send_load(LOOPBACK, server.port, "tei", bodies, options | {"requests": num}))
            assert (load.num_requests, load.errors) == (num, {})
            sizes.append(memory_mib(server.process.pid))
    assert sizes[2] < sizes[0] + 10, sizes
