"""The same faults for both feeders of the cache, from a proxy in front of the real API server."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from builders import make_assistant
from real_client import client_of, manifest, until
from retinue.kube.aio import AioKubeClient, connect
from retinue.kube.cache import Cache, Change
from retinue.kube.listwatch import ListWatch
from retinue.kube.resources import ASSISTANT
from retinue.reconcile.queue import Queue
from retinue.reconcile.relist import Relist, Source
from retinue.watch.thread import WatchThread
from testbed.cluster import Cluster
from testbed.faultproxy_faults import HideLines, Refuse, RepeatLines
from testbed.faultproxy_kube import KubeFaultProxy

pytestmark = pytest.mark.api

WATCHED = "assistants"


class Stage:
    """A feeder behind the proxy, and a client that goes round it."""

    def __init__(
        self, feeder: str, behind: AioKubeClient, direct: AioKubeClient, proxy: KubeFaultProxy, namespace: str
    ) -> None:
        self.direct = direct
        self.proxy = proxy
        self.namespace = namespace
        self.cache = Cache()
        self.heard: list[Change] = []
        self.cache.subscribe(self.heard.append)
        self.relist = Relist(behind, self.cache, Queue(), [Source(ASSISTANT, (namespace,))], reconciled=[], seconds=600)
        run: Callable[[], object]
        if feeder == "kopf":
            run = WatchThread(behind, self.cache, [ASSISTANT], namespaces=(namespace,), backoff_seconds=0.2).run
        else:
            watch = ListWatch(behind, self.cache, ASSISTANT, namespace, backoff_seconds=0.2, inactivity_seconds=SILENCE)
            run = watch.run
        self.task = asyncio.ensure_future(run())  # type: ignore[arg-type]

    async def make(self, name: str, *tags: str) -> None:
        await self.direct.apply(
            ASSISTANT, manifest(make_assistant(name, namespace=self.namespace, spec={"tags": list(tags)}))
        )

    async def delete(self, name: str) -> None:
        await self.direct.delete(ASSISTANT, name, self.namespace)

    @property
    def names(self) -> set[str]:
        return {o["metadata"]["name"] for o in self.cache.list("Assistant", self.namespace)}

    def tags(self, name: str) -> list[str]:
        return list((self.cache.get("Assistant", self.namespace, name) or {"spec": {}})["spec"].get("tags", []))

    async def settled(self) -> None:
        """Until a watch is open that brings what happens."""
        number = 0
        async with asyncio.timeout(120):
            while f"settled-{number}" not in self.names:
                number += 1
                await self.make(f"settled-{number}")
                await asyncio.sleep(0.2)
                if f"settled-{number}" in self.names:
                    break
        for one in range(1, number + 1):
            await self.delete(f"settled-{one}")
        await until(lambda: not any(name.startswith("settled") for name in self.names))
        self.heard.clear()


SILENCE = 1.5


@pytest_asyncio.fixture(params=["kopf", "list-watch"])
async def stage(
    request: pytest.FixtureRequest,
    control_plane: Cluster,
    fault_proxy: KubeFaultProxy,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Stage]:
    monkeypatch.setattr("retinue.watch.tuning.ERROR_BACKOFFS", (0.2,) * 50)
    monkeypatch.setattr("retinue.watch.tuning.INACTIVITY_SECONDS", SILENCE)
    async with client_of(control_plane) as direct:
        behind = await connect(str(fault_proxy.kubeconfig))
        stage = Stage(request.param, behind, direct, fault_proxy, namespace)
        try:
            await stage.settled()
            yield stage
        finally:
            fault_proxy.clear()
            stage.task.cancel()
            await asyncio.wait({stage.task})
            await behind.close()
            assert stage.task.cancelled(), "no fault may end it"


async def test_a_cut_watch_goes_on_where_it_was(stage: Stage) -> None:
    await stage.make("before")
    await until(lambda: "before" in stage.names)
    assert stage.proxy.cut_watches(WATCHED) >= 1
    await stage.make("after")
    await stage.delete("before")
    await until(lambda: stage.names == {"after"})


async def test_what_changed_in_the_gap_before_a_410_is_found_by_the_new_list(stage: Stage) -> None:
    await stage.make("changes", "old")
    await until(lambda: stage.tags("changes") == ["old"])
    stage.proxy.silence_watches(WATCHED)
    await stage.make("changes", "new")
    await stage.make("appears")
    stage.proxy.expire_watches(WATCHED)
    await until(lambda: stage.tags("changes") == ["new"] and "appears" in stage.names)


async def test_what_vanished_in_the_gap_before_a_410_is_gone_after_the_relist_at_the_latest(stage: Stage) -> None:
    await stage.make("vanishes")
    await stage.make("stays")
    await until(lambda: stage.names == {"vanishes", "stays"})
    hidden = stage.proxy.inject(HideLines(after=0, count=99), verb="watch", resource=WATCHED, times=None)
    stage.proxy.cut_watches(WATCHED)
    await stage.delete("vanishes")
    stage.proxy.remove(hidden)
    stage.proxy.expire_watches(WATCHED)
    await stage.make("later")
    await until(lambda: "later" in stage.names)
    await stage.relist.once()
    assert stage.names == {"stays", "later"}


async def test_events_that_never_came_are_found_by_the_relist(stage: Stage) -> None:
    await stage.make("vanishes")
    await stage.make("changes", "old")
    await until(lambda: stage.names == {"vanishes", "changes"})
    stage.proxy.silence_watches(WATCHED)
    await stage.delete("vanishes")
    await stage.make("changes", "new")
    await stage.make("appears")
    await stage.relist.once()
    assert (stage.names, stage.tags("changes")) == ({"changes", "appears"}, ["new"])


async def test_a_silent_watch_is_given_up(stage: Stage) -> None:
    assert stage.proxy.silence_watches(WATCHED) >= 1
    await stage.make("after")
    await until(lambda: "after" in stage.names)


async def test_news_that_come_twice_count_once(stage: Stage) -> None:
    stage.proxy.inject(RepeatLines(), verb="watch", resource=WATCHED, times=None)
    stage.proxy.cut_watches(WATCHED)
    await stage.make("one", "a")
    await stage.make("one", "b")
    await stage.delete("one")
    await stage.make("last")
    await until(lambda: "last" in stage.names)
    seen = [change for change in stage.heard if change.key.name == "one"]
    assert [(c.old is None, c.new is None) for c in seen][:1] == [(True, False)]
    assert [(c.old is None, c.new is None) for c in seen][-1:] == [(False, True)]
    assert len(seen) <= 3


@pytest.mark.parametrize("code", [429, 500, 503], ids=str)
@pytest.mark.parametrize("verb", ["list", "watch"])
async def test_errors_of_the_server_are_outlived(stage: Stage, verb: str, code: int) -> None:
    wait = 1 if code == 429 else None
    injection = stage.proxy.inject(Refuse(code, retry_after=wait), verb=verb, resource=WATCHED, times=3)
    stage.proxy.expire_watches(WATCHED)
    await injection.happened()
    await stage.make("after")
    await until(lambda: "after" in stage.names)


async def test_a_server_that_is_down_is_waited_for(stage: Stage) -> None:
    stage.proxy.down()
    await stage.make("meanwhile")
    await asyncio.sleep(1)
    stage.proxy.up()
    await until(lambda: "meanwhile" in stage.names)
