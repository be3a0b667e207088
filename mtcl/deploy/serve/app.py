"""The routes of the server: OpenAI's interface and TEI's over one batcher."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mtcl.arrays import FloatArray
from mtcl.deploy.serve.batching import Batcher
from mtcl.deploy.serve.dialects import OPENAI, TEI, Dialect, EmbedRequest, dialect_of
from mtcl.deploy.serve.info import info_of, model_of
from mtcl.deploy.serve.limits import Limits
from mtcl.deploy.serve.metrics import Metrics
from mtcl.deploy.serve.prompts import Prompts
from mtcl.deploy.serve.refusal import Reason, RefusedError
from mtcl.encoder.text_encoder import TextEncoder

log = logging.getLogger("mtcl")
FINGERPRINT = "x-mtcl-fingerprint"
"""Header of each answer with vectors: the fingerprint of the weights, and of the task's head after a dot."""
NUM_FLOATS_AT_ONCE = 8192
"""More are written as JSON in another thread, so that other requests do not wait for it."""
DRAIN_FACTOR = 8
"""A body of up to this many times the limit is read to its end before it is refused, since a client that is still
sending does not read an answer.
"""
BODIES_AT_ONCE = 64
"""This many bodies of full size may be in memory while they are being read."""
Handler = Callable[[Request], Awaitable[Response]]


class App:
    """What the routes share. `starlette` is the ASGI application."""

    def __init__(
        self,
        encoder: TextEncoder,
        *,
        name: str,
        limits: Limits | None = None,
        api_key: str | None = None,
        num_threads: int | None = None,
    ) -> None:
        self.encoder, self.name, self.limits = encoder, name, limits or Limits()
        self.metrics = Metrics()
        self.batcher = Batcher(encoder, self.limits, self.metrics, num_threads=num_threads)
        self.prompts = Prompts(encoder)
        self.info = info_of(encoder, name, self.prompts, self.limits)
        self.is_draining = False
        """Whether the server is about to end: clients are told to close their connections."""
        self._num_bytes = 0
        self._api_key = None if api_key is None else api_key.encode()
        heads = {task: f".{encoder.head_fingerprint(task)}" for task in encoder.heads}
        fingerprint: str = self.info["fingerprint"]
        self._fingerprints = {task: fingerprint + heads.get(task or "", "") for task in (None, *encoder.prompts)}
        self._created = int(time.time())
        self.starlette = Starlette(
            routes=[
                Route("/v1/embeddings", self._guarded(self.embed_openai), methods=["POST"]),
                Route("/v1/models", self._guarded(self.models)),
                Route("/v1/models/{name:path}", self._guarded(self.model)),
                Route("/embed", self._guarded(self.embed_tei), methods=["POST"]),
                Route("/info", self._guarded(self.show_info)),
                Route("/health", self.health),
                Route("/metrics", self.show_metrics),
            ],
            exception_handlers={HTTPException: self._not_routed, Exception: failed},
            lifespan=self._lifespan,
        )
        self.starlette.router.redirect_slashes = False  # a redirect would leave TLS, which only the proxy knows of

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async with self.batcher:
            yield

    def _guarded(self, handler: Handler) -> Handler:
        """A handler that asks for the API key, if there is one, counts what fails, and closes the connection when the
        server ends.
        """

        async def guarded(request: Request) -> Response:
            try:
                self._check_key(request)
                response = await handler(request)
            except RefusedError as error:
                self.metrics.request_failure.labels(error.reason.value).inc()
                response = await refused(request, error)
            except Exception:
                self.metrics.request_failure.labels(Reason.BACKEND.value).inc()
                raise
            if self.is_draining:
                response.headers["connection"] = "close"
            return response

        return guarded

    def _check_key(self, request: Request) -> None:
        if self._api_key is None:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._api_key):
            what = "wrong API key" if given else "no API key"
            raise RefusedError(Reason.NO_KEY, f"{what}: send the header `Authorization: Bearer KEY`")

    async def _not_routed(self, request: Request, error: Exception) -> Response:
        """The answer to a route or method that does not exist."""
        assert isinstance(error, HTTPException)
        path, method = request.url.path, request.method
        refusal = (
            RefusedError(Reason.NO_METHOD, f"{path:.100} does not take {method}")
            if error.status_code == 405
            else RefusedError(
                Reason.NO_ROUTE, f"no such route: {method} {path:.100}; see /info, /embed, /v1/embeddings"
            )
        )
        self.metrics.request_failure.labels(refusal.reason.value).inc()
        response = await refused(request, refusal)
        response.headers.update({key: value for key, value in (error.headers or {}).items() if key.lower() == "allow"})
        return response

    async def embed_openai(self, request: Request) -> Response:
        return await self._answer(request, OPENAI)

    async def embed_tei(self, request: Request) -> Response:
        return await self._answer(request, TEI)

    async def models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [model_of(self.name, self._created)]})

    async def model(self, request: Request) -> Response:
        self._check_model(request.path_params["name"])
        return JSONResponse(model_of(self.name, self._created))

    async def show_info(self, _: Request) -> Response:
        return JSONResponse(self.info)

    async def health(self, _: Request) -> Response:
        """200 while the server takes requests."""
        is_well = self.batcher.is_alive and not self.is_draining
        return JSONResponse({"status": "ok" if is_well else "unavailable"}, 200 if is_well else 503)

    async def show_metrics(self, _: Request) -> Response:
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _answer(self, request: Request, dialect: Dialect) -> Response:
        started = time.perf_counter()
        self.batcher.check_space(1)
        try:
            body = await self._body(request)
            given = dialect.read(body, self.limits.max_items)
            method = "single" if given.is_single else "batch"
            self.metrics.request_count.labels(method).inc()
            response = await self._while_connected(request, self._embedded(given, dialect))
        except ClientDisconnect as error:
            raise RefusedError(Reason.LEFT, "the client closed the connection") from error
        self.metrics.request_success.labels(method).inc()
        self.metrics.request_duration.observe(time.perf_counter() - started)
        return response

    async def _body(self, request: Request) -> bytes:
        """A request's body. Raises `RefusedError` if it is too large or compressed, or if too many are being read."""
        most = self.limits.max_bytes
        encoding = request.headers.get("content-encoding", "").strip()
        if encoding.lower() not in ("", "identity"):
            raise RefusedError(Reason.ENCODED, f"the body is encoded as {encoding!r:.60}: send it as it is")
        parts, size = list[bytes](), 0
        length = request.headers.get("content-length", "")
        if request.headers.get("expect", "").lower() == "100-continue" and length.isdigit() and int(length) > most:
            raise _too_large(most)  # before the client sends it
        try:
            async for part in request.stream():
                size += len(part)
                if size <= most:
                    parts.append(part)
                    self._num_bytes += len(part)
                elif size > DRAIN_FACTOR * most:
                    break
                if self._num_bytes > BODIES_AT_ONCE * most:
                    raise RefusedError(Reason.OVERLOADED, "too many bodies are being read; try again later")
        finally:
            self._num_bytes -= sum(map(len, parts))
        if size > most:
            raise _too_large(most)
        return b"".join(parts)

    async def _while_connected(self, request: Request, work: Awaitable[Response]) -> Response:
        """The result of `work`, which is cancelled if the client leaves."""
        leaving, working = asyncio.ensure_future(request.receive()), asyncio.current_task()
        assert working is not None

        def cancel(_: object) -> None:
            if not is_over:
                working.cancel()

        is_over = False
        leaving.add_done_callback(cancel)
        try:
            return await work
        except asyncio.CancelledError as error:
            if leaving.done() and not working.uncancel():
                raise ClientDisconnect from error
            raise
        finally:
            is_over = True
            leaving.cancel()

    async def _embedded(self, given: EmbedRequest, dialect: Dialect) -> Response:
        self._check_model(given.model)
        choice = self.prompts.choose(given.name, given.role, field=given.name_field)
        dim = self._dim(given.dimensions, choice.task)
        vectors_TD, num_tokens = await self.batcher.embed(
            given.texts, choice, dim=dim, truncate=given.truncate, direction=given.direction
        )
        body = await _written(dialect, vectors_TD, given, self.name, num_tokens)
        headers = {FINGERPRINT: self._fingerprints[choice.task]}
        return Response(body, media_type="application/json", headers=headers)

    def _check_model(self, name: str | None) -> None:
        if name not in (None, self.name):
            hint = f"The model `{name:.60}` does not exist; this server has `{self.name}`"
            raise RefusedError(Reason.NO_MODEL, hint, field="model")

    def _dim(self, asked: int | None, task: str | None) -> int | None:
        """The leading dimensions to keep; None for all. Raises `RefusedError` for untrained ones, in vLLM's words."""
        trained = self.encoder.dims_of(task)
        if asked is None or asked == trained[0]:
            return None
        if asked in trained:
            return asked
        if len(trained) == 1:
            what = (
                f'Model "{self.name}" does not support matryoshka representation, changing output dimensions will lead '
                f"to poor results: its vectors have {trained[0]} dimensions"
            )
        else:
            known = ", ".join(map(str, sorted(trained)))
            what = (
                f'Model "{self.name}" only supports [{known}] matryoshka dimensions, use other output dimensions will '
                "lead to poor results"
            )
        raise RefusedError(Reason.DIMENSIONS, f"{what}; dimensions is {asked!r:.40}", field="dimensions")


