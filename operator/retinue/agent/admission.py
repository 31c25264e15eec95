"""How many requests a pod takes: `slots` at once, `queue` waiting in order of arrival, no more.

Ollama itself bounds only requests that wait for a load; those for a loaded model wait without end. Here the bound is
strict, and a client that leaves gives its place back at once.
"""

import asyncio
import math
import time
from collections import deque
from types import TracebackType
from typing import Final, Self

MAX_RETRY_AFTER: Final = 30
"""Longest Retry-After that is answered, in seconds."""


class Full(Exception):
    """No place: answer 503 with `retry_after` seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"every slot is taken and the queue is full; try again in {retry_after} s")
        self.retry_after = retry_after


class Admission:
    """Slots and queue of one pod. Single-threaded: used from one event loop only."""

    def __init__(self, slots: int, queue: int) -> None:
        self.slots = slots
        self.queue = queue
        self._places = 0
        self._running = 0
        self._waiting: deque[tuple[asyncio.Future[None], Ticket]] = deque()
        self._mean_seconds = 1.0
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def in_flight(self) -> int:
        """Requests that hold a slot."""
        return self._running

    @property
    def queued(self) -> int:
        """Requests that hold a place but no slot yet."""
        return self._places - self._running

    def enter(self) -> "Ticket":
        """Take a place, use it as a context manager. Raises Full."""
        if self._places >= self.slots + self.queue:
            raise Full(self.retry_after())
        self._places += 1
        self._empty.clear()
        return Ticket(self)

    async def empty(self) -> None:
        """Wait until no request holds a place."""
        await self._empty.wait()

    def retry_after(self) -> int:
        """Whole seconds until a place is likely to be free: what the queue holds, at the recent mean duration."""
        expected = self._mean_seconds * (self.queued + 1) / self.slots
        return max(1, min(MAX_RETRY_AFTER, math.ceil(expected)))

    async def _turn(self, ticket: "Ticket") -> None:
        if self._running < self.slots and not self._waiting:
            self._grant(ticket)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, ticket))
        await future

    def _grant(self, ticket: "Ticket") -> None:
        self._running += 1
        ticket.granted_at = time.monotonic()

    def _leave(self, ticket: "Ticket") -> None:
        self._places -= 1
        if not self._places:
            self._empty.set()
        if ticket.granted_at is not None:
            self._running -= 1
            self._mean_seconds += 0.2 * (time.monotonic() - ticket.granted_at - self._mean_seconds)
        while self._waiting and self._running < self.slots:
            future, waiter = self._waiting.popleft()
            # A cancelled waiter has left already. The slot is granted here and not by the waiter, so that one who is
            # cancelled between this line and its next step still hands the slot on.
            if not future.done():
                self._grant(waiter)
                future.set_result(None)


class Ticket:
    """A place in a pod; leaving the context gives it back."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.granted_at: float | None = None

    async def turn(self) -> None:
        """Wait for a slot."""
        await self._admission._turn(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._admission._leave(self)


class ByteBudget:
    """Bytes of all request bodies in memory together."""

    def __init__(self, total: int) -> None:
        self._free = total

    def take(self, count: int) -> bool:
        """Reserve bytes; False if there are not so many left."""
        if count > self._free:
            return False
        self._free -= count
        return True

    def give(self, count: int) -> None:
        """Return reserved bytes."""
        self._free += count
