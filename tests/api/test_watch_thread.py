"""kopf in its thread against a real API server: sees everything, writes nothing, survives outages."""

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from builders import make_assistant
from real_client import client_of, kubeconfig_with_token, manifest, until
from retinue.kube.aio import AioKubeClient, connect
from retinue.kube.cache import Cache
from retinue.kube.client import Resource
from retinue.kube.crds import CrdsNotReady, wait_for_crds
from retinue.kube.lease import Elector, Timing
from retinue.kube.resources import ASSISTANT, ASSISTANT_TEMPLATE, NAMESPACE
from retinue.watch.thread import WatchThread
from testbed.cluster import Cluster

pytestmark = pytest.mark.api


@contextlib.asynccontextmanager
async def watching(
    client: AioKubeClient, *resources: Resource, namespaces: tuple[str, ...] = ()
) -> AsyncIterator[tuple[Cache, WatchThread]]:
    cache = Cache()
    watch = WatchThread(client, cache, resources, namespaces=namespaces, backoff_seconds=0.2)
    task = asyncio.create_task(watch.run())
    try:
        yield cache, watch
    finally:
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled(), "nothing but us may end it"
        assert not [t for t in threading.enumerate() if t.name == "kopf"], "its thread has ended"


def names(cache: Cache, namespace: str, kind: str = "Assistant") -> set[str]:
    return {o["metadata"]["name"] for o in cache.list(kind, namespace)}


async def test_the_whole_cluster_is_watched(control_plane: Cluster, namespace: str) -> None:
    async with client_of(control_plane) as client:
        await client.apply(ASSISTANT, manifest(make_assistant("before", namespace=namespace)))
        async with watching(client, ASSISTANT, ASSISTANT_TEMPLATE, NAMESPACE) as (cache, _):
            await until(lambda: names(cache, namespace) == {"before"})
            await until(lambda: cache.get("Namespace", "", namespace) is not None)
            await client.apply(ASSISTANT, manifest(make_assistant("after", namespace=namespace)))
            await until(lambda: names(cache, namespace) == {"before", "after"})
            changed = manifest(make_assistant("after", namespace=namespace, spec={"tags": ["changed"]}))
            await client.apply(ASSISTANT, changed)
            await until(lambda: "tags" in (cache.get("Assistant", namespace, "after") or {}).get("spec", {}))
            await client.delete(ASSISTANT, "before", namespace)
            await until(lambda: names(cache, namespace) == {"after"})
            control_plane.kubectl("label", "namespace", namespace, "retinue.dev/team=payments")
            await until(
                lambda: "retinue.dev/team" in (cache.get("Namespace", "", namespace) or {})["metadata"]["labels"]
            )


async def test_only_the_listed_namespaces_are_watched_when_there_are_any(
    control_plane: Cluster, namespace: str
) -> None:
    other = f"{namespace}-other"
    control_plane.kubectl("create", "namespace", other)
    async with client_of(control_plane) as client:
        await client.apply(ASSISTANT, manifest(make_assistant("elsewhere", namespace=other)))
        async with watching(client, ASSISTANT, namespaces=(namespace,)) as (cache, _):
            await client.apply(ASSISTANT, manifest(make_assistant("here", namespace=namespace)))
            await until(lambda: names(cache, namespace) == {"here"})
            assert names(cache, other) == set()
        with pytest.raises(ValueError, match="cluster-scoped kinds cannot be watched"):
            WatchThread(client, Cache(), [NAMESPACE], namespaces=(namespace,))
    control_plane.kubectl("delete", "namespace", other, "--wait=false")


async def test_watching_writes_nothing(control_plane: Cluster, namespace: str) -> None:
    async with client_of(control_plane) as client:
        made = await client.apply(ASSISTANT, manifest(make_assistant("quiet", namespace=namespace)))
        async with watching(client, ASSISTANT) as (cache, _):
            await until(lambda: names(cache, namespace) == {"quiet"})
            await client.apply(ASSISTANT, manifest(make_assistant("last", namespace=namespace)))
            await until(lambda: "last" in names(cache, namespace))
        left = await client.get(ASSISTANT, "quiet", namespace)
        assert left == made
    audit = [json.loads(line) for line in control_plane.audit_log.read_text().splitlines() if namespace in line]
    kopf = [e for e in audit if "kopf" in e.get("userAgent", "").lower()]
    assert {e["verb"] for e in kopf} <= {"get", "list", "watch"}


