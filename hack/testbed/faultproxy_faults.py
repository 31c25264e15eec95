"""The faults that a proxy can inject, what a request must look like to meet one, and the log of requests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(slots=True)
class Seen:
    """One request that reached the proxy. For Kubernetes: verb, plural and object; for plain HTTP: method and path."""

    number: int
    verb: str
    resource: str
    """`assistants`, `assistants/status`, or the path of a plain HTTP request."""
    namespace: str = ""
    name: str = ""
    dry_run: bool = False
    sent: bool = False
    """Whether it was passed on to the server."""
    status: int | None = None
    """What the client was answered; None when it got no answer."""
    fault: str = ""
    """The fault that it met, by name."""

    @property
    def is_write(self) -> bool:
        """Whether it would change something on an API server."""
        return self.verb in WRITES and not self.dry_run


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait, then go on as usual."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """Reset the connection without passing the request on."""


@dataclass(frozen=True, slots=True)
class LostReply:
    """Pass the request on, let the server do it, then reset the connection instead of answering."""


@dataclass(frozen=True, slots=True)
class Twice:
    """Pass the request on twice, as a retrying middle box does; answer with the second reply."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with an error of the server's own shape without passing the request on."""

    status: int
    retry_after: int | None = None
    """Seconds, for the Retry-After header."""
    message: str = "injected"


@dataclass(frozen=True, slots=True)
class Kill:
    """Call `strike` (which kills the client), then reset the connection.

    `before`: the server never sees the request. `after`: the server has applied it, the answer is never sent.
    """

    strike: Callable[[], object]
    when: Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class CutStream:
    """Pass on this many lines of a watch or stream, then reset the connection."""

    after: int = 0


@dataclass(frozen=True, slots=True)
class EndStream:
    """Pass on this many lines of a watch or stream, then end it as if it were whole."""

    after: int = 0


@dataclass(frozen=True, slots=True)
class SilentStream:
    """Pass on this many lines, then keep the connection open and swallow everything, even the end."""

    after: int = 0


@dataclass(frozen=True, slots=True)
class SlowStream:
    """Wait before each line."""

    seconds: float


@dataclass(frozen=True, slots=True)
class HideLines:
    """Swallow `count` lines after the first `after`, then go on: events that a watcher never hears of."""

    count: int = 1
    after: int = 0


@dataclass(frozen=True, slots=True)
class RepeatLines:
    """Send each line twice: events that a watcher hears of again."""


@dataclass(frozen=True, slots=True)
class ErrorInStream:
    """Pass on this many lines, then send `line` and end: for a watch the 410 that asks for a new list."""

    line: bytes
    after: int = 0


Fault = (
    Delay
    | Cut
    | LostReply
    | Twice
    | Refuse
    | Kill
    | CutStream
    | EndStream
    | SilentStream
    | SlowStream
    | HideLines
    | RepeatLines
    | ErrorInStream
)


@dataclass
class Injection:
    """One fault in force: which requests it meets and how often it has."""

    fault: Fault
    verb: str | None = None
    resource: str | None = None
    namespace: str | None = None
    name: str | None = None
    nth: int = 1
    times: int | None = 1
    matched: int = 0
    hits: int = 0
    _hit: threading.Event = field(default_factory=threading.Event)

    def takes(self, seen: Seen) -> bool:
        """Count a request if it matches, and say whether it meets the fault."""
        if not self.matches(seen):
            return False
        self.matched += 1
        if self.matched < self.nth or (self.times is not None and self.matched >= self.nth + self.times):
            return False
        self.hits += 1
        self._hit.set()
        return True

    def matches(self, seen: Seen) -> bool:
        """Whether a request is of the kind asked for. verb `write`: any that changes something."""
        if self.verb == "write":
            if not seen.is_write:
                return False
        elif self.verb is not None and self.verb != seen.verb:
            return False
        if self.resource is not None and not _same_resource(self.resource, seen.resource):
            return False
        return self.namespace in (None, seen.namespace) and self.name in (None, seen.name)

    def wait(self, seconds: float = 30) -> bool:
        """Block until the fault has met a request; False when `seconds` passed first."""
        return self._hit.wait(seconds)

    async def happened(self, seconds: float = 30) -> bool:
        """`wait` for asynchronous callers."""
        return await asyncio.to_thread(self._hit.wait, seconds)


def _same_resource(wanted: str, found: str) -> bool:
    """`assistants` is the object only, `assistants/status` the subresource only, `assistants/*` both."""
    if wanted.endswith("/*"):
        return found == wanted[:-2] or found.startswith(wanted[:-1])
    return wanted == found
