"""The elector on the real API server. Its timing is proven in virtual time in tests/unit/test_lease.py."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from real_client import Watched, client_of, until
from retinue.kube import errors
from retinue.kube.lease import Elector, Timing
from retinue.kube.resources import LEASE
from testbed.cluster import Cluster

pytestmark = pytest.mark.api

QUICK = Timing(lease=3.0, renew=2.0, retry=0.2, write=1.0)


@pytest_asyncio.fixture
async def client(control_plane: Cluster) -> AsyncIterator[Watched]:
    async with client_of(control_plane) as real:
        yield Watched(real)


class Process:
    def __init__(self, client: Watched, namespace: str, identity: str) -> None:
        self.client = Watched(client)
        self.working = 0
        self.lost = 0
        self.elector = Elector(
            self.client, namespace=namespace, name="retinue-operator", identity=identity, timing=QUICK
        )
        self.task = asyncio.create_task(self.elector.run(self._lead, self._on_lost))

    async def _lead(self) -> None:
        self.working += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.working -= 1

    async def _on_lost(self) -> None:
        assert self.working == 0, "the work has ended before anybody is told"
        self.lost += 1

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})


async def test_one_of_two_leads_and_the_other_follows_when_it_stops(client: Watched, namespace: str) -> None:
    first = Process(client, namespace, "first")
    await until(lambda: first.elector.leading)
    second = Process(client, namespace, "second")
    await until(lambda: second.elector.holder == "first")
    lease = await client.get(LEASE, "retinue-operator", namespace)
    assert lease["spec"]["holderIdentity"] == "first"
    assert lease["spec"]["leaseDurationSeconds"] == 3
    assert lease["spec"]["acquireTime"] <= lease["spec"]["renewTime"]
    await first.stop()
    await until(lambda: second.elector.leading)
    assert (first.working, second.working) == (0, 1)
    lease = await client.get(LEASE, "retinue-operator", namespace)
    assert (lease["spec"]["holderIdentity"], lease["spec"]["leaseTransitions"]) == ("second", 1)
    await second.stop()
    assert (await client.get(LEASE, "retinue-operator", namespace))["spec"].get("holderIdentity", "") == ""


async def test_a_leader_that_cannot_write_loses_and_must_win_again(client: Watched, namespace: str) -> None:
    first = Process(client, namespace, "first")
    await until(lambda: first.elector.leading)
    second = Process(client, namespace, "second")

    def cut(verb: str, kind: str) -> None:
        raise errors.Unavailable(0, "Cut", "no connection")

    first.client.spoil = cut
    await until(lambda: first.lost == 1)
    await until(lambda: second.elector.leading)
    assert (first.working, second.working) == (0, 1)
    first.client.spoil = lambda verb, kind: None
    await until(lambda: first.elector.holder == "second")
    assert not first.elector.leading
    assert not first.task.done()
    await second.stop()
    await until(lambda: first.elector.leading)
    await first.stop()


async def test_a_stolen_lease_ends_the_work(client: Watched, namespace: str, control_plane: Cluster) -> None:
    first = Process(client, namespace, "first")
    await until(lambda: first.elector.leading)
    patch = json.dumps({"spec": {"holderIdentity": "thief"}})
    control_plane.kubectl("-n", namespace, "patch", "lease", "retinue-operator", "--type=merge", f"-p={patch}")
    await until(lambda: first.lost == 1)
    await until(lambda: first.elector.leading)
    await first.stop()


async def test_of_many_that_start_at_once_exactly_one_wins(client: Watched, namespace: str) -> None:
    processes = [Process(client, namespace, f"p{number}") for number in range(5)]
    await until(lambda: any(p.elector.leading for p in processes))
    await until(lambda: all(p.elector.leading or p.elector.holder for p in processes))
    assert sum(p.working for p in processes) == 1
    for process in processes:
        await process.stop()
