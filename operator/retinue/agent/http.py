"""The few pieces of ASGI that the agent needs: replies, and reading a body within bounds."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from retinue.agent.admission import ByteBudget

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Refusal(Exception):
    """A request that is answered by the agent itself; `reason` is for metrics and for the gateway."""

    def __init__(self, status: int, reason: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


class ClientLeft(Exception):
    """The client closed its connection before its answer was complete."""


async def reply(
    send: Send, status: int, body: bytes, content_type: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """Send a whole response."""
    head = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def refuse(send: Send, refusal: Refusal) -> None:
    """Send a refusal in Ollama's own shape, with the reason beside it."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if refusal.retry_after is not None:
        headers = ((b"retry-after", str(refusal.retry_after).encode()),)
    if refusal.status in (408, 413):
        # The rest of the body is not read, so the connection cannot be used again.
        headers = (*headers, (b"connection", b"close"))
    body = orjson.dumps({"error": str(refusal), "reason": refusal.reason})
    await reply(send, refusal.status, body, b"application/json", headers)


def header(scope: Scope, name: bytes) -> bytes:
    """First value of a header (lower case name), or empty."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return b""


class Body:
    """A request body in memory; leaving the context gives its bytes back to the budget."""

    def __init__(self, scope: Scope, receive: Receive, budget: ByteBudget, *, limit: int, seconds: float) -> None:
        self._receive = receive
        self._budget = budget
        self._limit = limit
        self._seconds = seconds
        self._reserved = 0
        declared = header(scope, b"content-length")
        self._declared = int(declared) if declared.isdigit() else 0

    def __enter__(self) -> "Body":
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.give(self._reserved)
        self._reserved = 0

    async def read(self) -> bytes:
        """The whole body. Raises Refusal (413, 408, 503) or ClientLeft."""
        self._reserve(self._declared)
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise ClientLeft
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    self._reserve(size)
                    chunks.append(chunk)
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise Refusal(408, "BodyTimeout", f"the body was not complete after {self._seconds:g} s") from None
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _reserve(self, size: int) -> None:
        if size > self._limit:
            raise Refusal(413, "BodyTooLarge", f"the body is longer than {self._limit} bytes")
        more = size - self._reserved
        if more > 0:
            if not self._budget.take(more):
                raise Refusal(503, "BodiesTooLarge", "the bodies of waiting requests fill the memory", retry_after=1)
            self._reserved = size
