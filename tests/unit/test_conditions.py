"""Conditions: times stay while a status stays, Reconciling and Stalled come and go, missing objects get patience."""

from datetime import UTC, datetime, timedelta

import pytest

from retinue.domain.conditions import (
    MAX_MESSAGE,
    PATIENCE,
    TRUE,
    Finding,
    Problem,
    merge,
    patient,
    paused,
    ready,
    stalled,
    working,
)
from retinue.domain.transitions import events_of
from retinue.resources.conditions import Condition

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 10, 8, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


def types(conditions: tuple[Condition, ...]) -> dict[str, str]:
    return {c.type: c.status.value for c in conditions}


def test_working_on_it_is_unknown_and_reconciling() -> None:
    assert types(merge((), working("Pulling", "x"), 1, NOW)) == {"Ready": "Unknown", "Reconciling": "True"}


def test_not_ready_is_false_only_together_with_stalled() -> None:
    assert types(merge((), stalled("DiskFull", "x"), 1, NOW)) == {"Ready": "False", "Stalled": "True"}


def test_reconciling_and_stalled_are_gone_when_they_are_not_true() -> None:
    before = merge((), stalled("DiskFull", "x"), 1, NOW)
    assert types(merge(before, ready("Serving", ""), 1, LATER)) == {"Ready": "True"}
    assert types(merge(before, paused("Suspended", ""), 1, LATER)) == {"Ready": "Unknown"}


def test_the_transition_time_stays_while_the_status_stays() -> None:
    before = merge((), working("Pulling", "10 %"), 1, NOW)
    after = merge(before, working("Loading", "almost"), 2, LATER)
    assert {c.last_transition_time for c in after} == {NOW.replace(microsecond=0)}
    assert {c.observed_generation for c in after} == {2}
    ended = merge(after, ready("Serving", ""), 2, LATER)
    assert [c.last_transition_time for c in ended] == [LATER.replace(microsecond=0)]


def test_merging_the_same_twice_gives_the_same() -> None:
    once = merge((), stalled("DiskFull", "no space"), 3, NOW)
    assert merge(once, stalled("DiskFull", "no space"), 3, LATER) == once


def test_a_long_message_is_cut_and_stands_on_one_line() -> None:
    (condition,) = merge((), (Finding("Available", TRUE, "X", "a\nb " * 2000),), 1, NOW)
    assert len(condition.message) == MAX_MESSAGE
    assert "\n" not in condition.message


MISSING = Problem("TemplateNotFound", "spec.templateRef.name: ...")


def test_a_missing_object_is_reconciling_before_it_is_stalled() -> None:
    problem, wait = patient(MISSING, (), 1, NOW)
    assert problem.waits
    assert wait == PATIENCE.total_seconds()
    before = merge((), problem.findings(), 1, NOW)
    soon, left = patient(MISSING, before, 1, NOW + timedelta(seconds=10))
    assert soon.waits
    assert left is not None
    assert 0 < left < PATIENCE.total_seconds()
    late, none = patient(MISSING, before, 1, NOW + timedelta(minutes=1))
    assert late == MISSING
    assert none is None


def test_patience_does_not_start_again_once_it_is_stalled() -> None:
    before = merge((), MISSING.findings(), 1, NOW)
    assert patient(MISSING, before, 1, LATER) == (MISSING, None)


def test_a_new_generation_gets_new_patience() -> None:
    before = merge((), MISSING.findings(), 1, NOW)
    problem, _ = patient(MISSING, before, 2, LATER)
    assert problem.waits


def test_events_come_on_transitions_only() -> None:
    before = merge((), stalled("DiskFull", "x"), 1, NOW)
    assert events_of(before, stalled("DiskFull", "x")) == ()
    assert [e.reason for e in events_of(before, stalled("TagMoved", "x"))] == ["TagMoved"]
    assert [(e.type, e.reason) for e in events_of(before, ready("Serving", "x"))] == [("Normal", "Serving")]
    assert events_of(before, working("Pulling", "x")) == ()
