"""Lease elector: of all operator processes only one may write.

A process that loses the Lease stops its work, stays alive and must win again. Safety rests on durations alone, never
on comparing clocks of two machines: a candidate waits a whole lease duration after it last *saw the record change*,
and a leader stops a margin before that, counted from the start of its last successful write.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from retinue.kube import errors
from retinue.kube.client import KubeClient, Object
from retinue.kube.resources import LEASE

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. The margin between `renew` and `lease` is what a leader has for stopping its work."""

    lease: float = 15.0
    """A candidate takes the Lease over when its record has not changed for so long."""
    renew: float = 10.0
    """A leader that could not renew for so long stops."""
    retry: float = 2.0
    """Between two tries, of renewing or of winning."""
    write: float = 4.0
    """One call to the API server."""

    def __post_init__(self) -> None:
        if not self.lease > self.renew > self.retry + self.write:
            raise ValueError(f"lease > renew > retry + write must hold, got {self}")


class Observed:
    """What a candidate knows of the record, and since when by its own monotonic clock."""

    def __init__(self) -> None:
        self._spec: dict[str, Any] | None = None
        self._since = 0.0

    def see(self, lease: Object, now: float) -> None:
        """Takes in a read; only a changed record starts the waiting anew."""
        spec = lease.get("spec") or {}
        if spec != self._spec:
            self._spec = dict(spec)
            self._since = now

    @property
    def holder(self) -> str:
        """Identity in the record, empty if it was released."""
        return str((self._spec or {}).get("holderIdentity") or "")

    def may_take(self, identity: str, now: float, least_seconds: float) -> bool:
        """True if nobody holds it, we do, or its holder was silent for the longer of its and our lease duration."""
        if self._spec is None:
            return False
        if self.holder in ("", identity):
            return True
        promised = float(self._spec.get("leaseDurationSeconds") or 0)
        return now - self._since > max(promised, least_seconds)