def _too_large(most: int) -> RefusedError:
    return RefusedError(
        Reason.TOO_MANY_BYTES, f"the body has more than the {most} bytes allowed: send several requests"
    )


async def _written(dialect: Dialect, vectors_TD: FloatArray, given: EmbedRequest, name: str, num_tokens: int) -> bytes:
    if given.as_base64 or vectors_TD.size <= NUM_FLOATS_AT_ONCE:
        return dialect.write(vectors_TD, given, name, num_tokens)
    return await asyncio.to_thread(dialect.write, vectors_TD, given, name, num_tokens)


async def refused(request: Request, error: RefusedError) -> Response:
    """The answer to a refused request, in the form of its interface."""
    status, content = dialect_of(request.url.path).refuse(error)
    headers = {"retry-after": "1"} if error.reason in (Reason.OVERLOADED, Reason.UNHEALTHY) else {}
    if error.reason is Reason.NO_KEY:
        headers["www-authenticate"] = "Bearer"
    if error.reason in (Reason.TOO_MANY_BYTES, Reason.UNHEALTHY, Reason.ENCODED):
        headers["connection"] = "close"
    return JSONResponse(content, status, headers=headers)


async def failed(request: Request, _: Exception) -> Response:
    """The answer to a request that failed by an error of the server; the log has the error."""
    return await refused(request, RefusedError(Reason.BACKEND, "internal error; the server's log says more"))
