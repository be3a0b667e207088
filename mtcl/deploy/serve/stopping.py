"""A server that ends in order: every request that it has accepted is answered.

On SIGTERM or SIGINT it accepts no further connections. For `LINGER_S` it still reads open connections, since they may
have a request in their buffer, and asks clients in each answer to close them. Then it closes idle connections and
finishes its requests. After `grace_s`, those still in the queue are refused with 503. A second SIGINT ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.server import HANDLED_SIGNALS

from mtcl.deploy.serve.app import App
from mtcl.errors import advised

LAST_CONNECTIONS_S = 0.02
"""For connections that the kernel has accepted and the event loop has not yet seen."""
LINGER_S = 0.25
log = logging.getLogger("mtcl")


def _tell(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """One line about connections that wait because of the limit of open files; anything else as asyncio tells it."""
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        log.warning("%s", advised(f"new connections wait for others to close: {error}"))
    elif "_start_serving" not in context["message"]:  # asyncio accepts again after a second, also when the server ends
        loop.default_exception_handler(context)


class Server(uvicorn.Server):
    """Serves `app` until a signal ends it, with exit code 0. `on_ready` is called when it takes requests."""

    def __init__(self, config: uvicorn.Config, app: App, *, grace_s: float, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.app, self.grace_s, self.on_ready = app, grace_s, on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(_tell)
        await super().startup(sockets)
        self.on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal inside, and ignore signals afterwards, when the process ends. Called in the event loop."""
        self._loop = asyncio.get_running_loop()
        for number in HANDLED_SIGNALS:
            signal.signal(number, self._stop)
        try:
            yield
        finally:
            for number in HANDLED_SIGNALS:
                signal.signal(number, signal.SIG_IGN)

    def _stop(self, number: int, _: FrameType | None) -> None:
        if self.app.is_draining:
            if number == signal.SIGINT:  # a second Ctrl-C: now
                self.force_exit = True
                logging.getLogger("uvicorn.error").disabled = True  # it would show how the app was cancelled
            return
        self.app.is_draining = True
        self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self._loop.call_later(LAST_CONNECTIONS_S, self._close)
        self._loop.call_later(LINGER_S, setattr, self, "should_exit", True)
        self._loop.call_later(self.grace_s, self.app.batcher.abandon)

    def _close(self) -> None:
        for listener in self.servers:
            listener.close()
