"""Routes, bodies and errors of the server, in this process: OpenAI's interface and TEI's.

python -m pytest tests/test_serve.py
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("starlette", reason="needs the extra `serve`")
pytest.importorskip("uvicorn", reason="needs the extra `serve`")
pytest.importorskip("prometheus_client", reason="needs the extra `serve`")
from starlette.testclient import TestClient

from mtcl.deploy.serve import waiting
from mtcl.deploy.serve.app import FINGERPRINT, App
from mtcl.deploy.serve.dialects import OPENAI_ERRORS, TEI_ERRORS
from mtcl.deploy.serve.limits import Limits
from mtcl.deploy.serve.prompts import ChosenPrompt
from mtcl.deploy.serve.refusal import Reason, RefusedError
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.errors import ConfigError
from tests.conftest import WORDS

LIMITS = Limits(max_batch_tokens=64, max_queue=40, max_items=20, max_bytes=4000)
OPENAI, TEI = "/v1/embeddings", "/embed"


@pytest.fixture(scope="module")
def encoder(trained_run: Path) -> TextEncoder:
    return TextEncoder.load(trained_run, device="cpu")


@pytest.fixture(scope="module")
def client(encoder: TextEncoder) -> Iterator[TestClient]:
    with TestClient(App(encoder, name="tiny", limits=LIMITS).starlette, raise_server_exceptions=False) as client:
        yield client


def texts_of(seed: int, num: int, *, longest: int = 40) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, longest))) for _ in range(num)]


def openai_vectors(answer: Any) -> np.ndarray[Any, Any]:
    assert answer.status_code == 200, answer.text
    rows = answer.json()["data"]
    assert [row["index"] for row in rows] == list(range(len(rows)))
    return np.array([row["embedding"] for row in rows], dtype=np.float32)


# -------------------------------------------------------------------------------------------------- vectors


def test_openai_body(client: TestClient, encoder: TextEncoder) -> None:
    texts = texts_of(0, 5)
    body = {"input": texts, "model": "tiny", "user": "someone", "encoding_format": "float"}
    answer = client.post(OPENAI, json=body)
    np.testing.assert_allclose(openai_vectors(answer), encoder.encode(texts, output="numpy"), atol=1e-6)
    content = answer.json()
    tokens = len(encoder.tokenizer(texts, encoder.max_length).values)
    assert content["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert (content["object"], content["model"], content["data"][0]["object"]) == ("list", "tiny", "embedding")
    assert answer.headers[FINGERPRINT] == encoder.fingerprint()
    one = client.post(OPENAI, json={"input": texts[0]})
    assert openai_vectors(one).shape == (1, 16)


def test_floats_are_exact(client: TestClient) -> None:
    """The digits of the JSON give back every bit that base64 has."""
    body = {"input": texts_of(1, 8)}
    floats = openai_vectors(client.post(OPENAI, json=body))
    coded = client.post(OPENAI, json={**body, "encoding_format": "base64"}).json()["data"]
    exact = [np.frombuffer(base64.b64decode(row["embedding"]), dtype="<f4") for row in coded]
    assert np.array_equal(floats, np.stack(exact))


def test_tei_body(client: TestClient, encoder: TextEncoder) -> None:
    """As TEI's own clients send it: every field, and one text or several."""
    texts = texts_of(2, 3)
    full = {"inputs": texts, "truncate": True, "truncation_direction": "Right", "prompt_name": None, "normalize": True}
    answer = client.post(TEI, json={**full, "dimensions": None})
    np.testing.assert_allclose(answer.json(), encoder.encode(texts, output="numpy"), atol=1e-6)
    one = client.post(TEI, json={"inputs": texts[0]}).json()
    np.testing.assert_allclose(one, encoder.encode(texts[:1], output="numpy"), atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, {}),
        ({"role": "query"}, {"role": "query"}),
        ({"prompt_name": "query"}, {"role": "query"}),
        ({"prompt_name": "document"}, {}),
        ({"task": "search"}, {"task": "search"}),
        ({"prompt_name": "search"}, {"task": "search"}),
        ({"task": "search", "prompt_name": "search"}, {"task": "search"}),
        ({"task": "search", "role": "query"}, {"task": "search", "role": "query"}),
        ({"prompt_name": "search_query"}, {"task": "search", "role": "query"}),
        ({"task": "search_document"}, {"task": "search"}),
        ({"task": "search_query", "role": "query"}, {"task": "search", "role": "query"}),
        ({"task": "interest"}, {"task": "interest"}),
        ({"task": "storyline"}, {"task": "storyline"}),
        ({"dimensions": 8}, {"dim": 8}),
        ({"dimensions": 16}, {}),
        ({"task": "search", "dimensions": 8}, {"task": "search", "dim": 8}),
        ({"task": "interest", "dimensions": 4}, {"task": "interest"}),
    ],
)
def test_prompts_heads_and_dimensions(
    client: TestClient, encoder: TextEncoder, fields: dict[str, Any], options: dict[str, Any]
) -> None:
    """Each task's own prompt, max length and head, as `encode` has them."""
    texts = texts_of(3, 4)
    expected = encoder.encode(texts, output="numpy", **options)
    answer = client.post(OPENAI, json={"input": texts, **fields})
    np.testing.assert_allclose(openai_vectors(answer), expected, atol=1e-6)
    other = client.post(TEI, json={"inputs": texts, **fields})
    np.testing.assert_allclose(other.json(), expected, atol=1e-6)
    head = encoder.head_fingerprint(options.get("task"))
    assert answer.headers[FINGERPRINT] == encoder.fingerprint() + (f".{head}" if head else "")