@pytest.fixture(scope="module")
def fragile() -> Iterator[Cluster]:
    """A cluster of our own, without CRDs at first, whose API server may be killed."""
    cluster = Cluster.up_control_plane(f"pytest-{os.getpid()}-fragile", owned=True)
    try:
        yield cluster
    finally:
        cluster.down()


async def test_missing_and_old_crds_are_told_and_waited_for(fragile: Cluster) -> None:
    async with client_of(fragile) as client:
        with pytest.raises(CrdsNotReady, match=r"CRD assistants\.retinue\.dev is not installed: install the chart"):
            await wait_for_crds(client, seconds=0)
        fragile.apply_crds()
        await wait_for_crds(client, seconds=60, poll_seconds=0.2)
        crd = ("crd", "modelservers.retinue.dev")
        fragile.kubectl("annotate", *crd, "retinue.dev/schema=0", "--overwrite")
        with pytest.raises(CrdsNotReady, match=r"modelservers.* has retinue\.dev/schema=0 but this release needs"):
            await wait_for_crds(client, seconds=0)
        fragile.kubectl("annotate", *crd, "retinue.dev/schema=99", "--overwrite")
        await wait_for_crds(client, seconds=0)


async def test_a_killed_api_server_ends_neither_watching_nor_this_process(fragile: Cluster) -> None:
    async with client_of(fragile) as client:
        elector = Elector(
            client,
            namespace="default",
            name="retinue-operator",
            identity="a",
            timing=Timing(lease=5.0, renew=3.0, retry=0.2, write=1.0),
        )
        lost = asyncio.Event()

        async def on_lost() -> None:
            lost.set()

        leading = asyncio.create_task(elector.run(asyncio.Event().wait, on_lost))  # type: ignore[arg-type]
        async with watching(client, ASSISTANT) as (cache, watch):
            await client.apply(ASSISTANT, manifest(make_assistant("before", namespace="default")))
            await until(lambda: names(cache, "default") == {"before"})
            await until(lambda: elector.leading)
            server = fragile.processes.record("kube-apiserver")
            assert server is not None
            fragile.processes.kill(server.name)
            await asyncio.wait_for(lost.wait(), 60)
            fragile.processes.start(server.name, server.argv)
            await until(lambda: elector.leading)
            await client.apply(ASSISTANT, manifest(make_assistant("after", namespace="default")))
            await until(lambda: names(cache, "default") == {"before", "after"})
            assert watch.restarts == 0, "a refused connection does not end kopf"
        leading.cancel()
        await asyncio.wait({leading})


async def test_without_rights_kopf_ends_and_is_started_again_until_it_has_them(
    fragile: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("retinue.watch.tuning.ERROR_BACKOFFS", (0.05,))
    who = "system:serviceaccount:default:watcher"
    fragile.kubectl("create", "serviceaccount", "watcher")
    (tmp_path / "token").write_text(fragile.kubectl("create", "token", "watcher"))
    client = await connect(kubeconfig_with_token(fragile, tmp_path / "token"))
    try:
        async with watching(client, ASSISTANT, namespaces=("default",)) as (cache, watch):
            await until(lambda: watch.restarts >= 2)
            rights = ("--verb=get,list,watch", "--resource=assistants.retinue.dev")
            fragile.kubectl("create", "role", "watcher", *rights)
            fragile.kubectl("create", "rolebinding", "watcher", "--role=watcher", "--serviceaccount=default:watcher")
            assert "yes" in fragile.kubectl("auth", "can-i", "watch", "assistants.retinue.dev", f"--as={who}")
            fragile.kubectl("apply", "-f", "-", input=json.dumps(manifest(make_assistant("seen", namespace="default"))))
            await until(lambda: "seen" in names(cache, "default"))
    finally:
        await client.close()
