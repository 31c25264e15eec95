"""The real client on the real API server, and a wrapper that counts its calls and can spoil them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from retinue.kube.aio import AioKubeClient, connect
from retinue.kube.client import KubeClient, Object, Resource
from testbed.cluster import Cluster


async def until(true: Callable[[], bool]) -> None:
    """Waits for something that must come true; how long it takes is no concern."""
    async with asyncio.timeout(120):
        while not true():  # noqa: ASYNC110 (what is waited for lies in other threads and processes)
            await asyncio.sleep(0.02)


WRITES = ("create", "apply", "apply_status", "replace", "delete")


@contextlib.asynccontextmanager
async def client_of(cluster: Cluster, **options: Any) -> AsyncIterator[AioKubeClient]:
    """A client of the cluster's administrator, closed afterwards."""
    client = await connect(str(cluster.kubeconfig), **options)
    try:
        yield client
    finally:
        await client.close()


class Watched(KubeClient):
    """Notes every call as (verb, kind); `spoil` is asked before each one and may raise."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self.calls: list[tuple[str, str]] = []
        self.spoil: Callable[[str, str], None] = lambda verb, kind: None

    @property
    def writes(self) -> list[tuple[str, str]]:
        """Only the calls that change something, without Events."""
        return [(verb, kind) for verb, kind in self.calls if verb in WRITES and kind != "Event"]

    def __getattribute__(self, name: str) -> Any:
        if name not in (*WRITES, "get", "list_page", "watch"):
            return super().__getattribute__(name)

        def call(resource: Resource, *args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, resource.kind))
            self.spoil(name, resource.kind)
            return getattr(self._client, name)(resource, *args, **kwargs)

        return call


def config_map(namespace: str, name: str = "one", **data: str) -> Object:
    """The smallest object that can be written."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


def manifest(obj: Object) -> Object:
    """An object of `builders` as a user would apply it: without what only the API server sets."""
    kept = {key: obj["metadata"][key] for key in ("name", "namespace", "labels") if key in obj["metadata"]}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": kept, "spec": obj["spec"]}


def kubeconfig_with_token(cluster: Cluster, token_file: Path) -> str:
    """Writes, beside the token file, a kubeconfig that logs in with it; returns its path."""
    authority = str(cluster.certs.authority.cert)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "clusters": [{"name": "it", "cluster": {"server": cluster.url, "certificate-authority": authority}}],
        "users": [{"name": "it", "user": {"tokenFile": str(token_file)}}],
    }
    path = token_file.with_name("kubeconfig")
    path.write_text(json.dumps(config))
    return str(path)
