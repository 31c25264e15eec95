"""The HTTP/1.1 protocol with bounds on what a client may send before its request is understood.

uvicorn on httptools bounds neither the size nor the duration of a request's head; a client that never ends its headers
would cost memory and a connection for ever.
"""

import asyncio
from typing import Any, Final

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from retinue.domain.refusal import Refusal

HEAD_BYTES: Final = 32 * 1024
"""Request line and headers together."""
HEAD_COUNT: Final = 100
"""Header fields of one request."""
HEAD_SECONDS: Final = 10.0
"""From the opening of a connection, or the first byte of a later request, until the head is complete."""


class HeadTooLarge(Exception):
    """Raised inside the parser to stop it."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a bounded head and errors in the shape of the API."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._in_body = False
        self._piece = 0
        """Bytes of the piece that is being parsed, as far as they can belong to a head."""
        self._head_bytes = 0
        self._field_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected; its first head must come soon."""
        super().connection_made(transport)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come; count them while the head is incomplete, whether or not the parser has shown them yet."""
        self._piece = 0 if self._in_body else len(data)
        self._head_bytes += self._piece
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self._head_refused = True
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._begin_head()
        self._head_bytes, self._piece = self._piece, 0
        self._field_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field is complete."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._in_head, self._in_body = False, True
        self._head_bytes = 0
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is complete; what follows is the next head."""
        self._in_body = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what could not be understood, and close."""
        refusal = Refusal(400, "invalid_http", "this is not a valid HTTP/1.1 request")
        line = b"HTTP/1.1 400 Bad Request\r\n"
        if self._head_refused:
            refusal = Refusal(431, "headers_too_large", f"more than {HEAD_BYTES} bytes or {HEAD_COUNT} headers")
            line = b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
        body = orjson.dumps(refusal.document())
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(line + head + body)
        self.transport.close()

    def _count(self, size: int) -> None:
        self._field_bytes += size
        if len(self.headers) >= HEAD_COUNT or self._field_bytes > HEAD_BYTES:
            self._head_refused = True
            raise HeadTooLarge

    def _begin_head(self) -> None:
        self._in_head = True
        self._stop_timer()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_late)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_late(self) -> None:
        # A pipelined head must not cut off an answer that is on its way.
        if self.cycle is not None and not self.cycle.response_complete:
            self._begin_head()
        elif not self.transport.is_closing():
            self.transport.close()
