"""Keeps a few cluster-scoped objects up to date by reading them by name.

A Role can give `get` on one namespace object, but neither list nor watch; without this a label that is put on a listed
namespace would be noticed at the next relist only.
"""

import asyncio
import random
from collections.abc import Callable, Sequence

import structlog

from retinue.kube import errors
from retinue.kube.cache import Cache
from retinue.kube.client import KubeClient, Object, Resource

POLL_SECONDS = 30.0

log = structlog.get_logger(__name__)


class NamedPoll:
    """Feeds named objects of one cluster-scoped kind into a cache until cancelled."""

    def __init__(
        self,
        client: KubeClient,
        cache: Cache,
        resource: Resource,
        names: Sequence[str],
        *,
        seconds: float = POLL_SECONDS,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._cache = cache
        self._resource = resource
        self._names = tuple(names)
        self._seconds = seconds
        self._jitter = jitter
        cache.expect(resource.kind, self._names)

    async def run(self) -> None:
        """Reads until cancelled; no error ends it."""
        while True:
            for name in self._names:
                try:
                    self._cache.replace_one(self._resource.kind, name, await self._read(name))
                except errors.ApiError as error:
                    log.warning("an object was not read", kind=self._resource.kind, name=name, cause=error.summary)
            await asyncio.sleep(self._seconds * (0.8 + 0.4 * self._jitter()))

    async def _read(self, name: str) -> Object | None:
        try:
            return await self._client.get(self._resource, name)
        except errors.NotFound:
            return None
