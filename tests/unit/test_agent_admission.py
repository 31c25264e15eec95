"""The bound of a pod: slots, a queue in order of arrival, and places that come back."""

import asyncio

import pytest

from retinue.agent.admission import Admission, ByteBudget, Full

pytestmark = pytest.mark.unit


class Visit:
    """One request as a task: waits for its turn, then stays until it is let go."""

    def __init__(self, admission: Admission, order: list[str], name: str) -> None:
        self.go = asyncio.Event()
        self.task = asyncio.create_task(self._run(admission, order, name))

    async def _run(self, admission: Admission, order: list[str], name: str) -> None:
        with admission.enter() as ticket:
            await ticket.turn()
            order.append(name)
            await self.go.wait()

    async def leave(self) -> None:
        self.go.set()
        await self.task


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_requests_beyond_slots_and_queue_are_refused_at_once() -> None:
    admission, order = Admission(2, 1), list[str]()
    visits = [Visit(admission, order, str(n)) for n in range(3)]
    await settle()
    assert (admission.in_flight, admission.queued) == (2, 1)
    with pytest.raises(Full) as refused:
        admission.enter()
    assert refused.value.retry_after >= 1
    for visit in visits:
        await visit.leave()
    assert (admission.in_flight, admission.queued) == (0, 0)
    await admission.empty()


async def test_waiting_requests_get_their_turn_in_order_of_arrival() -> None:
    admission, order = Admission(1, 8), list[str]()
    visits = [Visit(admission, order, str(n)) for n in range(5)]
    for visit in visits:
        await settle()
        await visit.leave()
    assert order == ["0", "1", "2", "3", "4"]


async def test_a_waiting_client_that_leaves_gives_its_place_back() -> None:
    admission, order = Admission(1, 1), list[str]()
    first, second = Visit(admission, order, "first"), Visit(admission, order, "second")
    await settle()
    second.task.cancel()
    await settle()
    assert (admission.in_flight, admission.queued) == (1, 0)
    third = Visit(admission, order, "third")
    await settle()
    await first.leave()
    await third.leave()
    assert order == ["first", "third"]


async def test_a_client_that_leaves_in_the_moment_of_its_turn_hands_the_slot_on() -> None:
    admission, order = Admission(1, 2), list[str]()
    first, second, third = (Visit(admission, order, name) for name in ("first", "second", "third"))
    await settle()
    first.go.set()
    await asyncio.sleep(0)
    # The slot is the second one's now, but its task has not run yet.
    second.task.cancel()
    await settle()
    assert order == ["first", "third"]
    assert (admission.in_flight, admission.queued) == (1, 0)
    await third.leave()
    assert admission.in_flight == 0


async def test_without_a_queue_only_the_slots_are_taken() -> None:
    admission, order = Admission(1, 0), list[str]()
    visit = Visit(admission, order, "only")
    await settle()
    with pytest.raises(Full):
        admission.enter()
    await visit.leave()


@pytest.mark.parametrize(("mean", "queued", "slots", "expected"), [(0.01, 0, 1, 1), (4, 2, 2, 6), (600, 8, 1, 30)])
def test_retry_after_follows_the_recent_duration_within_bounds(
    mean: float, queued: int, slots: int, expected: int
) -> None:
    admission = Admission(slots, 100)
    admission._mean_seconds = mean
    admission._places = queued
    assert admission.retry_after() == expected


def test_bytes_are_reserved_and_given_back() -> None:
    budget = ByteBudget(10)
    assert budget.take(6)
    assert not budget.take(5)
    budget.give(6)
    assert budget.take(10)