def test_a_prompt_of_the_run(encoder: TextEncoder) -> None:
    from dataclasses import replace

    from mtcl.task.prompt import Prompt

    prompted = replace(encoder, prompt=Prompt(query="red ", document="blue "))
    with TestClient(App(prompted, name="tiny").starlette) as client:
        for name in ("query", "document"):
            found = client.post(TEI, json={"inputs": "dog", "prompt_name": name}).json()
            expected = prompted.encode(["dog"], role=name, output="numpy")  # type: ignore[call-overload]
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_truncation(client: TestClient, encoder: TextEncoder) -> None:
    """At either end, or refused; the second time too, with the same tokenizer."""
    text = " ".join(WORDS)
    for _ in range(2):
        right = client.post(TEI, json={"inputs": text}).json()
        left = client.post(TEI, json={"inputs": text, "truncation_direction": "Left"}).json()
        np.testing.assert_allclose(right[0], encoder.encode(text, output="numpy"), atol=1e-6)
        kept = " ".join(WORDS[-(encoder.max_length - 2) :])
        np.testing.assert_allclose(left[0], encoder.encode(kept, output="numpy"), atol=1e-6)
        refused = client.post(TEI, json={"inputs": ["dog", text], "truncate": False})
        assert refused.status_code == 422
        assert refused.json()["error_type"] == "Validation"
        assert "at most 32 tokens. Given: " in refused.json()["error"]
    exact = " ".join(WORDS[: encoder.max_length - 2])
    assert client.post(TEI, json={"inputs": exact, "truncate": False}).status_code == 200
    huge = client.post(OPENAI, json={"input": "dog " * 900, "truncate": False})
    assert (huge.status_code, huge.json()["error"]["code"]) == (400, "context_length_exceeded")


# ------------------------------------------------------------------------------------------------ batching


async def ask(app: App, path: str, body: dict[str, Any]) -> Any:
    import httpx

    transport = httpx.ASGITransport(app=app.starlette)
    async with httpx.AsyncClient(transport=transport, base_url="http://tiny") as client:
        return await client.post(path, json=body)


def test_whatever_it_is_batched_with(encoder: TextEncoder) -> None:
    """60 requests at once, of random tasks, roles, dimensions and lengths, in batches of at most 64 tokens."""
    app = App(encoder, name="tiny", limits=Limits(max_batch_tokens=64, max_queue=10_000))
    draw = random.Random(0)
    choices: list[dict[str, Any]] = [
        *({}, {"role": "query"}, {"task": "search"}, {"task": "search", "role": "query"}),
        *({"task": "interest"}, {"dimensions": 8}, {"task": "search", "dimensions": 8}),
    ]
    asked = [(texts_of(n, draw.choice([1, 1, 2, 7, 25])), draw.choice(choices)) for n in range(60)]

    async def all_at_once() -> list[Any]:
        async with app.starlette.router.lifespan_context(app.starlette):
            return await asyncio.gather(*(ask(app, OPENAI, {"input": t, **fields}) for t, fields in asked))

    for (texts, fields), answer in zip(asked, asyncio.run(all_at_once()), strict=True):
        options = {"dim" if key == "dimensions" else key: value for key, value in fields.items()}
        np.testing.assert_allclose(openai_vectors(answer), encoder.encode(texts, output="numpy", **options), atol=1e-6)
    text = app.metrics.text().decode()
    num_texts = sum(len(texts) for texts, _ in asked)
    assert f"te_embed_success {float(num_texts)}" in text
    assert "te_queue_size 0.0" in text


