"""Election: never two leaders, whatever is lost, late or frozen; somebody leads once faults stop.

The Lease lies in a labelled stand-in here, because only it can lose replies and delay calls to the millisecond in
virtual time. The elector against the real API server is in tests/api/test_lease.py.
"""

import asyncio
import copy
import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retinue.kube import errors
from retinue.kube.lease import Elector, Observed, Timing
from virtual_time import run

pytestmark = pytest.mark.unit

Object = dict[str, Any]


class LeaseStandIn:
    """A Lease with optimistic locking and a fault per call: delay before, delay after, error before, lost reply."""

    def __init__(self) -> None:
        self.stored: Object | None = None
        self.version = 0
        self.writes = 0

    async def get(self) -> Object:
        if self.stored is None:
            raise errors.NotFound(404, "NotFound", "no lease")
        return copy.deepcopy(self.stored)

    async def write(self, body: Object, *, creating: bool) -> Object:
        if creating and self.stored is not None:
            raise errors.AlreadyExists(409, "AlreadyExists", "there is one")
        if not creating:
            if self.stored is None:
                raise errors.NotFound(404, "NotFound", "no lease")
            if body["metadata"]["resourceVersion"] != self.stored["metadata"]["resourceVersion"]:
                raise errors.Conflict(409, "Conflict", "it was modified")
        self.version += 1
        self.writes += 1
        self.stored = copy.deepcopy(body)
        self.stored["metadata"]["resourceVersion"] = str(self.version)
        return copy.deepcopy(self.stored)


class Link:
    """The way of one process to the Lease; implements what the elector uses of KubeClient."""

    def __init__(self, lease: LeaseStandIn, faults: random.Random | None = None, rate: float = 0.0) -> None:
        self._lease = lease
        self._faults = faults
        self.rate = rate
        self.cut = False

    async def get(self, *_: Any) -> Object:
        return await self._call(self._lease.get)

    async def create(self, _: Any, body: Object, __: Any) -> Object:
        return await self._call(lambda: self._lease.write(body, creating=True))

    async def replace(self, _: Any, body: Object) -> Object:
        return await self._call(lambda: self._lease.write(body, creating=False))

    async def _call(self, call: Any) -> Object:
        if self.cut:
            raise errors.Unavailable(0, "Refused", "no connection")
        fault = "none"
        if self._faults and self._faults.random() < self.rate:
            fault = self._faults.choice(["error", "lost", "slow", "late", "conflict"])
        if fault == "error":
            raise errors.Unavailable(503, "Unavailable", "overloaded")
        if fault == "conflict":
            raise errors.Conflict(409, "Conflict", "so they say")
        if fault == "slow":
            await asyncio.sleep(self._faults.uniform(0, 20) if self._faults else 0)
        # The server carries on even if the client gives up waiting.
        answer = await asyncio.shield(asyncio.ensure_future(call()))
        if fault == "late":
            await asyncio.sleep(self._faults.uniform(0, 20) if self._faults else 0)
        if fault == "lost":
            raise errors.Unavailable(0, "Reset", "connection lost")
        return dict(answer)


class Process:
    """One operator: an elector whose work only notes from when to when it ran."""

    def __init__(self, name: str, link: Link, *, stop_seconds: float = 0.0) -> None:
        self.spans: list[list[float]] = []
        self.changes: list[bool] = []
        self.lost = 0
        self.link = link
        self._stop_seconds = stop_seconds
        loop = asyncio.get_running_loop()
        self.elector = Elector(
            link,  # type: ignore[arg-type]
            namespace="retinue",
            name="operator",
            identity=name,
            on_change=self.changes.append,
            clock=loop.time,
            jitter=random.Random(name).random,
        )
        self.task = asyncio.create_task(self.elector.run(self._lead, self._on_lost))

    async def _lead(self) -> None:
        loop = asyncio.get_running_loop()
        span = [loop.time(), loop.time()]
        self.spans.append(span)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(self._stop_seconds)
            span[1] = loop.time()

    async def _on_lost(self) -> None:
        self.lost += 1

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})


def overlaps(processes: list[Process]) -> list[tuple[list[float], list[float]]]:
    spans = sorted(span for process in processes for span in process.spans)
    return [(a, b) for a, b in itertools.pairwise(spans) if b[0] < a[1]]


def test_the_first_one_leads_and_renews_and_the_second_waits() -> None:
    async def scenario() -> None:
        lease = LeaseStandIn()
        first, second = Process("a", Link(lease)), Process("b", Link(lease))
        await asyncio.sleep(300)
        assert (first.elector.leading, second.elector.leading) == (True, False)
        assert second.elector.holder == "a"
        assert (len(first.spans), second.spans) == (1, [])
        assert 300 / 2.4 - 2 <= lease.writes <= 300 / 2 + 2
        await first.stop()
        await second.stop()

    run(scenario())


def test_a_leader_that_stops_hands_over_at_once() -> None:
    async def scenario() -> None:
        lease = LeaseStandIn()
        first, second = Process("a", Link(lease)), Process("b", Link(lease))
        await asyncio.sleep(20)
        before = asyncio.get_running_loop().time()
        await first.stop()
        assert lease.stored is not None
        assert lease.stored["spec"]["holderIdentity"] == ""
        await asyncio.sleep(3)
        assert second.elector.leading
        assert second.spans[0][0] - before <= 2.4
        assert lease.stored["spec"]["leaseTransitions"] == 1
        await second.stop()

    run(scenario())


