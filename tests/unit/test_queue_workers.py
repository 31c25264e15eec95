"""Workers: what the outcome of a pass means for when the key is looked at again."""

import asyncio
from collections import defaultdict
from typing import Any

import pytest

from retinue.kube import errors
from retinue.reconcile.loop import Workers
from retinue.reconcile.queue import Key, Queue
from virtual_time import run

pytestmark = pytest.mark.unit

A = Key("Assistant", "team", "a")
B = Key("Assistant", "team", "b")


class Script:
    """A reconciler that plays outcomes in order: a number or None is returned, an exception is raised."""

    def __init__(self, *outcomes: Any, seconds: float = 0.0) -> None:
        self._outcomes = list(outcomes)
        self._seconds = seconds
        self.at: list[float] = []
        self.running: dict[Key, int] = defaultdict(int)
        self.most: dict[Key, int] = defaultdict(int)
        self.busiest = 0

    async def reconcile(self, key: Key) -> float | None:
        self.at.append(round(asyncio.get_running_loop().time(), 3))
        self.running[key] += 1
        self.most[key] = max(self.most[key], self.running[key])
        self.busiest = max(self.busiest, sum(self.running.values()))
        try:
            await asyncio.sleep(self._seconds)
        finally:
            self.running[key] -= 1
        outcome = self._outcomes.pop(0) if self._outcomes else None
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


class Results:
    def __init__(self) -> None:
        self.results: list[str] = []

    def finished(self, kind: str, result: str, seconds: float) -> None:
        self.results.append(result)


def unavailable(retry_after: float | None = None) -> errors.ApiError:
    return errors.Unavailable(503, "Unavailable", "down", retry_after=retry_after)


@pytest.mark.parametrize(
    ("outcomes", "want_at", "want_results"),
    [
        ([None], [0], ["ok"]),
        ([30.0, None], [0, 30], ["ok", "ok"]),
        ([errors.Conflict(409, "Conflict", "x"), None], [0, 0.1], ["conflict", "ok"]),
        ([errors.AlreadyExists(409, "AlreadyExists", "x"), None], [0, 0.1], ["conflict", "ok"]),
        ([unavailable(), unavailable(), None], [0, 1, 3], ["unavailable", "unavailable", "ok"]),
        ([unavailable(20), None], [0, 21], ["unavailable", "ok"]),
        ([errors.TooManyRequests(429, "x", "x", retry_after=5), None], [0, 6], ["unavailable", "ok"]),
        ([errors.Forbidden(403, "Forbidden", "x"), None], [0, 1], ["refused", "ok"]),
        ([errors.Invalid(422, "Invalid", "x"), None], [0, 1], ["refused", "ok"]),
        ([ValueError("a bug"), None], [0, 1], ["error", "ok"]),
        ([unavailable(), 50.0, unavailable(), None], [0, 1, 51, 52], ["unavailable", "ok", "unavailable", "ok"]),
    ],
    ids=[
        "done",
        "again-when-asked",
        "conflict-is-quick",
        "somebody-was-first",
        "away-backs-off",
        "retry-after-of-503",
        "retry-after-of-429",
        "forbidden",
        "invalid",
        "bug",
        "success-ends-the-back-off",
    ],
)
def test_when_a_key_is_looked_at_again(outcomes: list[Any], want_at: list[float], want_results: list[str]) -> None:
    async def scenario() -> None:
        queue = Queue(jitter=lambda: 1.0)
        script, results = Script(*outcomes), Results()
        workers = asyncio.create_task(Workers(queue, {"Assistant": script}, metrics=results).run())
        queue.add(A)
        await asyncio.sleep(400)
        assert script.at == want_at
        assert results.results == want_results
        queue.shut_down()
        await workers

    run(scenario())


def test_a_pass_that_never_ends_is_cut_and_tried_again() -> None:
    async def scenario() -> None:
        queue = Queue(jitter=lambda: 1.0)
        script, results = Script(seconds=1e6), Results()
        workers = asyncio.create_task(
            Workers(queue, {"Assistant": script}, count=1, pass_seconds=10, metrics=results).run()
        )
        queue.add(A)
        await asyncio.sleep(20)
        assert script.at == [0, 11]
        assert results.results[0] == "timeout"
        workers.cancel()
        await asyncio.wait({workers})

    run(scenario())


def test_keys_run_side_by_side_but_never_one_key_twice() -> None:
    async def scenario() -> None:
        queue = Queue()
        script = Script(seconds=1)
        workers = asyncio.create_task(Workers(queue, {"Assistant": script}, count=3).run())
        for _ in range(5):
            queue.add(A)
            queue.add(B)
            await asyncio.sleep(0.3)
        await asyncio.sleep(10)
        assert script.busiest == 2
        assert dict(script.most) == {A: 1, B: 1}
        queue.shut_down()
        await workers

    run(scenario())


def test_a_pass_that_is_cancelled_half_way_is_done_again_by_the_next_leader() -> None:
    async def scenario() -> None:
        queue = Queue()
        script = Script(seconds=60)
        workers = Workers(queue, {"Assistant": script})
        first = asyncio.create_task(workers.run())
        queue.add(A)
        await asyncio.sleep(1)
        first.cancel()
        await asyncio.wait({first})
        assert first.cancelled()
        assert sum(script.running.values()) == 0, "the worker has really ended"
        assert len(queue) == 1
        second = asyncio.create_task(workers.run())
        await asyncio.sleep(100)
        assert len(script.at) == 2
        queue.shut_down()
        await second

    run(scenario())


def test_a_key_of_an_unknown_kind_is_dropped() -> None:
    async def scenario() -> None:
        queue = Queue()
        workers = asyncio.create_task(Workers(queue, {}).run())
        queue.add(A)
        await asyncio.sleep(1)
        assert queue.idle
        queue.shut_down()
        await workers

    run(scenario())
