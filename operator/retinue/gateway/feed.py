"""Keeps the route table: from the cache that the list-watches fill, from the snapshot on disk while they cannot."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from retinue.domain.refusal import Refusal
from retinue.domain.route_snapshot import (
    SnapshotDamaged,
    project_deployment,
    project_endpoint_slice,
    project_model_server,
    project_revision,
    write_snapshot,
)
from retinue.domain.routing import RouteObjects, RouteTable, build_routes
from retinue.gateway.metrics import GatewayMetrics
from retinue.gateway.snapshot import SnapshotFile
from retinue.kube.cache import Cache, Change
from retinue.kube.resources import ASSISTANT_DEPLOYMENT, ASSISTANT_REVISION, ENDPOINT_SLICE, MODEL_SERVER
from retinue.resources.platform import PlatformConfig

SETTLE_SECONDS: Final = 0.02
"""Events that belong together come within this time; the table is built once for all of them."""
LOOK_SECONDS: Final = 0.1
"""How often it is looked whether the first lists are complete."""
SAVE_SECONDS: Final = 1.0
"""The snapshot is written at most once per this time."""

_PROJECTIONS: Final[Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    ASSISTANT_DEPLOYMENT.kind: project_deployment,
    ASSISTANT_REVISION.kind: project_revision,
    MODEL_SERVER.kind: project_model_server,
    ENDPOINT_SLICE.kind: project_endpoint_slice,
}
KINDS: Final = tuple(_PROJECTIONS)


class RouteFeed:
    """Owner of the current table. Readers take it once per request and see either the old or the new one."""

    def __init__(
        self,
        cache: Cache,
        platform: PlatformConfig,
        metrics: GatewayMetrics,
        snapshot: SnapshotFile | None,
        *,
        snapshot_after: float = 3.0,
    ) -> None:
        """`snapshot_after`: seconds that the API server gets at the start before the snapshot is used."""
        self._cache = cache
        self._platform = platform
        self._metrics = metrics
        self._snapshot = snapshot
        self._snapshot_after = snapshot_after
        self._log = structlog.get_logger(__name__)
        self._table: RouteTable | None = None
        self._live = False
        self._changed = asyncio.Event()
        self._unsaved = asyncio.Event()
        cache.subscribe(self._notice, KINDS)

    def table(self) -> RouteTable:
        """The current table. Raises Refusal (503) while the gateway has none yet."""
        if self._table is None:
            raise Refusal(503, "starting", "the gateway does not know its routes yet; try again", retry_after=1)
        return self._table

    def check(self) -> tuple[bool, str]:
        """For probes: whether there is a table, and where it comes from."""
        if self._table is None:
            return False, "no routes: the API server has not answered yet"
        source = "live" if self._live else "from the snapshot on disk"
        return True, f"{len(self._table.routes)} routes, {source}"

    async def run(self) -> None:
        """Build a table whenever something changed. Ends only by cancellation."""
        async with asyncio.TaskGroup() as tasks:
            if self._snapshot is not None:
                tasks.create_task(self._start_from(self._snapshot))
                tasks.create_task(self._save_to(self._snapshot))
            while True:
                # A list that is empty or brings nothing new makes no change, so being synced is looked at as well.
                waiting = self._changed.wait()
                if self._live:
                    await waiting
                else:
                    await _at_most(LOOK_SECONDS, waiting)
                    if not self._cache.synced(*KINDS):
                        continue
                await asyncio.sleep(SETTLE_SECONDS)
                self._changed.clear()
                self._rebuild()

    def _notice(self, change: Change) -> None:
        project = _PROJECTIONS[change.key.kind]
        if change.old is None or change.new is None or project(change.old) != project(change.new):
            self._changed.set()

    def _rebuild(self) -> None:
        try:
            self._swap(self._objects(), live=True)
        except Exception as error:  # noqa: BLE001 (one object that breaks the build must not take all routes away)
            self._live = True
            self._log.error("routes_not_built", kind=type(error).__name__)
            return
        self._unsaved.set()

    def _objects(self) -> RouteObjects:
        deployments, revisions, servers, slices = (self._cache.list(kind) for kind in KINDS)
        return RouteObjects(deployments, revisions, servers, slices)

    def _swap(self, objects: RouteObjects, *, live: bool) -> None:
        before = self._table or RouteTable()
        table = build_routes(objects, self._platform, before)
        self._table = table
        if live != self._live:
            self._log.info("routes", count=len(table.routes), live=live)
        self._live = live
        self._metrics.routes_changed(table, before, live=live, at=time.time())

    async def _start_from(self, snapshot: SnapshotFile) -> None:
        await asyncio.sleep(self._snapshot_after)
        if self._live:
            return
        try:
            objects = await asyncio.to_thread(snapshot.load)
        except (SnapshotDamaged, OSError) as error:
            self._log.warning("snapshot_not_used", path=str(snapshot.path), error=type(error).__name__)
            return
        if objects is not None and not self._live:
            self._swap(objects, live=False)

    async def _save_to(self, snapshot: SnapshotFile) -> None:
        while True:
            await self._unsaved.wait()
            await asyncio.sleep(SAVE_SECONDS)
            self._unsaved.clear()
            objects = self._objects()
            try:
                await asyncio.to_thread(_save, snapshot, objects)
            except Exception as error:  # noqa: BLE001 (an object that cannot be written must not end the routes of all)
                cause = getattr(error, "strerror", None) or type(error).__name__
                self._log.warning("snapshot_not_written", path=str(snapshot.path), error=cause)


def _save(snapshot: SnapshotFile, objects: RouteObjects) -> None:
    names = RouteObjects.__dataclass_fields__
    projected = {n: [_PROJECTIONS[k](o) for o in getattr(objects, n)] for n, k in zip(names, KINDS, strict=True)}
    snapshot.save(write_snapshot(RouteObjects(**projected)))


async def _at_most(seconds: float, event: Any) -> None:
    try:
        await asyncio.wait_for(event, seconds)
    except TimeoutError:
        return
