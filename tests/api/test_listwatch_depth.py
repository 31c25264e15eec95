"""A deeply nested object of one tenant must not end a watch that all tenants share."""

import asyncio
import contextlib
import json

import pytest

from builders import make_revision, make_snapshot
from real_client import client_of, until
from retinue.kube.cache import Cache
from retinue.kube.listwatch import ListWatch
from retinue.kube.resources import ASSISTANT_REVISION
from testbed.cluster import Cluster

pytestmark = pytest.mark.api
LEVELS = 2000
"""More than any parser of ours takes, fewer than the API server's."""


def nested(namespace: str) -> str:
    """A revision with a schema of so many levels, as text, because no encoder of ours writes it either."""
    schema = '{"not":' * LEVELS + "{}" + "}" * LEVELS
    form = {"type": "JSONSchema", "schema": {"not": "HERE"}}
    body = make_revision("deep", snapshot=make_snapshot(responseFormat=form), namespace=namespace)
    for field in ("uid", "resourceVersion", "creationTimestamp", "generation"):
        body["metadata"].pop(field, None)
    body.pop("status", None)
    return json.dumps(body).replace('"HERE"', schema)


async def test_a_deeply_nested_object_does_not_end_a_watch_or_a_list(control_plane: Cluster, namespace: str) -> None:
    async with client_of(control_plane) as client:
        cache = Cache()
        watch = ListWatch(client, cache, ASSISTANT_REVISION, namespace, backoff_seconds=0.05)
        task = asyncio.create_task(watch.run())
        try:
            await until(lambda: cache.synced(ASSISTANT_REVISION.kind))
            path = f"/apis/retinue.dev/v1alpha1/namespaces/{namespace}/assistantrevisions"
            control_plane.kubectl("create", "--raw", path, "-f", "-", input=nested(namespace))
            await until(lambda: bool(cache.list(ASSISTANT_REVISION.kind)) or task.done())
            assert not task.done(), "the watch ended"
            page = await client.list_page(ASSISTANT_REVISION, namespace)
            assert len(page.items) == 1
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
