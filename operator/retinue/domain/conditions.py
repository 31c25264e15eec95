"""How conditions are written, so that kubectl wait, Argo CD and Flux read every kind alike.

A decision says what it found as `Finding`s; `merge` turns them into the condition list of the status. `Reconciling` and
`Stalled` are in the list only while they are True; `Ready` is False only together with `Stalled`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from retinue.resources.conditions import Condition, ConditionStatus
from retinue.resources.meta import READY, RECONCILING, STALLED

MAX_MESSAGE: Final = 1024
"""Characters of a condition's message; longer ones are cut, because foreign messages (quota, scheduler) can be huge."""

TRUE: Final = ConditionStatus.TRUE
FALSE: Final = ConditionStatus.FALSE
UNKNOWN: Final = ConditionStatus.UNKNOWN


@dataclass(frozen=True, slots=True)
class Finding:
    """One condition as a decision wants it, without times and generation."""

    type: str
    status: ConditionStatus
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an object is not as its spec says: a word for programs and a sentence for people.

    The message names the field, the cause and what to do.
    """

    reason: str
    message: str
    waits: bool = False
    """True: ends by itself (Reconciling). False: somebody has to change something (Stalled)."""

    def findings(self) -> tuple[Finding, ...]:
        """The conditions of an object that has this problem."""
        return working(self.reason, self.message) if self.waits else stalled(self.reason, self.message)


def ready(reason: str, message: str) -> tuple[Finding, ...]:
    """The object does what its spec says."""
    return (Finding(READY, TRUE, reason, message),)


def working(reason: str, message: str) -> tuple[Finding, ...]:
    """Work is under way and ends by itself."""
    return (Finding(READY, UNKNOWN, reason, message), Finding(RECONCILING, TRUE, reason, message))


def stalled(reason: str, message: str) -> tuple[Finding, ...]:
    """Nothing more happens until somebody changes something; the message says what."""
    return (Finding(READY, FALSE, reason, message), Finding(STALLED, TRUE, reason, message))


def paused(reason: str, message: str) -> tuple[Finding, ...]:
    """Somebody asked for it to do nothing: neither work nor a failure."""
    return (Finding(READY, UNKNOWN, reason, message),)


def shortened(message: str) -> str:
    """The message in at most MAX_MESSAGE characters, on one line."""
    flat = " ".join(message.split())
    return flat if len(flat) <= MAX_MESSAGE else flat[: MAX_MESSAGE - 1] + "…"


def merge(
    previous: Sequence[Condition], wanted: Iterable[Finding], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """The condition list to write: sorted by type; `lastTransitionTime` stays while the status of a type stays.

    Conditions that are not wanted any more are gone, which is how Reconciling and Stalled end.
    """
    before = {c.type: c for c in previous}
    merged = []
    for finding in sorted(wanted, key=lambda f: f.type):
        old = before.get(finding.type)
        same = old is not None and old.status is finding.status
        merged.append(
            Condition(
                type=finding.type,
                status=finding.status,
                reason=finding.reason,
                message=shortened(finding.message),
                observed_generation=generation,
                last_transition_time=old.last_transition_time if old is not None and same else whole_seconds(now),
            )
        )
    return tuple(merged)


def whole_seconds(moment: datetime) -> datetime:
    """The moment as the API server keeps it; without this, a status would differ from what was just written."""
    return moment.replace(microsecond=0)


PATIENCE: Final = timedelta(seconds=30)
"""How long something that is named and missing may still come: objects are often applied in any order."""


def patient(
    problem: Problem, previous: Sequence[Condition], generation: int, now: datetime
) -> tuple[Problem, float | None]:
    """Lets a missing object arrive: the problem is Reconciling for PATIENCE before it is Stalled.

    Returns the problem as it counts now, and the seconds after which it must be judged again (None: not by the clock).
    Without it a client that fails at the first Stalled (Flux, Helm) would fail on files that are applied in the wrong
    order. The clock is the Reconciling condition itself, so a restart of the operator does not start it again.
    """
    waiting = Problem(problem.reason, problem.message, waits=True)
    stuck = next((c for c in previous if c.type == STALLED), None)
    if stuck is not None and stuck.reason == problem.reason and stuck.observed_generation == generation:
        return problem, None
    began = next((c for c in previous if c.type == RECONCILING and c.observed_generation == generation), None)
    if began is None:
        return waiting, PATIENCE.total_seconds()
    left = (began.last_transition_time + PATIENCE - now).total_seconds()
    return (waiting, left) if left > 0 else (problem, None)
