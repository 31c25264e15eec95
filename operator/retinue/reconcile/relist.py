"""Repairs the cache: a full, paged list of everything that is watched, at start and every ten minutes.

Watches lose things (kopf never reports objects that vanished during a 410), so no event is ever needed for
correctness: what they missed, the next relist finds, and every key is looked at again (architecture rule 1).
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog

from retinue.kube import errors
from retinue.kube.cache import Cache, Key
from retinue.kube.client import KubeClient, Object, Resource
from retinue.kube.listwatch import list_all
from retinue.reconcile.queue import Queue

JITTER = 0.2
RETRY_SECONDS = 5.0
FORBIDDEN = 403
"""Unlike 401, which says nothing about a namespace."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """What is listed of one kind. A cluster-scoped kind with names is read by name: a Role can give that."""

    resource: Resource
    namespaces: tuple[str | None, ...] = (None,)
    """Namespaces to list (None: all), or the names of the objects themselves if the kind is cluster-scoped."""
    label_selector: str | None = None
    spare_refused: bool = False
    """Whether one listed namespace may refuse us (it was deleted, and our Role with it) without stopping the others."""


class Relist:
    """Lists all sources into the cache and enqueues every key of the reconciled kinds."""

    def __init__(
        self,
        client: KubeClient,
        cache: Cache,
        queue: Queue,
        sources: Sequence[Source],
        *,
        reconciled: Iterable[str],
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`reconciled`: kinds whose keys are enqueued; `seconds`: time between two lists, ± 20 %."""
        self._client = client
        self._cache = cache
        self._queue = queue
        self._sources = tuple(sources)
        self._reconciled = tuple(reconciled)
        self._seconds = seconds
        self._clock = clock
        self._jitter = jitter
        self._finished: float | None = None
        for source in self._sources:
            cache.expect(source.resource.kind, source.namespaces)

    @property
    def age(self) -> float | None:
        """Seconds since the last complete relist; None before the first."""
        return None if self._finished is None else self._clock() - self._finished

    async def once(self) -> int:
        """One full relist; returns how many objects had been missed. Raises ApiError: the cache is as good as before.

        Sources are listed one after the other to spare the API server.
        """
        repaired = 0
        for source in self._sources:
            repaired += await self._list_source(source)
        for kind in self._reconciled:
            for key in self._cache.keys(kind):
                self._queue.add(key)
        self._finished = self._clock()
        return repaired

    async def run(self) -> None:
        """Relists until cancelled; after a failure soon again, so that a start during an outage needs no luck."""
        while True:
            try:
                repaired = await self.once()
                log.info("relisted", repaired=repaired)
                delay = self._seconds * (1 - JITTER + 2 * JITTER * self._jitter())
            except errors.ApiError as error:
                delay = max(error.retry_after or 0.0, RETRY_SECONDS * (0.5 + self._jitter()))
                log.warning("the relist failed", cause=error.summary, retry_seconds=delay)
            await asyncio.sleep(delay)

    async def _list_source(self, source: Source) -> int:
        """Every list of one source. What a namespace refuses stays as it was last seen, and does not count as listed.

        Raises ApiError, also if nothing was let through: then it is not one namespace that is gone.
        """
        repaired, refused = 0, 0
        for namespace in source.namespaces:
            try:
                repaired += len(await self._list(source, namespace))
            except errors.Forbidden as error:
                refused += 1
                if error.status != FORBIDDEN or not source.spare_refused or refused == len(source.namespaces):
                    raise
                log.warning(
                    "a listed namespace was left out: create it again with the operator's Role, or list it no more",
                    kind=source.resource.kind,
                    ns=namespace,
                    cause=error.summary,
                )
        return repaired

    async def _list(self, source: Source, namespace: str | None) -> set[Key]:
        resource = source.resource
        if resource.namespaced or namespace is None:
            objects, version = await list_all(self._client, resource, namespace, label_selector=source.label_selector)
            return self._cache.replace_all(resource.kind, namespace, objects, version)
        try:
            found: Object | None = await self._client.get(resource, namespace)
        except errors.NotFound:
            found = None
        return self._cache.replace_one(resource.kind, namespace, found)
