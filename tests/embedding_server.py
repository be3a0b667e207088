"""A server of OpenAI's embedding interface on loopback that serves local weights, and faults when told to."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = int | str
"""A status to answer with, or one of: slow, no json, too few, ragged, not finite, wrong order."""


class EmbeddingServer:
    """`embed` gives vectors of texts. Each of `faults` spoils one request, in turn. `requests` are the bodies
    seen; a batch with a text of more than `most_characters` is refused."""

    def __init__(self, embed: Callable[[Sequence[str]], list[list[float]]]) -> None:
        self.embed, self.faults, self.most_characters = embed, deque[Fault](), 10_000
        self.requests: list[dict[str, Any]] = []
        self.times: list[float] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                owner.requests.append(body)
                owner.times.append(time.monotonic())
                with contextlib.suppress(BrokenPipeError):  # the client gave up waiting
                    owner.answer(self, body, owner.faults.popleft() if owner.faults else None)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def __enter__(self) -> EmbeddingServer:
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    def answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any], fault: Fault | None) -> None:
        if isinstance(fault, int):
            send(handler, fault, json.dumps({"error": {"message": f"injected {fault}"}}), retry_after=0.05)
            return
        if max(map(len, body["input"])) > self.most_characters:
            send(handler, 400, json.dumps({"error": {"message": "maximum context length"}}))
            return
        if fault == "slow":
            time.sleep(4)
        vectors = [row[: body.get("dimensions")] for row in self.embed(body["input"])]
        rows: list[dict[str, Any]] = [
            {"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)
        ]
        if fault == "too few":
            rows.pop()
        elif fault == "ragged":
            rows[0]["embedding"] = rows[0]["embedding"][:-1]
        elif fault == "not finite":
            rows[0]["embedding"][0] = float("nan")
        elif fault == "wrong order":
            rows.reverse()
        content = {
            "object": "list",
            "data": rows,
            "model": body["model"],
            "usage": {"prompt_tokens": 1, "total_tokens": 1},
        }
        send(handler, 200, "<html>" if fault == "no json" else json.dumps(content))


def send(handler: BaseHTTPRequestHandler, status: int, text: str, *, retry_after: float | None = None) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(text)))
    if retry_after is not None:
        handler.send_header("Retry-After", str(retry_after))
    handler.end_headers()
    handler.wfile.write(text.encode())
