"""Workers of the queue: they call the reconciler of a key's kind and turn what went wrong into *when to look again*."""

import asyncio
import random
import time
from collections.abc import Mapping
from typing import Protocol

import structlog

from retinue.kube import errors
from retinue.reconcile.queue import Key, Queue, ShutDown

CONFLICT_BASE_SECONDS = 0.1
"""A conflict means only that the cache was behind; it catches up within milliseconds."""

log = structlog.get_logger(__name__)


class Reconciler(Protocol):
    """Brings one object where its spec wants it: gather from the cache, decide (pure), act."""

    async def reconcile(self, key: Key) -> float | None:
        """One idempotent pass; the object may be gone. Returns seconds until it must be looked at again, or None.

        May raise `retinue.kube.errors`; progress lives in the objects, never in this frame.
        """
        ...


class ReconcileMetrics(Protocol):
    """What the workers report; `retinue.observability.metrics` has an implementation for Prometheus."""

    def finished(self, kind: str, result: str, seconds: float) -> None:
        """One pass ended: `ok`, `conflict`, `unavailable`, `refused`, `timeout` or `error`."""
        ...


class Workers:
    """Runs reconcilers for the keys of one queue until cancelled."""

    def __init__(
        self,
        queue: Queue,
        reconcilers: Mapping[str, Reconciler],
        *,
        count: int = 4,
        pass_seconds: float = 120.0,
        metrics: ReconcileMetrics | None = None,
    ) -> None:
        """`pass_seconds` bounds one pass, so that one object can never hold a worker for ever."""
        self._queue = queue
        self._reconcilers = reconcilers
        self._count = count
        self._pass_seconds = pass_seconds
        self._metrics = metrics

    async def run(self) -> None:
        """Works until cancelled or the queue is shut down; returns only when every worker has really ended."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self._work(), name=f"reconcile-{number}")

    async def _work(self) -> None:
        while True:
            try:
                key = await self._queue.get()
            except ShutDown:
                return
            try:
                await self.reconcile_once(key)
            except asyncio.CancelledError:
                # The pass stopped half way (Lease lost, shutdown): whoever works next must see the key again.
                self._queue.add(key)
                raise
            finally:
                self._queue.done(key)

    async def reconcile_once(self, key: Key) -> None:
        """One pass over one key, including what its outcome means for the queue. Raises nothing but cancellation."""
        reconciler = self._reconcilers.get(key.kind)
        if reconciler is None:
            return
        began = time.monotonic()
        bound = log.bind(kind=key.kind, ns=key.namespace, name=key.name, reconcile_id=f"{random.getrandbits(32):08x}")
        result = "ok"
        limit = asyncio.timeout(self._pass_seconds)
        try:
            async with limit:
                again = await reconciler.reconcile(key)
            self._queue.forget(key)
            if again is not None:
                self._queue.add_after(key, again)
        except errors.Conflict as error:
            result = "conflict"
            delay = self._queue.retry(key, base_seconds=CONFLICT_BASE_SECONDS)
            bound.debug("the object changed meanwhile; looking again", cause=error.summary, retry_seconds=delay)
        except (errors.Unavailable, errors.TooManyRequests, errors.Gone) as error:
            result = "unavailable"
            delay = self._queue.retry(key, at_least=error.retry_after or 0.0)
            bound.warning("the API server is not available", cause=error.summary, retry_seconds=delay)
        except errors.ApiError as error:
            result = "refused"
            delay = self._queue.retry(key)
            bound.warning("the API server refused a call", cause=error.summary, retry_seconds=delay)
        except Exception as error:  # noqa: BLE001
            # A bug, or an answer that nobody foresaw: it must not end the worker.
            result = "timeout" if limit.expired() else "error"
            delay = self._queue.retry(key)
            words = "a pass took too long" if limit.expired() else "a pass failed unexpectedly"
            bound.error(words, exc_info=error, retry_seconds=delay)
        finally:
            if self._metrics:
                self._metrics.finished(key.kind, result, time.monotonic() - began)
