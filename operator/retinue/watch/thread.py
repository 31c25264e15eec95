"""Runs kopf in a thread and loop of its own, and starts it again whenever it ends.

In our loop kopf would cancel tasks that started after it, and one error answer too many ends it: neither may reach the
rest of the operator. It keeps on watching while this process is on standby, so that the cache is warm.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import kopf
import structlog

from retinue.kube import errors
from retinue.kube.aio import AioKubeClient, Credentials
from retinue.kube.cache import Cache
from retinue.kube.client import Object, Resource
from retinue.watch.handlers import make_registry, post_to

BACKOFF_SECONDS = 1.0
BACKOFF_MAX_SECONDS = 60.0
STEADY_SECONDS = 300.0
"""A run that lasted so long begins a new series of back-offs."""
SERVED_SECONDS = 2.0
LOGIN_SECONDS = 20.0
CLOSE_SECONDS = 0.25
JOIN_SECONDS = 10.0

log = structlog.get_logger(__name__)


class WatchThread:
    """Supervisor of kopf. `run` it as a task of the main loop."""

    def __init__(
        self,
        client: AioKubeClient,
        cache: Cache,
        resources: Sequence[Resource],
        *,
        namespaces: Sequence[str] = (),
        backoff_seconds: float = BACKOFF_SECONDS,
        on_restart: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`namespaces` empty: the whole cluster. Cluster-scoped resources can only be watched then."""
        if namespaces and any(not resource.namespaced for resource in resources):
            raise ValueError("cluster-scoped kinds cannot be watched from listed namespaces")
        self._client = client
        self._cache = cache
        self._resources = tuple(resources)
        self._namespaces = tuple(namespaces)
        self._backoff = backoff_seconds
        self._on_restart = on_restart
        self._clock = clock
        self._heard: float | None = None
        self.restarts = 0
        """How often kopf had to be started again."""

    @property
    def age(self) -> float | None:
        """Seconds since kopf last brought anything; None before. A quiet cluster makes this large: no health signal."""
        return None if self._heard is None else self._clock() - self._heard

    async def run(self) -> None:
        """Keeps kopf running until cancelled; returns after its thread has ended."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            await self._until_served()
            ended = asyncio.Event()
            stop = threading.Event()
            thread = threading.Thread(target=self._thread_main, args=(loop, stop, ended), name="kopf", daemon=True)
            began = self._clock()
            thread.start()
            try:
                await ended.wait()
            finally:
                stop.set()
                await asyncio.shield(asyncio.to_thread(thread.join, JOIN_SECONDS))
            self.restarts += 1
            if self._on_restart is not None:
                self._on_restart()
            failures = 0 if self._clock() - began > STEADY_SECONDS else failures + 1
            delay = min(BACKOFF_MAX_SECONDS, self._backoff * 2.0 ** max(0, failures - 1))
            log.error("watching ended and is started again", retry_seconds=delay, restarts=self.restarts)
            await asyncio.sleep(delay)

    async def _until_served(self) -> None:
        """Waits until the API server serves every kind: kopf looks only once and would then watch nothing for ever."""
        told = ""
        while (problem := await self._unserved()) is not None:
            if problem != told:
                log.warning("watching cannot begin yet", cause=problem)
                told = problem
            await asyncio.sleep(SERVED_SECONDS)

    async def _unserved(self) -> str | None:
        for version in {resource.api_version for resource in self._resources}:
            try:
                served = await self._client.request("GET", f"/apis/{version}" if "/" in version else f"/api/{version}")
            except errors.ApiError as error:
                return error.summary
            names = {one["name"] for one in served.get("resources", [])}
            for resource in self._resources:
                if resource.api_version == version and resource.plural not in names:
                    return f"{resource.plural} of {version} are not served"
        return None

    def _thread_main(self, main: asyncio.AbstractEventLoop, stop: threading.Event, ended: asyncio.Event) -> None:
        try:
            asyncio.run(self._watch(main, stop))
        except Exception:
            # Whatever kopf could not live with ends the thread, never the process; the supervisor starts it again.
            log.error("kopf ended", exc_info=True)
        finally:
            if not main.is_closed():
                main.call_soon_threadsafe(ended.set)

    async def _watch(self, main: asyncio.AbstractEventLoop, stop: threading.Event) -> None:
        post = post_to(main, self._cache)

        def receive(event_type: str | None, obj: Object) -> None:
            self._heard = self._clock()
            post(event_type, obj)

        async def login() -> Credentials:
            # The client belongs to the main loop.
            asked = asyncio.run_coroutine_threadsafe(self._client.renew_credentials(), main)
            async with asyncio.timeout(LOGIN_SECONDS):
                return await asyncio.wrap_future(asked)

        where: dict[str, Any] = {"namespaces": list(self._namespaces)} if self._namespaces else {"clusterwide": True}
        try:
            await kopf.operator(
                registry=make_registry(self._resources, receive, login),
                settings=kopf.OperatorSettings(),
                stop_flag=stop,
                **where,
            )
        finally:
            # kopf waits for the flag in a thread of this loop's executor, which would keep the loop from closing.
            stop.set()
            # TLS connections need a moment of the loop to close; without it they are torn down half open.
            await asyncio.sleep(CLOSE_SECONDS)
