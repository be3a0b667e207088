"""uvicorn's HTTP/1.1 over httptools, without changes of protocol.

A client may offer another protocol with its request: Java's `HttpClient` offers HTTP/2 (`Upgrade: h2c`) by default. A
server may ignore the offer (RFC 9110, section 7.8). httptools skips the body of such a request and reads it as the next
one. So the request's head is read once more, without the offer.
"""

from __future__ import annotations

from array import array
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

OFFER = b"upgrade"


class RequestParser(httptools.HttpRequestParser):
    """Calls the methods of `protocol` for a request that offers another protocol as for any other."""

    def __init__(self, protocol: HttpProtocol) -> None:
        super().__init__(protocol)
        self.protocol = protocol
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn sets it

    def feed_data(self, data: bytes | bytearray | memoryview[int] | array[int]) -> None:
        """Raises `HttpParserUpgrade` for CONNECT only, and `HttpParserError` for what is not HTTP."""
        while True:
            try:
                super().feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                if self.get_method() == b"CONNECT":
                    raise
                data = self.protocol.head_without_offer() + bytes(data[offer.args[0] :])


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.parser = RequestParser(self)

    def _should_upgrade(self) -> bool:
        """Whether uvicorn lets this reading of the head pass without starting the request."""
        return bool(self.parser.get_method() != b"CONNECT")

    def head_without_offer(self) -> bytes:
        """The head that was just read."""
        first = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        lines = [b"%b: %b" % (name, value) for name, value in self.headers if name != OFFER]
        return b"\r\n".join([first, *lines, b"", b""])
