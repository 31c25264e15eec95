"""The real client on the real API server, and a wrapper that counts its calls and can spoil them."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from retinue.kube.aio import AioKubeClient, connect
from retinue.kube.client import KubeClient, Object, Resource
from testbed.cluster import Cluster

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
