"""Reading requests and writing answers on bare ASGI, with bounds on both."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

import orjson

from retinue.domain.refusal import Refusal
from retinue.gateway.disconnect import ClientGone, Receive

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON: Final = (b"content-type", b"application/json")
EVENTS: Final[Headers] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
"""Headers of a streamed answer; the last keeps proxies from collecting it."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that (lower-case) name."""
    found: bytes | None = next((value for key, value in scope["headers"] if key == name), None)
    return found


async def read_body(scope: Scope, receive: Receive, *, limit: int, seconds: float) -> bytes:
    """The whole body. Raises Refusal: 413 as soon as it is known to be too long, 415 if compressed, 408 if too slow."""
    if (header(scope, b"content-encoding") or b"identity").lower() != b"identity":
        raise Refusal(415, "unsupported_encoding", "the body must not be compressed; leave Content-Encoding out")
    declared = header(scope, b"content-length")
    if declared is not None and int(declared) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                part: bytes = message.get("body", b"")
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                parts.append(part)
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise Refusal(408, "body_timeout", f"the body did not arrive within {seconds:g} s") from None


def decode_json(body: bytes) -> Any:
    """The JSON value of a body. Raises Refusal (400); nesting is bounded by the parser."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refusal(400, "invalid_json", "the body is not valid JSON in UTF-8") from None


async def send_json(send: Send, status: int, document: Any, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """A whole answer from a JSON value."""
    await send_bytes(send, status, orjson.dumps(document), [JSON, *headers])


async def send_bytes(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """A whole answer."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def send_refusal(send: Send, refusal: Refusal, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """The answer to a request that is not answered."""
    extra = list(headers)
    if refusal.retry_after is not None:
        extra.append((b"retry-after", str(refusal.retry_after).encode()))
    if refusal.status in (408, 413):
        # What the client is still sending would otherwise have to be read before its next request.
        extra.append((b"connection", b"close"))
    if refusal.status == 401:
        extra.append((b"www-authenticate", b"Bearer"))
    await send_json(send, refusal.status, refusal.document(), extra)


def _too_large(limit: int) -> Refusal:
    return Refusal(413, "body_too_large", f"the body is larger than {limit} bytes")