class Gate:
    """Holds the forward passes until it is opened, and notes the number of texts and tokens of each."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder, self.is_open, self.entered = encoder, threading.Event(), threading.Event()
        self.batches: list[tuple[int, int]] = []
        self.failing = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.encoder, name)

    def embed(self, tokens: Any) -> torch.Tensor:
        self.batches.append((len(tokens), len(tokens.values)))
        self.entered.set()
        assert self.is_open.wait(20)
        if len(tokens) and self.failing in tokens.values.tolist():
            raise RuntimeError("out of memory")
        return self.encoder.embed(tokens)


def gated(encoder: TextEncoder, **limits: int) -> tuple[App, Gate]:
    gate = Gate(encoder)
    return App(gate, name="tiny", limits=Limits(**limits)), gate  # type: ignore[arg-type]


async def until(condition: Any) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came true")


def test_batches_and_fairness(encoder: TextEncoder) -> None:
    """Batches keep their budget, a long request is split, and one text that asks later does not wait for its end."""
    app, gate = gated(encoder, max_batch_tokens=50, max_queue=500, max_items=200)
    order: list[str] = []

    async def named(name: str, texts: list[str]) -> None:
        answer = await ask(app, TEI, {"inputs": texts})
        assert answer.status_code == 200
        order.append(name)

    async def run() -> None:
        async with app.starlette.router.lifespan_context(app.starlette):
            first = asyncio.ensure_future(named("first", ["dog"]))
            await until(gate.entered.is_set)
            long = asyncio.ensure_future(named("long", ["dog cat bird"] * 200))
            await until(lambda: app.batcher.waiting.jobs)
            short = asyncio.ensure_future(named("short", ["dog"]))
            await until(lambda: len(app.batcher.waiting.jobs) == 2)
            gate.is_open.set()
            await asyncio.gather(first, long, short)

    asyncio.run(run())
    assert order == ["first", "short", "long"]
    assert all(tokens <= 50 for _, tokens in gate.batches)
    assert sum(texts for texts, _ in gate.batches) == 202
    assert len(gate.batches) == pytest.approx(2 + 200 * 5 / 50, abs=2), "batches are full"


@pytest.mark.parametrize(("patience", "third"), [(1000, 4), (0, 1)])
def test_a_batch_waits_for_clients_that_were_just_answered(
    encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch, patience: float, third: int
) -> None:
    """Four clients send their second request one after another. The last client sends a third one, alone."""
    monkeypatch.setattr(waiting, "PATIENCE", patience)
    app, gate = gated(encoder)

    async def client(number: int) -> None:
        await ask(app, TEI, {"inputs": ["dog"]})
        await asyncio.sleep(0.05 * number)
        await ask(app, TEI, {"inputs": ["cat"]})

    async def run() -> None:
        async with app.starlette.router.lifespan_context(app.starlette):
            first = asyncio.ensure_future(ask(app, TEI, {"inputs": ["dog"]}))
            await until(gate.entered.is_set)
            clients = [asyncio.ensure_future(client(number)) for number in range(4)]
            await until(lambda: len(app.batcher.waiting.jobs) == 4)
            gate.is_open.set()
            await asyncio.gather(first, *clients)
            monkeypatch.setattr(waiting, "PATIENCE", 0.1)
            await ask(app, TEI, {"inputs": ["bird"]})

    asyncio.run(run())
    sizes = [texts for texts, _ in gate.batches]
    assert sizes[:3] == [1, 4, third]
    assert sizes[-1] == 1, "it does not wait for ever"
    assert sum(sizes) == 10


def test_a_client_that_leaves_while_its_batch_waits(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left to compute then, and the next request gets its answer."""
    monkeypatch.setattr(waiting, "PATIENCE", 10)
    app, gate = gated(encoder)

    async def run() -> None:
        async with app.starlette.router.lifespan_context(app.starlette):
            first = asyncio.ensure_future(ask(app, TEI, {"inputs": ["dog", "cat"]}))
            await until(gate.entered.is_set)
            await asyncio.sleep(0.05)  # so the next batch waits for half a second
            gate.is_open.set()
            await first
            leaving = asyncio.ensure_future(ask(app, TEI, {"inputs": ["dog"]}))
            await until(lambda: app.batcher.waiting.jobs)
            leaving.cancel()
            await until(lambda: not app.batcher.waiting.jobs)
            assert app.batcher.is_alive
            await asyncio.wait_for(ask(app, TEI, {"inputs": ["bird"]}), 20)

    asyncio.run(run())
    assert [texts for texts, _ in gate.batches] == [2, 1]


