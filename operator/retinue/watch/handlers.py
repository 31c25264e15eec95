"""The only kopf handlers: what was seen goes into the cache, in the main loop; subscribers of the cache do the rest.

No create, update, resume or delete handler, timer, daemon or index: those write annotations and finalizers into
objects of users and lose deletions. An `on.event` handler writes nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import kopf

from retinue.kube.aio import Credentials
from retinue.kube.cache import Cache
from retinue.kube.client import Object, Resource
from retinue.watch.tuning import tune

Login = Callable[[], Awaitable[Credentials]]
"""Gives fresh credentials; awaited in kopf's loop."""


def make_registry(resources: Iterable[Resource], receive: Callable[[str | None, Object], None], login: Login) -> Any:
    """A registry of its own (kopf's default one is global) with one handler per kind.

    `receive` gets event type and object in kopf's thread; it must not block and must not raise.
    """
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry)
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        tune(settings)

    @kopf.on.login(registry=registry)
    async def log_in(**_: Any) -> kopf.ConnectionInfo:
        return connection(await login())

    for resource in resources:

        @kopf.on.event(
            resource.group,
            resource.api_version.rpartition("/")[2],
            resource.plural,
            registry=registry,
            id=f"see-{resource.plural}",
        )
        async def see(event: kopf.RawEvent, **_: Any) -> None:
            receive(event["type"], dict(event["object"]))

    return registry


def connection(credentials: Credentials) -> kopf.ConnectionInfo:
    """kopf's form of what our own client logs in with, so that there is one way to log in."""
    scheme, _, token = (credentials.authorization or "").partition(" ")
    return kopf.ConnectionInfo(
        server=credentials.server,
        ca_path=credentials.ca_path,
        ca_data=credentials.ca_data,
        certificate_path=credentials.certificate_path,
        private_key_path=credentials.private_key_path,
        scheme=scheme or None,
        token=token or None,
        insecure=credentials.insecure,
        proxy_url=credentials.proxy,
    )


def take_in(cache: Cache, event_type: str | None, obj: Object) -> None:
    """Runs in the main loop: one seen event into the cache."""
    metadata = obj["metadata"]
    if event_type == "DELETED":
        cache.remove(
            obj["kind"],
            metadata.get("namespace", ""),
            metadata["name"],
            uid=metadata.get("uid"),
            resource_version=metadata.get("resourceVersion"),
        )
    else:
        cache.put(obj)


def post_to(loop: asyncio.AbstractEventLoop, cache: Cache) -> Callable[[str | None, Object], None]:
    """A `receive` that hands over to another thread's loop; what comes after that loop has ended is dropped."""

    def receive(event_type: str | None, obj: Object) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(take_in, cache, event_type, obj)

    return receive
