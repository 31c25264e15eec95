"""Keeps the cache up to date without kopf: paged list, watch with bookmarks, and again from the start when it must."""

import asyncio
import random
import time
from collections.abc import Callable

import structlog

from retinue.kube import errors
from retinue.kube.cache import Cache
from retinue.kube.client import KubeClient, Object, Resource

PAGE = 500
INACTIVITY_SECONDS = 70.0
"""The server sends a bookmark about every minute; a watch silent for longer is dead (load balancers do that)."""
BACKOFF_SECONDS = 1.0
BACKOFF_MAX_SECONDS = 30.0

SHORT_WATCH_SECONDS = 1.0
"""A watch that ends sooner is not asked for again at once: something closes every connection."""

log = structlog.get_logger(__name__)


async def list_all(
    client: KubeClient, resource: Resource, namespace: str | None = None, *, label_selector: str | None = None
) -> tuple[list[Object], str]:
    """All objects and the resourceVersion of the list, page by page.

    A continue token that expires between two pages starts the list anew, once; raises Gone if that expires too.
    """
    for attempt in (1, 2):
        objects: list[Object] = []
        token: str | None = None
        try:
            while True:
                page = await client.list_page(
                    resource, namespace, label_selector=label_selector, limit=PAGE, continue_token=token
                )
                objects.extend(page.items)
                token = page.continue_token
                if not token:
                    return objects, page.resource_version
        except errors.Gone:
            if attempt == 2:
                raise
    raise AssertionError("unreachable")


class ListWatch:
    """Feeds one kind (of one namespace, or all) into a cache until cancelled. Subscribe to the cache for changes."""

    def __init__(
        self,
        client: KubeClient,
        cache: Cache,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        inactivity_seconds: float = INACTIVITY_SECONDS,
        backoff_seconds: float = BACKOFF_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._cache = cache
        self._resource = resource
        self._namespace = namespace
        self._label_selector = label_selector
        self._inactivity = inactivity_seconds
        self._backoff = backoff_seconds
        self._clock = clock
        self._jitter = jitter
        self._failures = 0
        self._heard: float | None = None
        cache.expect(resource.kind, (namespace,))

    @property
    def age(self) -> float | None:
        """Seconds since the server was last heard (list, event or bookmark); None before the first list."""
        return None if self._heard is None else self._clock() - self._heard

    async def run(self) -> None:
        """Lists and watches until cancelled; no error ends it."""
        version: str | None = None
        while True:
            try:
                if version is None:
                    version = await self._list()
                began = self._clock()
                version = await self._watch(version)
                if self._clock() - began > SHORT_WATCH_SECONDS:
                    continue
            except errors.Gone:
                # What happened since is lost: only a new list tells what vanished. A server that answers Gone to a
                # fresh version must not be asked in a tight loop, hence the back-off below.
                version = None
            except errors.ApiError as error:
                self._complain(error.summary)
                if error.retry_after:
                    await asyncio.sleep(error.retry_after)
            except TimeoutError:
                self._complain("nothing was heard for too long")
            await self._pause()

    async def _list(self) -> str:
        objects, version = await list_all(
            self._client, self._resource, self._namespace, label_selector=self._label_selector
        )
        self._cache.replace_all(self._resource.kind, self._namespace, objects, version)
        self._hear()
        return version

    async def _watch(self, version: str) -> str:
        """Follows one watch to its regular end; returns the version to go on from."""
        stream = self._client.watch(
            self._resource, self._namespace, label_selector=self._label_selector, resource_version=version
        )
        events = aiter(stream)
        while True:
            try:
                async with asyncio.timeout(self._inactivity):
                    kind, obj = await anext(events)
            except StopAsyncIteration:
                return version
            self._hear()
            metadata = obj["metadata"]
            version = metadata["resourceVersion"]
            if kind == "DELETED":
                self._cache.remove(
                    self._resource.kind,
                    metadata.get("namespace", ""),
                    metadata["name"],
                    uid=metadata.get("uid"),
                    resource_version=version,
                )
            elif kind != "BOOKMARK":
                self._cache.put(obj)

    def _hear(self) -> None:
        self._heard = self._clock()
        self._failures = 0

    def _complain(self, cause: str) -> None:
        log.warning("a watch was lost", kind=self._resource.kind, ns=self._namespace, cause=cause)

    async def _pause(self) -> None:
        delay = min(BACKOFF_MAX_SECONDS, self._backoff * 2.0 ** min(self._failures, 16))
        self._failures += 1
        await asyncio.sleep(delay / 2 + delay / 2 * self._jitter())
