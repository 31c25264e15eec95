"""List-watch and relist against the real API server, with answers spoilt in front of the client."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from real_client import Watched, client_of, config_map, until
from retinue.kube import errors
from retinue.kube.cache import Cache, Key
from retinue.kube.listwatch import ListWatch
from retinue.kube.namedpoll import NamedPoll
from retinue.kube.resources import CONFIG_MAP, NAMESPACE
from retinue.reconcile.queue import Queue
from retinue.reconcile.relist import Relist, Source
from testbed.cluster import Cluster

pytestmark = pytest.mark.api


@pytest_asyncio.fixture
async def client(control_plane: Cluster) -> AsyncIterator[Watched]:
    async with client_of(control_plane) as real:
        yield Watched(real)


@contextlib.asynccontextmanager
async def watching(client: Watched, namespace: str, **options: float) -> AsyncIterator[tuple[Cache, ListWatch]]:
    cache = Cache()
    watch = ListWatch(client, cache, CONFIG_MAP, namespace, backoff_seconds=0.05, **options)
    task = asyncio.create_task(watch.run())
    try:
        yield cache, watch
    finally:
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled(), "nothing but us may end it"


def held(cache: Cache) -> dict[str, dict[str, str]]:
    objects = cache.list("ConfigMap")
    return {o["metadata"]["name"]: o.get("data", {}) for o in objects if o["metadata"]["name"] != "kube-root-ca.crt"}


async def test_the_cache_follows_what_happens(client: Watched, namespace: str) -> None:
    await client.apply(CONFIG_MAP, config_map(namespace, "before"))
    async with watching(client, namespace) as (cache, watch):
        await until(lambda: cache.synced("ConfigMap"))
        assert set(held(cache)) == {"before"}
        assert watch.age is not None
        await client.apply(CONFIG_MAP, config_map(namespace, "after", a="1"))
        await until(lambda: held(cache).get("after") == {"a": "1"})
        await client.apply(CONFIG_MAP, config_map(namespace, "after", a="2"))
        await until(lambda: held(cache).get("after") == {"a": "2"})
        await client.delete(CONFIG_MAP, "before", namespace)
        await until(lambda: set(held(cache)) == {"after"})


async def test_after_gone_a_new_list_finds_what_vanished_meanwhile(client: Watched, namespace: str) -> None:
    for name in ("stays", "vanishes"):
        await client.apply(CONFIG_MAP, config_map(namespace, name))
    broken = asyncio.Event()

    def gone(verb: str, kind: str) -> None:
        if verb == "watch":
            broken.set()
            raise errors.Gone(410, "Expired", "too old resource version")

    client.spoil = gone
    async with watching(client, namespace) as (cache, _):
        await broken.wait()
        client.spoil = lambda verb, kind: None
        await client.delete(CONFIG_MAP, "vanishes", namespace)
        await until(lambda: set(held(cache)) == {"stays"})
        assert client.calls.count(("list_page", "ConfigMap")) >= 2


@pytest.mark.parametrize("verb", ["list_page", "watch"])
@pytest.mark.parametrize(
    "error",
    [
        errors.Unavailable(0, "ClientConnectorError", "refused"),
        errors.Unavailable(500, "InternalError", "x"),
        errors.TooManyRequests(429, "TooManyRequests", "x", retry_after=0.1),
        errors.Forbidden(401, "Unauthorized", "x"),
        errors.NotFound(404, "NotFound", "the kind is not served"),
    ],
    ids=["refused", "500", "429", "401", "404"],
)
async def test_no_error_ends_a_watch(client: Watched, namespace: str, verb: str, error: errors.ApiError) -> None:
    failures = 0

    def fail(called: str, kind: str) -> None:
        nonlocal failures
        if called == verb:
            failures += 1
            raise error

    client.spoil = fail
    async with watching(client, namespace) as (cache, _):
        await until(lambda: failures >= 3)
        client.spoil = lambda called, kind: None
        await client.apply(CONFIG_MAP, config_map(namespace, "later"))
        await until(lambda: "later" in held(cache))


async def test_a_silent_watch_is_left_and_begun_again_where_it_was(client: Watched, namespace: str) -> None:
    async with watching(client, namespace, inactivity_seconds=0.2) as (cache, _):
        await until(lambda: client.calls.count(("watch", "ConfigMap")) >= 3)
        assert client.calls.count(("list_page", "ConfigMap")) == 1
        await client.apply(CONFIG_MAP, config_map(namespace, "later"))
        await until(lambda: "later" in held(cache))


async def test_a_relist_finds_what_no_event_told_and_wakes_every_key(client: Watched, namespace: str) -> None:
    cache, queue = Cache(), Queue()
    sources = [Source(CONFIG_MAP, (namespace,)), Source(NAMESPACE, (namespace, "no-such-namespace"))]
    relist = Relist(client, cache, queue, sources, reconciled=["ConfigMap"], seconds=600)
    assert not cache.synced()
    assert relist.age is None
    for name in ("a", "b"):
        await client.apply(CONFIG_MAP, config_map(namespace, name))
    assert await relist.once() >= 3
    assert cache.synced()
    assert relist.age is not None
    assert cache.get("Namespace", "", namespace) is not None
    woken = {await queue.get() for _ in range(len(queue))}
    assert {Key("ConfigMap", namespace, name) for name in ("a", "b")} <= woken
    for key in woken:
        queue.done(key)
    await client.delete(CONFIG_MAP, "a", namespace)
    assert await relist.once() == 1
    assert set(held(cache)) == {"b"}
    assert await relist.once() == 0
    assert Key("ConfigMap", namespace, "b") in {await queue.get() for _ in range(len(queue))}
    assert client.writes[-1] == ("delete", "ConfigMap"), "a relist writes nothing"
    queue.shut_down()


async def test_a_listed_namespace_is_read_by_name(client: Watched, namespace: str, control_plane: Cluster) -> None:
    cache = Cache()
    poll = NamedPoll(client, cache, NAMESPACE, (namespace, "no-such-namespace"), seconds=0.1)
    task = asyncio.create_task(poll.run())

    def team() -> str | None:
        found = cache.get("Namespace", "", namespace) or {"metadata": {"labels": {}}}
        label: str | None = found["metadata"]["labels"].get("retinue.dev/team")
        return label

    def fail(verb: str, kind: str) -> None:
        raise errors.Unavailable(503, "Unavailable", "down")

    await until(lambda: cache.synced("Namespace"))
    client.spoil = fail
    control_plane.kubectl("label", "namespace", namespace, "retinue.dev/team=payments")
    assert team() is None
    client.spoil = lambda verb, kind: None
    await until(lambda: team() == "payments")
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_a_relist_that_fails_leaves_the_cache_and_comes_again(
    client: Watched, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retinue.reconcile.relist.RETRY_SECONDS", 0.05)
    cache, queue = Cache(), Queue()
    relist = Relist(client, cache, queue, [Source(CONFIG_MAP, (namespace,))], reconciled=[], seconds=600)
    failures = 0

    def fail(verb: str, kind: str) -> None:
        nonlocal failures
        failures += 1
        raise errors.Unavailable(503, "Unavailable", "down")

    client.spoil = fail
    task = asyncio.create_task(relist.run())
    await until(lambda: failures >= 3)
    assert relist.age is None
    client.spoil = lambda verb, kind: None
    await until(lambda: relist.age is not None)
    assert cache.synced("ConfigMap")
    task.cancel()
    await asyncio.wait({task})
