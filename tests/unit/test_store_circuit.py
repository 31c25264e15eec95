"""A dead Postgres is asked ever more rarely, and never by all writers at once."""

import pytest

from retinue.store.circuit import Breaker, Circuit

pytestmark = pytest.mark.unit


def test_the_circuit_opens_after_three_failures_in_a_row() -> None:
    breaker = Breaker(jitter=lambda: 1)
    breaker.failed(0)
    breaker.failed(0)
    breaker.succeeded()
    for _ in range(2):
        breaker.failed(0)
    assert breaker.state(0) is Circuit.CLOSED
    breaker.failed(0)
    assert breaker.state(0) is Circuit.OPEN


def test_pauses_double_up_to_their_bound_and_end_with_one_success() -> None:
    breaker = Breaker(first=1, longest=8, jitter=lambda: 1)
    for _ in range(2):
        breaker.failed(0)
    for pause in (1, 2, 4, 8, 8):
        breaker.failed(100)
        assert breaker.state(100 + pause - 0.01) is Circuit.OPEN
        assert breaker.state(100 + pause) is Circuit.PROBING
    breaker.succeeded()
    assert breaker.state(100) is Circuit.CLOSED


def test_a_year_of_failures_overflows_nothing() -> None:
    breaker = Breaker(jitter=lambda: 1)
    for _ in range(100_000):
        breaker.failed(0)
    assert breaker.state(30) is Circuit.PROBING


def test_jitter_halves_a_pause_at_most() -> None:
    breaker = Breaker(threshold=1, first=4, jitter=lambda: 0)
    breaker.failed(0)
    assert breaker.state(1.9) is Circuit.OPEN
    assert breaker.state(2) is Circuit.PROBING
