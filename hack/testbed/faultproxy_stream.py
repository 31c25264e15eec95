"""One watch or token stream on its way through the proxy, line by line, and what can happen to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from testbed.faultproxy_faults import (
    CutStream,
    EndStream,
    ErrorInStream,
    Fault,
    HideLines,
    RepeatLines,
    Seen,
    SilentStream,
    SlowStream,
)


class Sink(Protocol):
    """The client's side of a stream."""

    async def write(self, data: bytes) -> None:
        """Send some bytes."""

    def abort(self) -> None:
        """Reset the connection."""


class Relay:
    """Passes lines on. Faults come with the request, or are ordered while the stream is open."""

    def __init__(self, seen: Seen, sink: Sink, fault: Fault | None) -> None:
        self.seen = seen
        self._sink = sink
        self._fault = fault
        self._queue: asyncio.Queue[bytes | Fault | None] = asyncio.Queue()
        self._passed = 0
        self._read = 0
        self.silent = False
        """Whether the stream is kept open without anything passing."""

    def order(self, fault: Fault) -> None:
        """Let a fault happen now, whatever has passed so far."""
        self._queue.put_nowait(fault)

    async def run(self, source: AsyncIterator[bytes]) -> bool:
        """Pass `source` on to its end. False when the connection was reset on purpose."""
        pump = asyncio.ensure_future(self._pump(source))
        try:
            if self._fault is not None and self._due():
                self.order(self._fault)
            while True:
                entry = await self._queue.get()
                if isinstance(entry, bytes):
                    await self._line(entry)
                elif entry is None:
                    if not self.silent:
                        return True
                elif isinstance(entry, CutStream):
                    self._sink.abort()
                    return False
                elif isinstance(entry, EndStream):
                    return True
                elif isinstance(entry, ErrorInStream):
                    await self._sink.write(entry.line)
                    return True
                elif isinstance(entry, SilentStream):
                    self.silent = True
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)

    async def _pump(self, source: AsyncIterator[bytes]) -> None:
        try:
            async for line in source:
                self._queue.put_nowait(line)
        except OSError:
            # The server's side broke: so does ours.
            self._queue.put_nowait(CutStream())
        else:
            self._queue.put_nowait(None)

    async def _line(self, line: bytes) -> None:
        self._read += 1
        fault = self._fault
        if self.silent:
            return
        if isinstance(fault, HideLines) and fault.after < self._read <= fault.after + fault.count:
            return
        if isinstance(fault, SlowStream):
            await asyncio.sleep(fault.seconds)
        await self._sink.write(line * 2 if isinstance(fault, RepeatLines) else line)
        self._passed += 1
        if fault is not None and self._due():
            self._run_next(fault)

    def _due(self) -> bool:
        """Whether the fault that came with the request is to happen after the line that has just passed."""
        ends = (CutStream, EndStream, SilentStream, ErrorInStream)
        return isinstance(self._fault, ends) and self._fault.after == self._passed

    def _run_next(self, fault: Fault) -> None:
        """Ahead of the lines that wait already."""
        waiting: list[bytes | Fault | None] = []
        while not self._queue.empty():
            waiting.append(self._queue.get_nowait())
        for entry in [fault, *waiting]:
            self._queue.put_nowait(entry)


async def lines_of(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Cut a byte stream behind each newline; what is left at the end is a line too."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line + b"\n"
    if rest:
        yield rest