def test_a_full_batch_does_not_wait(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tokens are at the limit, although it has fewer texts than the batch before."""
    monkeypatch.setattr(waiting, "PATIENCE", 1e6)
    app, _ = gated(encoder, max_batch_tokens=9)
    queue, last = app.batcher.waiting, waiting.Last(num_texts=3, seconds=1.0)

    async def enough(*texts: str) -> bool:
        queue.jobs = deque(
            waiting.Job(encoder.tokenizer([text], 32), None, None, asyncio.Future(), np.empty((1, 1))) for text in texts
        )
        return queue.is_enough(last)

    assert not asyncio.run(enough("dog", "dog"))
    assert asyncio.run(enough("dog", "dog", "dog"))
    assert asyncio.run(enough("dog dog dog dog dog dog dog"))


def test_a_text_longer_than_a_batch(encoder: TextEncoder) -> None:
    app = App(encoder, name="tiny", limits=Limits(max_batch_tokens=3))
    with TestClient(app.starlette) as client:
        texts = texts_of(5, 6)
        found = client.post(TEI, json={"inputs": texts}).json()
        np.testing.assert_allclose(found, encoder.encode(texts, output="numpy"), atol=1e-6)


def test_what_a_client_no_longer_waits_for_is_dropped(encoder: TextEncoder) -> None:
    """Texts in the queue are not computed, and their space is free again."""
    app, gate = gated(encoder, max_batch_tokens=16, max_queue=100, max_items=100)

    async def run() -> None:
        async with app.starlette.router.lifespan_context(app.starlette):
            staying = asyncio.ensure_future(ask(app, TEI, {"inputs": "dog"}))
            await until(gate.entered.is_set)
            leaving = asyncio.ensure_future(leave(app, {"inputs": ["cat"] * 80}))
            await until(lambda: app.batcher.num_waiting == 81 and app.batcher.waiting.jobs)
            leaving_now.set()
            await until(lambda: app.batcher.num_waiting == 1)
            gate.is_open.set()
            assert (await staying).status_code == 200
            await leaving

    leaving_now = asyncio.Event()

    async def leave(app: App, body: dict[str, Any]) -> None:
        """An ASGI client that sends a body and is gone before the answer."""
        parts = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

        async def receive() -> dict[str, Any]:
            if parts:
                return parts.pop()
            await leaving_now.wait()
            return {"type": "http.disconnect"}

        async def send(_: Any) -> None: ...

        scope = {"type": "http", "method": "POST", "path": TEI, "headers": [], "query_string": b"", "root_path": ""}
        await app.starlette({**scope, "http_version": "1.1", "scheme": "http"}, receive, send)

    asyncio.run(run())
    assert gate.batches == [(1, 3)], "only the first text was computed"


def test_a_failing_text_fails_its_own_request_only(encoder: TextEncoder, caplog: pytest.LogCaptureFixture) -> None:
    app, gate = gated(encoder, max_batch_tokens=1000)
    bad = encoder.tokenizer(["bird"], 9).values.tolist()[1]

    async def run() -> list[Any]:
        async with app.starlette.router.lifespan_context(app.starlette):
            first = asyncio.ensure_future(ask(app, TEI, {"inputs": "dog"}))
            await until(gate.entered.is_set)
            others = [
                asyncio.ensure_future(ask(app, *each))
                for each in ((TEI, {"inputs": ["cat", "bird"]}), (OPENAI, {"input": "bird"}), (TEI, {"inputs": "cat"}))
            ]
            await until(lambda: len(app.batcher.waiting.jobs) == 3)
            gate.failing = bad
            gate.is_open.set()
            return [(await each) for each in (first, *others)]

    first, tei, openai, good = asyncio.run(run())
    assert (first.status_code, tei.status_code, openai.status_code, good.status_code) == (200, 424, 500, 200)
    assert tei.json()["error_type"] == "Backend"
    assert openai.json()["error"]["type"] == "server_error"
    assert "out of memory" in caplog.text
    assert "out of memory" not in tei.text


def test_what_the_end_leaves_undone_is_refused(encoder: TextEncoder) -> None:
    app, gate = gated(encoder, max_batch_tokens=8)

    async def run() -> Any:
        async with app.starlette.router.lifespan_context(app.starlette):
            first = asyncio.ensure_future(ask(app, TEI, {"inputs": "dog"}))
            await until(gate.entered.is_set)
            second = asyncio.ensure_future(ask(app, TEI, {"inputs": "dog"}))
            await until(lambda: app.batcher.waiting.jobs)
            app.batcher.abandon()
            refused = await second
            gate.is_open.set()
            return (await first), refused, await ask(app, TEI, {"inputs": "dog"})

    taken, refused, late = asyncio.run(run())
    assert taken.status_code == 200
    assert (refused.status_code, late.status_code) == (503, 503)
    assert refused.json() == {"error": "the server shuts down: send the request again", "error_type": "Unhealthy"}


# -------------------------------------------------------------------------------------- limits and errors


def test_a_full_queue(encoder: TextEncoder) -> None:
    app, gate = gated(encoder, max_batch_tokens=8, max_queue=5, max_items=4)

    async def run() -> list[Any]:
        async with app.starlette.router.lifespan_context(app.starlette):
            first = asyncio.ensure_future(ask(app, TEI, {"inputs": ["dog"] * 4}))
            await until(gate.entered.is_set)
            refused = await ask(app, TEI, {"inputs": ["dog"] * 2})
            fits = asyncio.ensure_future(ask(app, OPENAI, {"input": "dog"}))
            await until(lambda: app.batcher.num_waiting == 5)
            full = await ask(app, OPENAI, {"input": "dog"})
            gate.is_open.set()
            return [await first, refused, await fits, full, await ask(app, TEI, {"inputs": "dog"})]

    first, refused, fits, full, after = asyncio.run(run())
    assert [first.status_code, fits.status_code, after.status_code] == [200, 200, 200]
    assert (refused.status_code, refused.json()["error_type"]) == (429, "Overloaded")
    assert full.status_code == 429
    assert full.json()["error"]["code"] == "rate_limit_exceeded"
    assert full.headers["retry-after"] == "1"


TEXT = '"dog"'
MALFORMED: list[tuple[str, bytes, int, int, str]] = [
    ("no JSON", b"dog", 400, 400, "the body is not JSON"),
    ("nothing", b"", 400, 400, "the body is empty"),
    ("half of it", b'{"IN": "dog', 400, 400, "the body is not JSON"),
    ("not UTF-8", b'{"IN": "\xff\xfe\xfd"}', 400, 400, "the body is not JSON"),
    ("deeply nested", b"[" * 1900, 400, 400, "the body is not JSON"),
    ("a list", b'["dog"]', 400, 422, "the body is a list: send a JSON object"),
    ("null", b"null", 400, 422, "the body is null"),
    ("no texts", b"{}", 400, 422, "`IN` is missing"),
    ("null for texts", b'{"IN": null}', 400, 422, "`IN` is missing"),
    ("a number", b'{"IN": 7}', 400, 422, "`IN` is 7"),
    ("an object", b'{"IN": {"text": "dog"}}', 400, 422, "`IN` is an object"),
    ("no text in the list", b'{"IN": []}', 400, 400, "`IN` cannot be empty"),
    ("an empty text", b'{"IN": ""}', 400, 400, "`IN` cannot be empty"),
    ("white space", b'{"IN": " \\n"}', 400, 400, "`IN` cannot be empty: it has only white space"),
    ("a zero-width space", b'{"IN": ["dog", "\\u200b"]}', 400, 400, "`IN[1]` cannot be empty: it has only white space"),
    ("a control character", b'{"IN": "\\u0000"}', 400, 400, "`IN` cannot be empty: it has only white space"),
    ("an accent", b'{"IN": "\\u0301"}', 400, 400, "`IN` cannot be empty: it has only white space"),
    ("an empty text among others", b'{"IN": ["dog", ""]}', 400, 400, "`IN[1]` cannot be empty"),
    ("null among texts", b'{"IN": ["dog", null]}', 400, 422, "`IN[1]` is null"),
    ("token ids", b'{"IN": [3, 4]}', 400, 422, "`IN[0]` is 3: send texts"),
    ("lists of token ids", b'{"IN": [[3], [4]]}', 400, 422, "`IN[0]` is a list: send texts"),
    ("half a surrogate pair", b'{"IN": "a \\ud83d b"}', 400, 422, "half of a surrogate pair at character 2"),
    ("too many texts", json.dumps({"IN": ["dog"] * 21}).encode(), 413, 413, "maximum allowed batch size 20"),
    ("too many bytes", json.dumps({"IN": "dog " * 1000}).encode(), 413, 413, "more than the 4000 bytes"),
    ("far too many bytes", json.dumps({"IN": "dog " * 100_000}).encode(), 413, 413, "more than the 4000 bytes"),
    ("a misspelt field", b'{"IN": "dog", "dimension": 8}', 400, 422, "did you mean 'dimensions'"),
    ("a field that nobody has", b'{"IN": "dog", "colour": 1}', 400, 422, "unknown field 'colour'"),
    ("dimensions a text", b'{"IN": "dog", "dimensions": "8"}', 400, 422, '`dimensions` is "8": give a whole number'),
    (
        "dimensions as a fraction",
        b'{"IN": "dog", "dimensions": 8.0}',
        400,
        422,
        "`dimensions` is 8.0: give a whole number",
    ),
    ("dimensions true", b'{"IN": "dog", "dimensions": true}', 400, 422, "`dimensions` is true: give a whole number"),
    (
        "untrained dimensions",
        b'{"IN": "dog", "dimensions": 9}',
        400,
        422,
        "only supports [8, 16] matryoshka dimensions",
    ),
    ("no dimensions", b'{"IN": "dog", "dimensions": 0}', 400, 422, "dimensions is 0"),
    ("a number of 3,900 digits", b'{"IN": "dog", "dimensions": ' + b"9" * 3900 + b"}", 400, 422, "matryoshka"),
    ("dimensions of a head", b'{"IN": "dog", "dimensions": 2, "task": "interest"}', 400, 422, "its vectors have 4"),
    ("an unknown task", b'{"IN": "dog", "task": "serch"}', 400, 422, "did you mean 'search'"),
    ("an unknown prompt", b'{"IN": "dog", "prompt_name": "search_querry"}', 400, 422, "'search_query'"),
    ("an unknown role", b'{"IN": "dog", "role": "queries"}', 400, 422, "give query or document"),
    ("two roles", b'{"IN": "dog", "task": "search_query", "role": "document"}', 400, 422, "give one"),
    ("two tasks", b'{"IN": "dog", "task": "search", "prompt_name": "interest"}', 400, 422, "give one"),
    ("truncate as text", b'{"IN": "dog", "truncate": "yes"}', 400, 422, '`truncate` is "yes": give true or false'),
]
"""Name, body with IN for the field of texts, the status in OpenAI's interface and in TEI's, a part of the message."""


@pytest.mark.parametrize(("body", "status", "message"), [(b, s, m) for _, b, s, _, m in MALFORMED])
def test_malformed_openai(client: TestClient, body: bytes, status: int, message: str) -> None:
    answer = client.post(OPENAI, content=body.replace(b"IN", b"input"))
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert message.replace("IN", "input") in error["message"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] in ("invalid_request_error", "BadRequestError")


@pytest.mark.parametrize(("body", "status", "message"), [(b, s, m) for _, b, _, s, m in MALFORMED])
def test_malformed_tei(client: TestClient, body: bytes, status: int, message: str) -> None:
    answer = client.post(TEI, content=body.replace(b"IN", b"inputs"))
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    content = answer.json()
    assert message.replace("IN", "inputs") in content["error"]
    assert set(content) == {"error", "error_type"}
    assert content["error_type"] == ("Empty" if "cannot be empty" in message else "Validation")


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (OPENAI, {"input": "dog", "model": "gpt"}, 404, "The model `gpt` does not exist; this server has `tiny`"),
        (OPENAI, {"input": "dog", "encoding_format": "bytes"}, 400, "give float or base64"),
        (OPENAI, {"input": "dog", "user": 7}, 400, "`user` is 7: give a text"),
        (OPENAI, {"inputs": "dog"}, 400, "unknown field 'inputs'; did you mean 'input'?"),
        (TEI, {"input": "dog"}, 422, "unknown field 'input'; did you mean 'inputs'?"),
        (TEI, {"inputs": "dog", "normalize": False}, 422, "normalize is false"),
        (TEI, {"inputs": "dog", "truncation_direction": "Up"}, 422, "give Left or Right"),
    ],
)
def test_fields_of_one_dialect(client: TestClient, path: str, body: Any, status: int, message: str) -> None:
    answer = client.post(path, json=body)
    assert (answer.status_code, message in answer.text.replace('\\"', '"')) == (status, True), answer.text


def test_the_error_of_untrained_dimensions_is_that_of_vllm(client: TestClient) -> None:
    error = client.post(OPENAI, json={"input": "dog", "dimensions": 9}).json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("BadRequestError", "dimensions", 400)


@pytest.mark.parametrize(
    ("method", "path", "status", "part"),
    [
        ("GET", "/", 404, {"error_type": "NotFound"}),
        ("GET", OPENAI, 405, {"code": "method_not_supported"}),
        ("DELETE", TEI, 405, {"error_type": "NotFound"}),
        ("POST", "/v1/completions", 404, {"code": "unknown_url"}),
        ("POST", "/embed/<script>", 404, {"error_type": "NotFound"}),
        ("POST", "/embed/", 404, {"error_type": "NotFound"}),
        ("POST", f"{OPENAI}/", 404, {"code": "unknown_url"}),
    ],
)
def test_no_such_route(client: TestClient, method: str, path: str, status: int, part: dict[str, str]) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    content = answer.json()
    content = content["error"] if isinstance(content["error"], dict) else content
    assert part.items() <= content.items()
    assert (status == 405) == ("allow" in answer.headers)


@pytest.mark.parametrize("path", [OPENAI, TEI])
@pytest.mark.parametrize(
    "part", [rb'"\ud83d": 1', *(rb'"%b": "\ud83d"' % name for name in (b"model", b"task", b"role"))]
)
def test_half_of_a_surrogate_pair_outside_the_texts(client: TestClient, path: str, part: bytes) -> None:
    """An answer that quotes it would not be UTF-8."""
    field = b"input" if path == OPENAI else b"inputs"
    answer = client.post(path, content=b'{"%b": "dog", %b}' % (field, part))
    assert answer.status_code in (400, 404, 422), answer.text
    assert "error" in answer.json()


@pytest.mark.parametrize("encoding", ["identity", "Identity", " IDENTITY ", ""])
def test_a_body_that_says_it_is_not_compressed(client: TestClient, encoding: str) -> None:
    answer = client.post(TEI, content=b'{"inputs": "dog"}', headers={"content-encoding": encoding})
    assert answer.status_code == 200, answer.text


def test_a_compressed_body(client: TestClient) -> None:
    answer = client.post(TEI, content=b"\x1f\x8b", headers={"content-encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"]) == (415, "the body is encoded as 'gzip': send it as it is")


def test_bodies_that_are_sent_slowly_do_not_fill_the_memory(encoder: TextEncoder) -> None:
    """200 clients that each send a body of nearly full size, and then no end: those beyond 64 such bodies get 429."""
    app = App(encoder, name="tiny", limits=LIMITS)
    statuses: list[int] = []

    async def client(end: asyncio.Event) -> None:
        parts = [{"type": "http.request", "body": b" " * 3900, "more_body": True}]

        async def receive() -> dict[str, Any]:
            if parts:
                return parts.pop()
            await end.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            statuses.extend([message["status"]] if "status" in message else [])

        scope = {"type": "http", "method": "POST", "path": TEI, "headers": [], "query_string": b"", "root_path": ""}
        await app.starlette({**scope, "http_version": "1.1", "scheme": "http"}, receive, send)

    async def run() -> None:
        end = asyncio.Event()
        clients = [asyncio.ensure_future(client(end)) for _ in range(200)]
        await until(lambda: len(statuses) >= 200 - 66)
        assert set(statuses) == {429}
        end.set()
        await asyncio.gather(*clients)
        assert (await ask(app, TEI, {"inputs": ""})).status_code == 400, "the space is free again"

    asyncio.run(run())


def test_every_reason_has_a_status_in_each_dialect() -> None:
    assert set(OPENAI_ERRORS) == set(TEI_ERRORS) == set(Reason)


def test_an_error_of_ours_is_no_traceback(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    app = App(encoder, name="tiny")
    with TestClient(app.starlette, raise_server_exceptions=False) as client:
        monkeypatch.setattr(app.prompts, "choose", lambda *_, **__: 1 / 0)
        tei, openai = client.post(TEI, json={"inputs": "dog"}), client.post(OPENAI, json={"input": "dog"})
    assert (tei.status_code, openai.status_code) == (424, 500)
    assert tei.json() == {"error": "internal error; the server's log says more", "error_type": "Backend"}
    assert openai.json()["error"]["code"] == "internal_error"


def test_api_key(encoder: TextEncoder) -> None:
    """Asked for everywhere but at /health and /metrics, which probes and scrapers read."""
    with TestClient(App(encoder, name="tiny", api_key="s3cret").starlette) as client:
        for headers in (
            *({}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer "}, {"authorization": "s3cret"}),
            {"authorization": "Basic s3cret"},
        ):
            tei = client.post(TEI, json={"inputs": "dog"}, headers=headers)
            assert (tei.status_code, tei.json()["error_type"]) == (401, "Unauthorized")
            openai = client.post(OPENAI, json={"input": "dog"}, headers=headers)
            assert (openai.status_code, openai.json()["error"]["code"]) == (401, "invalid_api_key")
            assert {client.get(path, headers=headers).status_code for path in ("/info", "/v1/models")} == {401}
        good = {"authorization": "bearer s3cret"}
        assert client.post(TEI, json={"inputs": "dog"}, headers=good).status_code == 200
        assert client.get("/info", headers=good).status_code == 200
        assert {client.get(path).status_code for path in ("/health", "/metrics")} == {200}
        assert 'te_request_failure{err="unauthorized"} 20.0' in client.get("/metrics").text


@pytest.mark.parametrize(
    ("limits", "message"),
    [({"max_items": 0}, "max_items is 0"), ({"max_queue": 10, "max_items": 11}, "less than the 11 texts of one")],
)
def test_limits_that_cannot_be(limits: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Limits(**limits)


# -------------------------------------------------------------------------------------------- information


def test_info(client: TestClient, encoder: TextEncoder) -> None:
    info = client.get("/info").json()
    tei = {"model_id", "model_sha", "model_dtype", "model_type", "max_concurrent_requests", "max_input_length"}
    tei |= {"max_batch_tokens", "max_batch_requests", "max_client_batch_size", "auto_truncate", "tokenization_workers"}
    assert tei | {"version", "sha", "docker_label"} <= set(info)
    assert info["fingerprint"] == encoder.fingerprint()
    assert info["model_dtype"] == "float32"
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert info["dimensions"] == [16, 8]
    assert set(info["tasks"]) == {"search", "interest", "storyline"}
    search = info["tasks"]["search"]
    assert search["prompt"] == {"query": "query: ", "document": "post: "}
    assert (search["max_length"], search["metric"], search["dimensions"]) == (24, "ndcg@10", [16, 8])
    assert 0 <= search["validation"]["now"] <= 1
    assert info["tasks"]["interest"]["dimensions"] == [4]
    assert not info["tasks"]["storyline"]["is_trained"]
    assert set(info["prompt_names"]) >= {"query", "document", "search", "search_query", "search_document"}
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["tiny"]
    assert client.get("/v1/models/tiny").json()["id"] == "tiny"
    assert client.get("/v1/models/a/b").json()["error"]["code"] == "model_not_found"
    assert client.get("/health").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("base", "told"),
    [("/srv/models/my model", "my model"), ("models of mine/a/b", "b"), ("BAAI/bge-m3", "BAAI/bge-m3"), ("", "")],
)
def test_info_has_no_path(encoder: TextEncoder, base: str, told: str) -> None:
    served = replace(encoder, facts=replace(encoder.facts, base=base))
    with TestClient(App(served, name="tiny", limits=LIMITS).starlette) as client:
        assert client.get("/info").json()["base"] == told


def test_bf16_is_told_and_used(encoder: TextEncoder) -> None:
    halved, texts = replace(encoder, precision="bf16"), texts_of(3, 12)
    with TestClient(App(halved, name="tiny", limits=LIMITS).starlette) as client:
        assert client.get("/info").json()["model_dtype"] == "bfloat16"
        found = openai_vectors(client.post(OPENAI, json={"input": texts}))
    np.testing.assert_allclose(found, halved.encode(texts, output="numpy"), atol=0.02)
    assert np.abs(found - encoder.encode(texts, output="numpy")).max() > 1e-5, "else it was float32"


def test_metrics_have_the_names_of_tei(encoder: TextEncoder) -> None:
    with TestClient(App(encoder, name="tiny", limits=LIMITS).starlette) as client:
        client.post(TEI, json={"inputs": ["dog", "cat"]})
        client.post(OPENAI, json={"input": "dog"})
        client.post(TEI, json={"inputs": 7})
        client.post(TEI, json={"inputs": ["dog"] * 21})
        client.post("/nothing")
        client.post(f"{TEI}/", follow_redirects=False)
        client.get(OPENAI)
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    expected = {
        'te_request_count{method="single"}': 1,
        'te_request_count{method="batch"}': 1,
        'te_request_success{method="single"}': 1,
        'te_request_success{method="batch"}': 1,
        'te_request_failure{err="validation"}': 1,
        'te_request_failure{err="batch_size"}': 1,
        'te_request_failure{err="route"}': 2,
        'te_request_failure{err="method"}': 1,
        "te_embed_count": 3,
        "te_embed_success": 3,
        "te_queue_size": 0,
        "te_request_duration_count": 2,
        "te_request_tokenization_duration_count": 2,
        "te_request_queue_duration_count": 2,
        "te_request_inference_duration_count": 2,
        "te_request_input_length_count": 3,
        "te_embed_duration_count": 2,
        "te_batch_next_size_count": 2,
        "te_batch_next_tokens_count": 2,
    }
    assert {name: float(values[name]) for name in expected} == expected
    assert "# TYPE te_request_count counter" in lines
    assert not any("_total" in line or "_created" in line for line in lines)


def test_clients_are_told_to_leave_when_the_server_ends(encoder: TextEncoder) -> None:
    app = App(encoder, name="tiny")
    with TestClient(app.starlette) as client:
        assert "connection" not in client.post(TEI, json={"inputs": "dog"}).headers
        app.is_draining = True
        answer = client.post(TEI, json={"inputs": "dog"})
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert client.get("/health").status_code == 503


def test_a_batcher_alone(encoder: TextEncoder) -> None:
    """From Python, without HTTP."""

    async def run() -> None:
        app = App(encoder, name="tiny", limits=LIMITS)
        async with app.batcher as batcher:
            vectors, tokens = await batcher.embed(["dog", "cat"], ChosenPrompt(None, "", 32))
            np.testing.assert_allclose(vectors, encoder.encode(["dog", "cat"], output="numpy"), atol=1e-6)
            assert tokens == 6
            with pytest.raises(RefusedError, match="the queue is full: 0 of 40 texts wait"):
                await batcher.embed(["dog"] * 41, ChosenPrompt(None, "", 32))

    asyncio.run(run())
