"""An HTTP/1.1 reverse proxy that injects faults on order. It runs in a thread of its own, so any test can use it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import ssl
import threading
from collections.abc import AsyncIterator, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
from aiohttp import web
from yarl import URL

from testbed.faultproxy_faults import (
    Cut,
    CutStream,
    Delay,
    EndStream,
    ErrorInStream,
    Fault,
    Injection,
    Kill,
    LostReply,
    Refuse,
    Seen,
    SilentStream,
    Twice,
)
from testbed.faultproxy_stream import Relay, lines_of

T = TypeVar("T")
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host", "content-length"}
)
_STREAM_TYPES = ("application/x-ndjson", "text/event-stream")
_Stream = CutStream | EndStream | SilentStream | ErrorInStream


class HttpFaultProxy:
    """In front of one HTTP server. Without an injected fault it changes nothing but the connection.

    Upgrades (exec, port-forward) are not passed on.
    """

    def __init__(
        self,
        upstream: str,
        *,
        server_tls: ssl.SSLContext | None = None,
        client_tls: ssl.SSLContext | None = None,
        anonymous_tls: ssl.SSLContext | None = None,
    ) -> None:
        """`server_tls`: what we show to clients. `client_tls`: how we go upstream; `anonymous_tls`: the same without a
        client certificate, for requests that bring a bearer token."""
        self._upstream = upstream.rstrip("/")
        self._server_tls = server_tls
        self._client_tls = client_tls
        self._anonymous_tls = anonymous_tls or client_tls
        self._lock = threading.Lock()
        self._seen: list[Seen] = []
        self._injections: list[Injection] = []
        self._relays: set[Relay] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._server: web.Server | None = None
        self._runner: web.ServerRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self.port = 0

    # Life ----------------------------------------------------------------------------------------------------------
    def start(self) -> Self:
        """Listen on a loopback port; returns when connections are accepted."""
        self._thread.start()
        self._call(self._open())
        return self

    def stop(self) -> None:
        """Close every connection and end."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    @property
    def url(self) -> str:
        """Base URL for clients."""
        return f"{'https' if self._server_tls else 'http'}://127.0.0.1:{self.port}"

    # Faults --------------------------------------------------------------------------------------------------------
    def inject(
        self,
        fault: Fault,
        *,
        verb: str | None = None,
        resource: str | None = None,
        namespace: str | None = None,
        name: str | None = None,
        nth: int = 1,
        times: int | None = 1,
    ) -> Injection:
        """Let the `nth` matching request from now on, and `times - 1` after it (None: all), meet `fault`.

        A request meets the first of several injections that takes it.
        """
        injection = Injection(fault, verb, resource, namespace, name, nth, times)
        with self._lock:
            self._injections.append(injection)
        return injection

    def remove(self, injection: Injection) -> None:
        """Take one fault out of force."""
        with self._lock:
            self._injections.remove(injection)

    def clear(self) -> None:
        """Take every fault out of force and let nothing linger: silent streams are cut. The log stays."""
        with self._lock:
            self._injections.clear()
        self.order_streams(CutStream(), silent_only=True)

    def order_streams(self, fault: _Stream, resource: str | None = None, *, silent_only: bool = False) -> int:
        """Let a fault happen to the streams that are open now; returns to how many."""

        async def order() -> int:
            chosen = [
                relay
                for relay in self._relays
                if (resource is None or relay.seen.resource == resource) and (relay.silent or not silent_only)
            ]
            for relay in chosen:
                relay.order(fault)
            return len(chosen)

        return self._call(order())

    def down(self) -> None:
        """Reset every connection and refuse new ones, as a dead server does."""
        self._call(self._stop_listening())

    def up(self) -> None:
        """Listen again on the same port."""
        self._call(self._listen())

    # Log -----------------------------------------------------------------------------------------------------------
    @property
    def requests(self) -> list[Seen]:
        """Every request so far, in the order of arrival."""
        with self._lock:
            return list(self._seen)

    def writes(self, resource: str | None = None) -> list[Seen]:
        """Requests that changed, or would have changed, something."""
        return [seen for seen in self.requests if seen.is_write and resource in (None, seen.resource)]

    # For subclasses ------------------------------------------------------------------------------------------------
    def classify(self, number: int, request: web.BaseRequest, body: bytes) -> Seen:
        """What a request is; here simply its method and path."""
        return Seen(number, request.method, request.path)

    def refusal(self, seen: Seen, fault: Refuse) -> bytes:
        """The JSON body of an injected error; here Ollama's shape."""
        return b'{"error":"%s"}' % fault.message.encode()

    # Inside --------------------------------------------------------------------------------------------------------
    async def _open(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        self._session = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
        await self._listen()

    async def _close(self) -> None:
        await self._stop_listening()
        if self._session is not None:
            await self._session.close()

    async def _listen(self) -> None:
        self._server = web.Server(self._handle, handler_cancellation=True, access_log=None, logger=_quiet())
        self._runner = web.ServerRunner(self._server, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._server_tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _stop_listening(self) -> None:
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for site in list(runner.sites):
            await site.stop()
        # Also those that are idle: a polite TLS goodbye would need the client's answer.
        for connection in self._server.connections if self._server else ():
            if isinstance(connection.transport, asyncio.Transport):
                connection.transport.abort()
        await runner.cleanup()
        await asyncio.sleep(0.01)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        body = await request.read()
        with self._lock:
            seen = self.classify(len(self._seen) + 1, request, body)
            self._seen.append(seen)
            fault = next((taken.fault for taken in self._injections if taken.takes(seen)), None)
        if fault is not None:
            seen.fault = type(fault).__name__
        try:
            return await self._serve(request, body, seen, fault)
        except (aiohttp.ClientError, OSError):
            # The server is gone, or the client is: either way the client's connection breaks.
            return _reset(transport)

    async def _serve(
        self, request: web.BaseRequest, body: bytes, seen: Seen, fault: Fault | None
    ) -> web.StreamResponse:
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        if request.headers.get("Upgrade"):
            return web.Response(status=501, text="the fault proxy passes no upgrades on")
        if isinstance(fault, Delay):
            await asyncio.sleep(fault.seconds)
        elif isinstance(fault, Cut):
            return _reset(transport)
        elif isinstance(fault, Kill) and fault.when == "before":
            fault.strike()
            return _reset(transport)
        elif isinstance(fault, Refuse):
            seen.status = fault.status
            extra = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            answer = self.refusal(seen, fault)
            return web.Response(status=fault.status, body=answer, content_type="application/json", headers=extra)
        elif isinstance(fault, Twice):
            async with self._send(request, body, seen) as first:
                await first.read()
        async with self._send(request, body, seen) as upstream:
            headers = [(key, value) for key, value in upstream.headers.items() if key.lower() not in _HOP_BY_HOP]
            if seen.verb == "watch" or upstream.content_type in _STREAM_TYPES:
                return await self._stream(request, upstream, headers, seen, fault)
            content = await upstream.read()
            if isinstance(fault, Kill):
                fault.strike()
                return _reset(transport)
            if isinstance(fault, LostReply):
                return _reset(transport)
            seen.status = upstream.status
            answered = web.Response(status=upstream.status, body=content)
            answered.headers.clear()
            answered.headers.extend(headers)
            return answered

    def _send(
        self, request: web.BaseRequest, body: bytes, seen: Seen
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        assert self._session is not None
        seen.sent = True
        headers = [(key, value) for key, value in request.headers.items() if key.lower() not in _HOP_BY_HOP]
        tls = self._anonymous_tls if "Authorization" in request.headers else self._client_tls
        url = URL(self._upstream + request.raw_path, encoded=True)
        return self._session.request(
            request.method, url, data=body or None, headers=headers, ssl=tls or True, allow_redirects=False
        )

    async def _stream(
        self,
        request: web.BaseRequest,
        upstream: aiohttp.ClientResponse,
        headers: list[tuple[str, str]],
        seen: Seen,
        fault: Fault | None,
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=upstream.status)
        response.headers.extend(headers)
        response.enable_chunked_encoding()
        await response.prepare(request)
        seen.status = upstream.status
        relay = Relay(seen, _Client(request, response), fault)
        self._relays.add(relay)
        try:
            if await relay.run(lines_of(_chunks(upstream))):
                await response.write_eof()
        finally:
            self._relays.discard(relay)
        return response

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the proxy's loop from any other thread."""
        future: concurrent.futures.Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(timeout=20)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Client:
    """The client's side of a stream, as the relay sees it."""

    def __init__(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        self._request, self._response = request, response

    async def write(self, data: bytes) -> None:
        await self._response.write(data)

    def abort(self) -> None:
        transport = self._request.transport
        if isinstance(transport, asyncio.Transport):
            transport.abort()


async def _chunks(upstream: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in upstream.content.iter_any():
            yield chunk
    except aiohttp.ClientError as error:
        raise ConnectionError(str(error)) from error


def _reset(transport: asyncio.Transport) -> web.Response:
    """Break the connection. The response is for aiohttp only; it reaches nobody."""
    transport.abort()
    return web.Response()


def _quiet() -> logging.Logger:
    """Connections break here on purpose; nobody wants to read about it."""
    logger = logging.getLogger("testbed.faultproxy")
    logger.disabled = True
    return logger
