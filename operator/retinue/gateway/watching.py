"""The list-watches of a gateway: exactly the four kinds that routes are made of, read only."""

import asyncio
from typing import Final

import structlog

from retinue.gateway.health import Health
from retinue.kube.aio import NoCluster, connect
from retinue.kube.cache import Cache
from retinue.kube.client import KubeClient
from retinue.kube.listwatch import ListWatch
from retinue.kube.resources import ASSISTANT_DEPLOYMENT, ASSISTANT_REVISION, ENDPOINT_SLICE, MODEL_SERVER
from retinue.resources.platform import PlatformConfig

SILENT_SECONDS: Final = 90.0
"""A watch that was not heard for so long (bookmarks come every minute) is shown as lost."""
RETRY_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)


async def watch_objects(cache: Cache, platform: PlatformConfig, kubeconfig: str | None, health: Health) -> None:
    """Fill the cache until cancelled; an API server that is away is waited for."""
    client = await _connected(kubeconfig)
    try:
        watches = _watches(client, cache, platform)
        health.add("kubernetes", lambda: _heard(watches), needed=False)
        async with asyncio.TaskGroup() as tasks:
            for watch in watches:
                tasks.create_task(watch.run())
    finally:
        await client.close()


def _watches(client: KubeClient, cache: Cache, platform: PlatformConfig) -> list[ListWatch]:
    models = platform.models_namespace
    watches = [ListWatch(client, cache, kind, models) for kind in (MODEL_SERVER, ENDPOINT_SLICE)]
    tenants: list[str | None] = [*platform.namespaces] or [None]
    for namespace in tenants:
        watches += [ListWatch(client, cache, kind, namespace) for kind in (ASSISTANT_DEPLOYMENT, ASSISTANT_REVISION)]
    return watches


async def _connected(kubeconfig: str | None) -> KubeClient:
    while True:
        try:
            return await connect(kubeconfig, None)
        except NoCluster as error:
            log.warning("kubernetes_not_configured", error=str(error))
            await asyncio.sleep(RETRY_SECONDS)


def _heard(watches: list[ListWatch]) -> tuple[bool, str]:
    ages = [watch.age for watch in watches]
    known = [age for age in ages if age is not None]
    if len(known) < len(ages):
        return False, f"{len(ages) - len(known)} of {len(ages)} lists have not been read yet"
    oldest = max(known)
    return oldest < SILENT_SECONDS, f"last heard {oldest:.0f} s ago"
