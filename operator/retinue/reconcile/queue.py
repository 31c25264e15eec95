"""Keyed work queue: an event only says *look at this object again*, and every key is looked at by one worker at a time.

Keys that wait are held once (dedup); a key added while it is being worked on runs once more afterwards (single
flight); failures come back with growing, jittered delays; a heap and one timer hold everything that is due later.
It lives in one event loop; other threads use `loop.call_soon_threadsafe(queue.add, key)`.
"""

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from typing import Protocol

from retinue.kube.cache import Key

__all__ = ["Key", "Queue", "QueueMetrics", "ShutDown"]


class ShutDown(Exception):
    """Raised by `get` once the queue has been shut down: no more work will come."""


class QueueMetrics(Protocol):
    """What the queue reports; `retinue.observability.metrics` has an implementation for Prometheus."""

    def depth(self, waiting: int, delayed: int) -> None:
        """Keys ready to be worked on, and keys that are due later."""
        ...

    def added(self, kind: str) -> None:
        """A key was accepted (not counted when it already waited)."""
        ...

    def started(self, kind: str, waited_seconds: float) -> None:
        """A worker took a key that had been ready for so long."""
        ...

    def retried(self, kind: str) -> None:
        """A key comes back after a failure."""
        ...


class Queue:
    """See the module. `clock` is monotonic seconds, `jitter` gives 0..1; both are arguments for tests."""

    def __init__(
        self,
        *,
        base_seconds: float = 1.0,
        max_seconds: float = 300.0,
        clock: Callable[[], float] | None = None,
        jitter: Callable[[], float] = random.random,
        metrics: QueueMetrics | None = None,
    ) -> None:
        self._base = base_seconds
        self._max = max_seconds
        self._clock = clock
        self._jitter = jitter
        self._metrics = metrics
        self._ready: deque[Key] = deque()
        self._since: dict[Key, float] = {}
        """Dirty keys (ready, or to run again after the current pass) and when they became so."""
        self._active: set[Key] = set()
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        """May hold stale entries: only the one that equals `_due[key]` counts."""
        self._order = itertools.count()
        self._failures: dict[Key, int] = {}
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        """Keys that are ready for a worker."""
        return len(self._ready)

    @property
    def delayed(self) -> int:
        """Keys that will become ready later."""
        return len(self._due)

    @property
    def idle(self) -> bool:
        """True when nothing is ready and nothing is being worked on (delayed keys do not count)."""
        return not self._ready and not self._active

    def add(self, key: Key) -> None:
        """Makes a key ready now. Does nothing if it already waits or the queue is shut down."""
        if self._closed or key in self._since:
            return
        self._since[key] = self._now()
        if self._metrics:
            self._metrics.added(key.kind)
        if key not in self._active:
            self._ready.append(key)
            self._wake.set()
        self._report()

    def add_after(self, key: Key, seconds: float) -> None:
        """Makes a key ready in `seconds`; of several delays of one key the earliest wins."""
        if seconds <= 0:
            self.add(key)
            return
        if self._closed:
            return
        at = self._now() + seconds
        if at >= self._due.get(key, float("inf")):
            return
        self._due[key] = at
        heapq.heappush(self._heap, (at, next(self._order), key))
        self._arm()
        self._report()

    def retry(self, key: Key, *, at_least: float = 0.0, base_seconds: float | None = None) -> float:
        """Makes a key ready again after a failure: `base_seconds` doubling to the maximum, half of it jitter.

        `at_least` is what a server demanded (Retry-After); some jitter goes on top, so that not all keys return at
        once. Returns the delay in seconds.
        """
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        backoff = min(self._max, (self._base if base_seconds is None else base_seconds) * 2.0 ** min(failures, 32))
        chance = self._jitter()
        demanded = min(at_least, self._max)
        delay = max(backoff / 2 * (1 + chance), demanded + min(demanded, self._base) * chance)
        if self._metrics:
            self._metrics.retried(key.kind)
        self.add_after(key, delay)
        return delay

    def forget(self, key: Key) -> None:
        """Ends the back-off of a key: its last pass went well."""
        self._failures.pop(key, None)

    def failures(self, key: Key) -> int:
        """How often the key has failed in a row."""
        return self._failures.get(key, 0)

    async def get(self) -> Key:
        """Waits for a key; the caller must call `done` with it. Raises ShutDown."""
        while not self._ready:
            if self._closed:
                raise ShutDown
            self._wake.clear()
            await self._wake.wait()
        key = self._ready.popleft()
        waited = self._now() - self._since.pop(key)
        self._active.add(key)
        if self._metrics:
            self._metrics.started(key.kind, max(0.0, waited))
        self._report()
        return key

    def done(self, key: Key) -> None:
        """Ends the pass over a key; if it was added meanwhile it becomes ready again."""
        self._active.discard(key)
        if key in self._since and not self._closed:
            self._ready.append(key)
            self._wake.set()
        self._report()

    def shut_down(self) -> None:
        """Drops everything that waits and lets every `get` end. Idempotent."""
        self._closed = True
        self._ready.clear()
        self._since.clear()
        self._due.clear()
        self._heap.clear()
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._wake.set()
        self._report()

    def promote_due(self) -> None:
        """Makes ready what is due by now. The timer calls it; tests with a clock of their own call it themselves."""
        now = self._now()
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == at:
                del self._due[key]
                self.add(key)
        self._arm()
        self._report()

    def _arm(self) -> None:
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._heap and self._clock is None:
            self._timer = asyncio.get_running_loop().call_at(self._heap[0][0], self.promote_due)

    def _now(self) -> float:
        return self._clock() if self._clock else asyncio.get_running_loop().time()

    def _report(self) -> None:
        if self._metrics:
            self._metrics.depth(len(self._ready), len(self._due))
