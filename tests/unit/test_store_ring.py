"""Memory is bounded, and what goes first is what matters least."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from history_rows import numbers, queued
from retinue.domain.row_class import RowClass
from retinue.store.ring import Ring

pytestmark = pytest.mark.unit

RAW, SUMMARY, TRANSITION = RowClass.RAW, RowClass.SUMMARY, RowClass.TRANSITION


def test_state_changes_are_taken_first_and_each_class_in_order() -> None:
    ring = Ring(10)
    for n, row_class in enumerate([RAW, TRANSITION, RAW, SUMMARY, TRANSITION]):
        ring.put(queued(n, row_class))
    assert numbers(ring.take(3)) == [1, 4, 3]
    assert numbers(ring.take(3)) == [0, 2]


def test_a_full_ring_gives_up_its_oldest_raw_row() -> None:
    ring = Ring(3)
    for n, row_class in enumerate([RAW, TRANSITION, RAW]):
        assert ring.put(queued(n, row_class)) is None
    victim = ring.put(queued(3, TRANSITION))
    assert victim is not None
    assert numbers([victim]) == [0]
    assert numbers(ring.take(9)) == [1, 3, 2]


def test_a_raw_row_that_finds_only_state_changes_is_not_taken() -> None:
    ring = Ring(2)
    ring.put(queued(0, TRANSITION))
    ring.put(queued(1, SUMMARY))
    newcomer = queued(2, RAW)
    assert ring.put(newcomer) is newcomer
    assert numbers(ring.take(9)) == [0, 1]


def test_rows_put_back_stand_in_front_again_and_yield_to_newer_ones() -> None:
    ring = Ring(4)
    for n in range(3):
        ring.put(queued(n))
    batch = ring.take(3)
    for n in range(3, 6):
        ring.put(queued(n))
    assert numbers(ring.put_back(batch)) == [1, 0]
    assert numbers(ring.take(9)) == [2, 3, 4, 5]


@given(st.lists(st.tuples(st.sampled_from(["put", "take", "back"]), st.sampled_from(RowClass)), max_size=80))
def test_the_ring_never_grows_beyond_its_bound_and_loses_no_row_silently(
    steps: list[tuple[str, RowClass]],
) -> None:
    ring, put, gone = Ring(5), 0, 0
    for step, row_class in steps:
        if step == "put":
            gone += ring.put(queued(put, row_class)) is not None
            put += 1
        else:
            batch = ring.take(3)
            gone += len(ring.put_back(batch)) if step == "back" else len(batch)
        assert len(ring) <= 5
    assert len(ring.take(99)) + gone == put