def test_a_leader_without_a_server_stops_its_work_before_anybody_may_take_over() -> None:
    async def scenario() -> None:
        lease = LeaseStandIn()
        first, second = Process("a", Link(lease), stop_seconds=4), Process("b", Link(lease))
        await asyncio.sleep(30)
        first.link.cut = True
        await asyncio.sleep(30)
        assert not first.elector.leading
        assert second.elector.leading
        assert first.spans[0][1] < second.spans[0][0]
        assert first.lost == 1
        assert first.changes == [True, False]
        assert not first.task.done(), "the process stays"
        first.link.cut = False
        await asyncio.sleep(60)
        assert not first.elector.leading, "it must win again first"
        await second.stop()
        await asyncio.sleep(10)
        assert first.elector.leading
        assert len(first.spans) == 2
        await first.stop()

    run(scenario())


def test_a_leader_notices_at_its_next_renewal_that_somebody_took_the_lease() -> None:
    async def scenario() -> None:
        lease = LeaseStandIn()
        first = Process("a", Link(lease))
        await asyncio.sleep(30)
        stolen = await lease.get()
        stolen["spec"]["holderIdentity"] = "thief"
        await lease.write(stolen, creating=False)
        await asyncio.sleep(2.5)
        assert (first.elector.leading, first.lost) == (False, 1)
        await asyncio.sleep(20)
        assert first.elector.leading, "the thief never renewed"
        await first.stop()

    run(scenario())


def test_a_deleted_lease_ends_leadership_and_is_made_again() -> None:
    async def scenario() -> None:
        lease = LeaseStandIn()
        first = Process("a", Link(lease))
        await asyncio.sleep(30)
        lease.stored = None
        await asyncio.sleep(10)
        assert first.lost == 1
        assert first.elector.leading
        await first.stop()

    run(scenario())


def test_a_renewal_whose_reply_was_lost_is_no_loss() -> None:
    async def scenario() -> None:
        lease = LeaseStandIn()
        first = Process("a", Link(lease))
        await asyncio.sleep(30)
        mine = await lease.get()
        await lease.write(mine, creating=False)
        await asyncio.sleep(30)
        assert (first.elector.leading, first.lost) == (True, 0)
        await first.stop()

    run(scenario())


def test_a_frozen_leader_knows_by_its_clock_alone_that_it_may_not_write() -> None:
    async def scenario() -> None:
        now = [0.0]
        elector = Elector(
            Link(LeaseStandIn()),  # type: ignore[arg-type]
            namespace="retinue",
            name="operator",
            identity="a",
            clock=lambda: now[0],
        )
        leading: list[bool] = []

        async def lead() -> None:
            leading.append(elector.leading)
            now[0] += 10.0
            leading.append(elector.leading)

        await elector.run(lead)
        assert leading == [True, False]

    run(scenario())


def test_an_error_of_the_work_is_raised_after_the_lease_was_released() -> None:
    async def scenario() -> None:
        lease = LeaseStandIn()
        elector = Elector(
            Link(lease),  # type: ignore[arg-type]
            namespace="retinue",
            name="operator",
            identity="a",
            clock=asyncio.get_running_loop().time,
        )

        async def lead() -> None:
            raise RuntimeError("a bug")

        with pytest.raises(RuntimeError, match="a bug"):
            await elector.run(lead)
        assert lease.stored is not None
        assert lease.stored["spec"]["holderIdentity"] == ""

    run(scenario())


@pytest.mark.parametrize(
    ("spec", "silent", "want"),
    [
        ({"holderIdentity": "other", "leaseDurationSeconds": 15}, 14.9, False),
        ({"holderIdentity": "other", "leaseDurationSeconds": 15}, 15.1, True),
        ({"holderIdentity": "other", "leaseDurationSeconds": 60}, 59, False),
        ({"holderIdentity": "other", "leaseDurationSeconds": 1}, 14.9, False),
        ({"holderIdentity": "other"}, 15.1, True),
        ({"holderIdentity": ""}, 0, True),
        ({}, 0, True),
        ({"holderIdentity": "me", "leaseDurationSeconds": 15}, 0, True),
    ],
)
def test_when_a_lease_may_be_taken(spec: Object, silent: float, want: bool) -> None:
    observed = Observed()
    observed.see({"spec": spec}, 100.0)
    observed.see({"spec": dict(spec)}, 100.0 + silent / 2)
    assert observed.may_take("me", 100.0 + silent, 15.0) is want


def test_the_clock_of_the_record_does_not_matter() -> None:
    observed = Observed()
    spec = {"holderIdentity": "other", "leaseDurationSeconds": 15, "renewTime": "1999-01-01T00:00:00Z"}
    observed.see({"spec": spec}, 50.0)
    assert not observed.may_take("me", 51.0, 15.0)


def test_a_lease_that_was_never_read_may_not_be_taken() -> None:
    assert not Observed().may_take("me", 1e9, 15.0)


@pytest.mark.parametrize("wrong", [(15, 15, 2, 4), (15, 10, 7, 4), (10, 15, 2, 4)])
def test_timings_that_are_not_safe_are_refused(wrong: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="must hold"):
        Timing(*wrong)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.1, 0.4, 0.8]))
def test_two_never_lead_at_once_and_one_leads_when_the_faults_stop(seed: int, rate: float) -> None:
    async def scenario() -> None:
        chance = random.Random(seed)
        lease = LeaseStandIn()
        processes = [
            Process(name, Link(lease, random.Random(chance.random()), rate), stop_seconds=chance.uniform(0, 4.9))
            for name in "abc"
        ]
        for _ in range(12):
            await asyncio.sleep(chance.uniform(0, 30))
            victim = chance.choice(processes)
            victim.link.cut = not victim.link.cut
        for process in processes:
            process.link.cut = False
            process.link.rate = 0.0
        await asyncio.sleep(60)
        assert [p.elector.leading for p in processes].count(True) == 1
        for process in processes:
            await process.stop()
        assert overlaps(processes) == []

    run(scenario())
