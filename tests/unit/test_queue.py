"""The keyed queue: dedup, single flight, back-off, delays, shutdown."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retinue.reconcile.queue import Key, Queue, ShutDown
from virtual_time import run

pytestmark = pytest.mark.unit

A = Key("Assistant", "team", "a")
B = Key("Assistant", "team", "b")


class Counts:
    """Metrics of the queue as plain lists."""

    def __init__(self) -> None:
        self.adds: list[str] = []
        self.retries: list[str] = []
        self.waits: list[float] = []
        self.last = (0, 0)

    def depth(self, waiting: int, delayed: int) -> None:
        self.last = (waiting, delayed)

    def added(self, kind: str) -> None:
        self.adds.append(kind)

    def retried(self, kind: str) -> None:
        self.retries.append(kind)

    def started(self, kind: str, waited_seconds: float) -> None:
        self.waits.append(waited_seconds)


async def drain(queue: Queue, count: int) -> list[Key]:
    keys = []
    for _ in range(count):
        key = await queue.get()
        keys.append(key)
        queue.done(key)
    return keys


def test_a_key_that_waits_is_held_once() -> None:
    async def scenario() -> None:
        queue = Queue()
        for key in (A, B, A, A, B):
            queue.add(key)
        assert len(queue) == 2
        assert await drain(queue, 2) == [A, B]
        assert queue.idle

    run(scenario())


def test_a_key_added_while_it_is_worked_on_runs_once_more_and_never_in_parallel() -> None:
    async def scenario() -> None:
        queue = Queue()
        queue.add(A)
        assert await queue.get() == A
        queue.add(A)
        queue.add(A)
        assert len(queue) == 0
        queue.done(A)
        assert len(queue) == 1
        assert await drain(queue, 1) == [A]
        assert queue.idle

    run(scenario())


def test_the_back_off_doubles_to_its_maximum_and_ends_with_success() -> None:
    async def scenario() -> None:
        queue = Queue(jitter=lambda: 1.0)
        assert [queue.retry(A) for _ in range(11)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
        assert queue.failures(A) == 11
        queue.forget(A)
        assert queue.retry(A) == 1
        assert queue.retry(B) == 1

    run(scenario())


def test_half_of_the_back_off_is_jitter() -> None:
    async def scenario() -> None:
        assert Queue(jitter=lambda: 0.0).retry(A) == 0.5
        assert Queue(jitter=lambda: 0.5).retry(A) == 0.75

    run(scenario())


@pytest.mark.parametrize(
    ("chance", "want"), [(0.0, 20.0), (1.0, 21.0)], ids=["not-before-the-server-said", "not-all-at-once"]
)
def test_what_a_server_demanded_is_the_least_delay(chance: float, want: float) -> None:
    async def scenario() -> None:
        assert Queue(jitter=lambda: chance).retry(A, at_least=20) == want

    run(scenario())


def test_a_delayed_key_comes_when_it_is_due_and_not_before() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        queue = Queue()
        queue.add_after(B, 60)
        queue.add_after(A, 30)
        assert (len(queue), queue.delayed) == (0, 2)
        assert await drain(queue, 1) == [A]
        assert loop.time() == pytest.approx(30)
        assert await drain(queue, 1) == [B]
        assert loop.time() == pytest.approx(60)
        assert queue.delayed == 0

    run(scenario())


@pytest.mark.parametrize(("first", "second"), [(10, 50), (50, 10)])
def test_of_several_delays_the_earliest_wins_and_fires_once(first: float, second: float) -> None:
    async def scenario() -> None:
        queue = Queue()
        queue.add_after(A, first)
        queue.add_after(A, second)
        assert await drain(queue, 1) == [A]
        await asyncio.sleep(100)
        assert len(queue) == 0

    run(scenario())


def test_an_event_does_not_wait_for_the_back_off() -> None:
    async def scenario() -> None:
        queue = Queue(jitter=lambda: 1.0)
        for _ in range(9):
            queue.retry(A)
        queue.add(A)
        assert await drain(queue, 1) == [A]
        assert asyncio.get_running_loop().time() == 0

    run(scenario())


def test_workers_that_wait_all_get_their_keys() -> None:
    async def scenario() -> None:
        queue = Queue()
        waiting = [asyncio.create_task(queue.get()) for _ in range(2)]
        await asyncio.sleep(0)
        queue.add(A)
        queue.add(B)
        assert {await task for task in waiting} == {A, B}

    run(scenario())


def test_shutting_down_ends_every_wait_and_takes_nothing_more() -> None:
    async def scenario() -> None:
        queue = Queue()
        waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
        queue.add_after(A, 1)
        await asyncio.sleep(0)
        queue.shut_down()
        for task in waiting:
            with pytest.raises(ShutDown):
                await task
        queue.add(A)
        queue.add_after(B, 1)
        await asyncio.sleep(5)
        assert (len(queue), queue.delayed) == (0, 0)

    run(scenario())


def test_a_cancelled_wait_loses_no_key() -> None:
    async def scenario() -> None:
        queue = Queue()
        waiting = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.add(A)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert await queue.get() == A

    run(scenario())


def test_the_queue_reports_what_it_does() -> None:
    async def scenario() -> None:
        counts = Counts()
        queue = Queue(metrics=counts)
        queue.add(A)
        queue.add(A)
        queue.retry(B)
        assert counts.last == (1, 1)
        await asyncio.sleep(0.25)
        await drain(queue, 1)
        assert counts.adds == ["Assistant"]
        assert counts.retries == ["Assistant"]
        assert counts.waits == [0.25]

    run(scenario())


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["add", "later", "retry", "get", "done", "wait"]), st.sampled_from([A, B])), max_size=60
)


@settings(max_examples=150, deadline=None)
@given(OPERATIONS)
def test_no_order_of_operations_loses_or_doubles_a_key(operations: list[tuple[str, Key]]) -> None:
    async def scenario() -> None:
        queue = Queue()
        active: set[Key] = set()
        owed: set[Key] = set()
        for what, key in operations:
            if what == "add":
                queue.add(key)
                owed.add(key)
            elif what == "later":
                queue.add_after(key, 3)
                owed.add(key)
            elif what == "retry":
                queue.retry(key)
                owed.add(key)
            elif what == "get" and len(queue):
                got = await queue.get()
                assert got not in active
                active.add(got)
                owed.discard(got)
            elif what == "done" and key in active:
                queue.done(key)
                active.discard(key)
            elif what == "wait":
                await asyncio.sleep(2)
        for key in active:
            queue.done(key)
        await asyncio.sleep(1000)
        seen = set(await drain(queue, len(queue)))
        assert owed <= seen
        assert queue.idle

    run(scenario())