class Elector:
    """Runs a piece of work while, and only while, this process holds the Lease."""

    def __init__(
        self,
        client: KubeClient,
        *,
        namespace: str,
        name: str,
        identity: str,
        timing: Timing | None = None,
        on_change: Callable[[bool], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`identity` must differ for every process that ever ran; `on_change` is told True after winning, False after.

        `clock` is monotonic seconds; `now` only fills the times that people read in the record.
        """
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._timing = timing or Timing()
        self._on_change = on_change
        self._clock = clock
        self._jitter = jitter
        self._now = now
        self._observed = Observed()
        self._held: Object | None = None
        """The Lease as we last wrote or read it while it was ours; its resourceVersion is the next precondition."""
        self._renewed = 0.0

    @property
    def leading(self) -> bool:
        """True while writes are safe; false by the clock alone, even if this process was frozen meanwhile."""
        return self._held is not None and self._clock() - self._renewed < self._timing.renew

    @property
    def holder(self) -> str:
        """Identity that held the Lease when it was last read; empty: nobody, or not read yet."""
        return self._observed.holder

    async def run(
        self,
        lead: Callable[[], Coroutine[Any, Any, None]],
        on_lost: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Waits for the Lease, runs `lead` while it is held, and so on until cancelled.

        On loss `lead` is cancelled and awaited before anything else happens, then `on_lost` is awaited. If `lead` ends
        by itself, the Lease is released and its error, if any, is raised. Cancellation releases the Lease.
        """
        while True:
            await self._win()
            work = asyncio.create_task(lead(), name="leader")
            lost = False
            try:
                lost = await self._hold(work)
            finally:
                cancelled = await _stop(work)
                released, self._held = self._held, None
                self._tell(False)
                if released is not None:
                    await self._release(released)
                if cancelled:
                    raise asyncio.CancelledError
            if not lost:
                work.result()
                return
            if on_lost is not None:
                await on_lost()

    async def _win(self) -> None:
        while True:
            try:
                if await self._try_to_win():
                    log.info("won the Lease", lease=self._name, identity=self._identity)
                    self._tell(True)
                    return
            except errors.Conflict:
                pass
            except (errors.ApiError, TimeoutError) as error:
                cause = error.summary if isinstance(error, errors.ApiError) else "no answer in time"
                log.warning("the Lease cannot be read or written", lease=self._name, cause=cause)
            await asyncio.sleep(self._timing.retry * (1 + 0.2 * self._jitter()))

    async def _try_to_win(self) -> bool:
        began = self._clock()
        async with asyncio.timeout(self._timing.write):
            try:
                lease = await self._client.get(LEASE, self._name, self._namespace)
            except errors.NotFound:
                body = self._body({"metadata": {"name": self._name, "namespace": self._namespace}}, fresh=True)
                self._held = await self._client.create(LEASE, body, self._namespace)
                self._renewed = began
                return True
        self._observed.see(lease, self._clock())
        began = self._clock()
        if not self._observed.may_take(self._identity, began, self._timing.lease):
            return False
        async with asyncio.timeout(self._timing.write):
            self._held = await self._client.replace(LEASE, self._body(lease, fresh=True))
        self._renewed = began
        return True

    async def _hold(self, work: asyncio.Task[None]) -> bool:
        """Renews until the Lease is lost (True) or the work ended by itself (False)."""
        while True:
            pause = self._timing.retry * (1 + 0.2 * self._jitter())
            remaining = self._renewed + self._timing.renew - self._clock()
            if remaining <= 0:
                log.error("lost the Lease: it could not be renewed in time", lease=self._name)
                self._held = None
                return True
            await asyncio.wait({work}, timeout=min(pause, remaining))
            if work.done():
                return False
            remaining = self._renewed + self._timing.renew - self._clock()
            try:
                async with asyncio.timeout(max(0.0, min(self._timing.write, remaining))):
                    await self._renew()
            except _TakenOver as taken:
                log.error("lost the Lease: somebody else holds it", lease=self._name, holder=taken.holder)
                self._held = None
                return True
            except (errors.ApiError, TimeoutError) as error:
                cause = error.summary if isinstance(error, errors.ApiError) else "no answer in time"
                log.warning("the Lease was not renewed", lease=self._name, cause=cause)

    async def _renew(self) -> None:
        assert self._held is not None
        began = self._clock()
        try:
            self._held = await self._client.replace(LEASE, self._body(self._held))
        except errors.Conflict:
            # Either somebody took it, or an earlier write of ours went through although we never heard of it.
            lease = await self._client.get(LEASE, self._name, self._namespace)
            self._observed.see(lease, self._clock())
            if self._observed.holder != self._identity:
                raise _TakenOver(self._observed.holder) from None
            began = self._clock()
            self._held = await self._client.replace(LEASE, self._body(lease))
        except errors.NotFound:
            # Deleted by somebody: whoever creates it first holds it.
            raise _TakenOver("") from None
        self._renewed = began

    async def _release(self, held: Object) -> None:
        """Lets the next one take over at once; losing this write only costs them the lease duration."""
        spec = {**held["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": self._moment()}
        with contextlib.suppress(errors.ApiError, TimeoutError):
            async with asyncio.timeout(self._timing.write):
                await self._client.replace(LEASE, {**held, "spec": spec})
            log.info("released the Lease", lease=self._name)

    def _body(self, lease: Object, *, fresh: bool = False) -> Object:
        spec = dict(lease.get("spec") or {})
        moment = self._moment()
        if fresh and spec.get("holderIdentity") != self._identity:
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + (1 if spec else 0)
            spec["acquireTime"] = moment
        spec.update(holderIdentity=self._identity, leaseDurationSeconds=int(self._timing.lease), renewTime=moment)
        metadata = {k: v for k, v in lease["metadata"].items() if k != "managedFields"}
        return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec}

    def _moment(self) -> str:
        return self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _tell(self, leading: bool) -> None:
        if self._on_change is not None:
            self._on_change(leading)


class _TakenOver(Exception):
    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


async def _stop(work: asyncio.Task[None]) -> bool:
    """Cancels the work and waits for its real end; True if somebody cancelled us meanwhile (raise it afterwards)."""
    cancelled = False
    while not work.done():
        work.cancel()
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError:
            cancelled = True
    return cancelled
