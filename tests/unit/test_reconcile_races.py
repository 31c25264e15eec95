"""What other people's timing must not break: late watches, slow writes, namespaces that are gone."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from builders import MODELS_NAMESPACE, NAMESPACE, make_assistant, make_deployment, make_model_server, make_revision
from builders import make_snapshot as snapshot
from deployment_cases import PLATFORM
from retinue.kube import errors
from retinue.kube.cache import Cache, Key, key_of
from retinue.kube.client import KubeClient, Object, Page, Resource
from retinue.kube.resources import ASSISTANT_DEPLOYMENT
from retinue.outbound.model_registry import ModelRegistries
from retinue.reconcile.act import Actor
from retinue.reconcile.assistant import AssistantReconciler
from retinue.reconcile.assistant_revision import AssistantRevisionReconciler
from retinue.reconcile.model_server import ModelServerReconciler
from retinue.reconcile.queue import Queue
from retinue.reconcile.relist import Relist, Source
from retinue.reconcile.world import World, add_indexes

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 10, 12, 0, tzinfo=UTC)


class Faults:
    """Stand-in for fault injection only: lists that are refused or ahead of the watch, writes that take their time."""

    def __init__(
        self, lists: Mapping[str | None, list[Object] | int] | None = None, *, keeps: str | None = None
    ) -> None:
        """`keeps` is the message with which deletes are refused."""
        self.lists = dict(lists or {})
        self.keeps = keeps
        self.deleted: list[str] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self._version = 1000

    async def list_page(self, resource: Resource, namespace: str | None = None, **_: Any) -> Page:
        """A list, or a refusal with the given HTTP status."""
        found = self.lists.get(namespace, [])
        if isinstance(found, int):
            raise errors.Forbidden(found, "Forbidden", f"cannot list {resource.plural} in {namespace}")
        return Page(found, "500", None)

    async def apply_status(self, _: Resource, body: Object) -> Object:
        """Takes the status as soon as `go_on` is set."""
        await self.go_on.wait()
        self._version += 1
        stored = self.held.get(*key_of(body))
        assert stored is not None
        metadata = {**stored["metadata"], "resourceVersion": str(self._version)}
        return {**stored, "metadata": metadata, "status": body["status"]}

    async def delete(self, _: Resource, name: str, namespace: str | None = None, **__: Any) -> None:
        """Notes what was deleted."""
        if self.keeps is not None:
            raise errors.Forbidden(403, "Forbidden", self.keeps)
        self.deleted.append(name)

    held: Cache


def world_of(faults: Faults) -> World:
    cache = Cache()
    add_indexes(cache)
    faults.held = cache
    client = cast(KubeClient, faults)
    return World(client, cache, Actor(client, cache), PLATFORM, now=lambda: NOW)


def revisions(count: int, **metadata: Any) -> list[Object]:
    texts = [{"name": "system", "role": "Primary", "text": f"Version {number}."} for number in range(count)]
    return [make_revision(snapshot=snapshot(prompts=[text]), **metadata) for text in texts]


async def test_two_revisions_seen_in_the_wrong_order_get_two_numbers() -> None:
    faults = Faults()
    world = world_of(faults)
    older, younger = sorted(revisions(2), key=lambda r: str(r["metadata"]["name"]))
    reconciler = AssistantRevisionReconciler(world)
    faults.go_on.clear()
    world.cache.put(younger)
    first = asyncio.create_task(reconciler.reconcile(key_of(younger)))
    await asyncio.sleep(0)
    world.cache.put(older)
    second = asyncio.create_task(reconciler.reconcile(key_of(older)))
    await asyncio.sleep(0)
    faults.go_on.set()
    await asyncio.gather(first, second)
    numbers = [r["status"]["ordinal"] for r in world.cache.list("AssistantRevision")]
    assert sorted(numbers) == [1, 2]


async def test_a_revision_that_only_the_api_server_knows_to_be_named_is_not_collected() -> None:
    old = [{**r, "status": {"ordinal": number}} for number, r in enumerate(revisions(4), start=1)]
    kept, lost = (r["metadata"]["name"] for r in old[:2])
    faults = Faults({NAMESPACE: [make_deployment(spec={"source": {"revision": kept}})]})
    world = world_of(faults)
    assistant = make_assistant(spec={"revisionHistoryLimit": 2, "lifecycle": "Inactive"})
    for obj in (assistant, *old):
        world.cache.put(obj)
    await AssistantReconciler(world, ModelRegistries([])).reconcile(key_of(assistant))
    assert faults.deleted == [lost]


async def test_a_refused_collection_does_not_keep_the_rest_of_the_status_from_being_written() -> None:
    old = [{**r, "status": {"ordinal": number}} for number, r in enumerate(revisions(4), start=1)]
    faults = Faults(keeps="revisions are kept for ever here")
    world = world_of(faults)
    newest = old[3]["metadata"]["name"]
    assistant = make_assistant(
        spec={"revisionHistoryLimit": 2, "lifecycle": "Inactive"}, status={"latestRevision": newest}
    )
    for obj in (assistant, *old):
        world.cache.put(obj)
    await AssistantReconciler(world, ModelRegistries([])).reconcile(key_of(assistant))
    (stored,) = world.cache.list("Assistant")
    assert stored["status"]["latestOrdinal"] == 4
    stalled = next(c for c in stored["status"]["conditions"] if c["type"] == "Stalled")
    assert faults.keeps is not None
    assert faults.keeps in stalled["message"]


def relist_of(cache: Cache, faults: Faults, *, spare_refused: bool = True) -> Relist:
    source = Source(ASSISTANT_DEPLOYMENT, ("gone", NAMESPACE), spare_refused=spare_refused)
    client = cast(KubeClient, faults)
    return Relist(client, cache, Queue(), [source], reconciled=["AssistantDeployment"], seconds=600)


async def test_a_namespace_that_is_gone_does_not_stop_the_others() -> None:
    cache = Cache()
    faults = Faults({"gone": 403, NAMESPACE: [make_deployment()]})
    relist = relist_of(cache, faults)
    assert await relist.once() == 1
    assert relist.age is not None
    assert not cache.synced("AssistantDeployment")
    faults.lists["gone"] = []
    await relist.once()
    assert cache.synced("AssistantDeployment")


@pytest.mark.parametrize(
    ("lists", "spare_refused"), [({"gone": 403, NAMESPACE: 403}, True), ({"gone": 401}, True), ({"gone": 403}, False)]
)
async def test_a_relist_that_is_refused_as_a_whole_fails(
    lists: Mapping[str | None, list[Object] | int], spare_refused: bool
) -> None:
    relist = relist_of(Cache(), Faults(lists), spare_refused=spare_refused)
    with pytest.raises(errors.Forbidden):
        await relist.once()
    assert relist.age is None


@pytest.mark.parametrize("listed", [False, True])
async def test_a_server_is_removed_only_when_every_namespace_was_asked_for_its_users(listed: bool) -> None:
    faults = Faults()
    world = world_of(faults)
    unused = {"observedGeneration": 1, "desiredReplicas": 1, "unusedSince": "2026-01-10T08:00:00Z"}
    server = make_model_server(status=unused)
    world.cache.put(server)
    for kind in ("Namespace", "Assistant", "AssistantRevision", "AssistantDeployment"):
        world.cache.expect(kind)
        if listed or kind != "AssistantDeployment":
            world.cache.replace_all(kind, None, [], "500")
    name = server["metadata"]["name"]
    again = await ModelServerReconciler(world, lambda _: None).reconcile(Key("ModelServer", MODELS_NAMESPACE, name))
    assert faults.deleted == ([name] if listed else [])
    assert listed or again is not None
