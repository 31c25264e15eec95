"""What /healthz and /readyz of the operator say."""

import time
from collections.abc import Callable
from typing import Final

from retinue.observability.http import Answer
from retinue.reconcile.relist import Relist

STALE_PERIODS: Final = 2.5
"""Relist periods without a complete relist after which a leader is not well (the period itself is jittered)."""
ANSWERED_SECONDS: Final = 60.0
"""The API server counts as answering if it did so within this time."""


class Wellbeing:
    """Collects what the parts know of themselves. Never asks anybody: a probe must not depend on the API server."""

    def __init__(self, *, relist_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._relist_seconds = relist_seconds
        self._clock = clock
        self._leading_since: float | None = None
        self._answered: float | None = None
        self.relist: Relist | None = None
        """Set by the wiring."""
        self.started = False
        """Everything runs: this process leads or stands by."""

    def answered(self, status: int) -> None:
        """The API server answered a call (status 0: it did not)."""
        if status:
            self._answered = self._clock()

    def lead(self, leading: bool) -> None:
        """The Lease was won or lost."""
        self._leading_since = self._clock() if leading else None

    def healthy(self) -> Answer:
        """False only if a restart would help: the server answers and yet nothing has been listed for long."""
        if self._leading_since is None:
            return True, "standing by"
        age = self.relist.age if self.relist is not None else None
        leading = self._clock() - self._leading_since
        # A relist of an earlier leadership says nothing: on standby nothing is listed.
        stale = leading if age is None else min(age, leading)
        server = self._answered is not None and self._clock() - self._answered < ANSWERED_SECONDS
        if server and stale > STALE_PERIODS * self._relist_seconds:
            return False, f"no complete relist for {stale:.0f} s although the API server answers"
        return True, "leading"

    def ready(self) -> Answer:
        """Standing by is ready; leading is ready once everything has been listed."""
        if not self.started:
            return False, "starting"
        if self._leading_since is None:
            return True, "standing by"
        if self.relist is None or self.relist.age is None:
            return False, "listing"
        return True, "leading"
