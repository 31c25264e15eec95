"""A TCP proxy that breaks connections on order: in front of Postgres, whose protocol it does not need to understand."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

T = TypeVar("T")


class TcpFaultProxy:
    """In front of one TCP server. Runs in a thread of its own; every method may be called from anywhere."""

    def __init__(self, host: str, port: int) -> None:
        """`host`, `port`: the real server."""
        self._upstream = (host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-fault-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None], _Link] = {}
        self._flowing = asyncio.Event()
        self._delay = 0.0
        self._lost: tuple[bytes, int] | None = None
        self.port = 0
        self.accepted = 0
        """How many connections clients have made."""

    # Life ----------------------------------------------------------------------------------------------------------
    def start(self) -> Self:
        """Listen on a loopback port."""
        self._flowing.set()
        self._thread.start()
        self.up()
        return self

    def stop(self) -> None:
        """Close every connection and end."""
        self.down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    def dsn(self, dsn: str) -> str:
        """The same DSN through this proxy."""
        parts = urlsplit(dsn)
        user, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{self.port}"))

    # Faults --------------------------------------------------------------------------------------------------------
    def down(self) -> None:
        """Reset every connection and refuse new ones, as a dead server does."""
        self._call(self._close())

    def up(self) -> None:
        """Accept connections (again), on the same port."""
        self._call(self._listen())

    def cut(self) -> int:
        """Reset the connections that are open now; returns how many. New ones are welcome."""
        return self._call(self._abort_all())

    def freeze(self) -> None:
        """Let no byte through in either direction; connections are accepted and stay open."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def thaw(self) -> None:
        """Let bytes through again."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def delay(self, seconds: float) -> None:
        """Hold back what the server sends for this long; 0 ends it."""
        self._delay = seconds

    def lose_reply(self, pattern: bytes, nth: int = 1) -> None:
        """Reset a connection after the server has answered the `nth` client message that contains `pattern`.

        The server has done what it was asked, a COMMIT say, and the client never learns it. Once only.
        """
        self._lost = (pattern, nth)

    # Inside --------------------------------------------------------------------------------------------------------
    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
            # A connection that was accepted a moment ago has no task yet; it gets one in the next turns of the loop.
            for _ in range(3):
                await self._abort_all()
                await asyncio.sleep(0.01)
            await server.wait_closed()

    async def _abort_all(self) -> int:
        tasks = dict(self._links)
        for task, link in tasks.items():
            link.abort()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return len(tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = _Link(writer)
        task = asyncio.current_task()
        assert task is not None
        self._links[task] = link
        try:
            upstream_reader, link.upstream = await asyncio.open_connection(*self._upstream)
            there = asyncio.ensure_future(self._to_server(reader, link))
            back = asyncio.ensure_future(self._to_client(upstream_reader, link))
            try:
                await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for half in (there, back):
                    half.cancel()
                await asyncio.gather(there, back, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            link.abort()
        finally:
            await link.close()
            self._links.pop(task, None)

    async def _to_server(self, reader: asyncio.StreamReader, link: _Link) -> None:
        assert link.upstream is not None
        while data := await reader.read(65536):
            await self._flowing.wait()
            if self._loses(data):
                link.lost = True
            link.upstream.write(data)
            await link.upstream.drain()

    async def _to_client(self, reader: asyncio.StreamReader, link: _Link) -> None:
        while data := await reader.read(65536):
            if self._delay:
                await asyncio.sleep(self._delay)
            await self._flowing.wait()
            if link.lost:
                link.abort()
                return
            link.client.write(data)
            await link.client.drain()

    def _loses(self, data: bytes) -> bool:
        if self._lost is None or self._lost[0] not in data:
            return False
        pattern, nth = self._lost
        self._lost = None if nth == 1 else (pattern, nth - 1)
        return nth == 1

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        future: concurrent.futures.Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(timeout=20)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Link:
    """Both ends of one proxied connection."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.upstream: asyncio.StreamWriter | None = None
        self.lost = False

    def abort(self) -> None:
        """Reset both ends."""
        for writer in (self.client, self.upstream):
            if writer is not None and isinstance(writer.transport, asyncio.Transport):
                writer.transport.abort()

    async def close(self) -> None:
        """Close both ends and wait until they are, or the loop may end with sockets in its hands."""
        for writer in (self.client, self.upstream):
            if writer is not None:
                writer.close()
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await writer.wait_closed()
