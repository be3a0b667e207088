"""uvicorn's HTTP/1.1 over httptools, without changes of protocol and with a limit of what comes before a body.

A client may offer another protocol with its request: Java's `HttpClient` offers HTTP/2 (`Upgrade: h2c`) by default. A
server may ignore the offer (RFC 9110, section 7.8). httptools skips the body of such a request and reads it as the next
one. So the request's head is read once more, without the offer.

httptools and uvicorn take a target and headers of any size, and copy an unfinished header with each piece of it.
"""

from __future__ import annotations

from array import array
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

OFFER = b"upgrade"
MAX_HEAD = 1 << 16
"""Bytes of a request's target and headers; more are refused with 431."""
TOO_LARGE = b"the target and the headers of the request have more than %d bytes together" % MAX_HEAD


class RequestParser(httptools.HttpRequestParser):
    """Calls the methods of `protocol` for a request that offers another protocol as for any other."""

    def __init__(self, protocol: HttpProtocol) -> None:
        super().__init__(protocol)
        self.protocol = protocol
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn sets it

    def feed_data(self, data: bytes | bytearray | memoryview[int] | array[int]) -> None:
        """Raises `HttpParserUpgrade` for CONNECT only, and `HttpParserError` for what is not HTTP, or too large."""
        self.protocol.before_data()
        size = len(data)
        while True:
            try:
                super().feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if self.get_method() == b"CONNECT":
                    raise
                data = self.protocol.head_without_offer() + bytes(data[offer.args[0] :])
            else:
                self.protocol.after_data(size)
                return


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.parser = RequestParser(self)
        self.is_too_large = False
        self._size = self._unfinished = 0
        """Bytes of the request's target and headers, and those that came since anything was complete."""
        self._has_part = False

    def before_data(self) -> None:
        """More data is about to be parsed."""
        self._has_part = False

    def after_data(self, size: int) -> None:
        """So many bytes were parsed. Raises `HttpParserError` if they are the middle of a header that is too large."""
        self._unfinished = 0 if self._has_part else self._unfinished + size
        self._check(self._unfinished)

    def on_message_begin(self) -> None:
        self._size = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._add(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._add(name, value)
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._has_part = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._has_part = True
        super().on_message_complete()

    def _add(self, *parts: bytes) -> None:
        self._has_part = True
        self._size += sum(map(len, parts))
        self._check(self._size)

    def _check(self, size: int) -> None:
        if size > MAX_HEAD:
            self.is_too_large = True
            raise httptools.HttpParserError(TOO_LARGE.decode())

    def send_400_response(self, msg: str) -> None:
        """The answer to what cannot be parsed, and to a head that is too large."""
        if not self.is_too_large:
            super().send_400_response(msg)
            return
        head = (
            b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n" % len(TOO_LARGE)
        )
        self.transport.write(head + TOO_LARGE)
        self.transport.close()

    def _should_upgrade(self) -> bool:
        """Whether uvicorn lets this reading of the head pass without starting the request."""
        return bool(self.parser.get_method() != b"CONNECT")

    def head_without_offer(self) -> bytes:
        """The head that was just read."""
        first = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        lines = [b"%b: %b" % (name, value) for name, value in self.headers if name != OFFER]
        return b"\r\n".join([first, *lines, b"", b""])
