"""Keeps a writer from asking a dead Postgres again and again."""

import random
from collections.abc import Callable
from enum import StrEnum


class Circuit(StrEnum):
    """Closed: calls go through. Open: none does. Probing: one write to the probe table decides."""

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class Breaker:
    """Opens after `threshold` failures in a row; then one probe after 1 s, doubled per failed probe up to `longest`.

    The pause is jittered by half, so that many writers do not come back at the same instant.
    """

    def __init__(
        self,
        *,
        threshold: int = 3,
        first: float = 1,
        longest: float = 30,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._threshold = threshold
        self._first = first
        self._longest = longest
        self._jitter = jitter
        self._failures = 0
        self._probe_at = 0.0

    def state(self, now: float) -> Circuit:
        """What may be done at `now` (monotonic seconds)."""
        if self._failures < self._threshold:
            return Circuit.CLOSED
        return Circuit.PROBING if now >= self._probe_at else Circuit.OPEN

    def succeeded(self) -> None:
        """A call or a probe went well."""
        self._failures = 0

    def failed(self, now: float) -> None:
        """A call or a probe failed."""
        self._failures += 1
        beyond = self._failures - self._threshold
        if beyond >= 0:
            pause = min(self._longest, self._first * 2.0 ** min(beyond, 30))
            self._probe_at = now + pause * (0.5 + self._jitter() / 2)
