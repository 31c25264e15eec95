"""Kubernetes Events of a decision: one per transition of Ready or Stalled, never one per pass."""

from collections.abc import Iterable, Sequence

from retinue.domain.conditions import FALSE, TRUE, Finding
from retinue.domain.plan import Event
from retinue.resources.conditions import Condition
from retinue.resources.meta import READY, STALLED


def events_of(previous: Sequence[Condition], wanted: Iterable[Finding]) -> tuple[Event, ...]:
    """What people should read in `kubectl describe`: the object became Ready, or Stalled for a new reason."""
    before = {c.type: c for c in previous}
    events = []
    for finding in wanted:
        old = before.get(finding.type)
        if finding.type == STALLED and finding.status is TRUE and (old is None or old.reason != finding.reason):
            events.append(Event("Warning", finding.reason, finding.message))
        if finding.type == READY and finding.status is TRUE and (old is None or old.status is not TRUE):
            events.append(Event("Normal", finding.reason, finding.message or "Ready"))
    return tuple(events)


def stalled_now(wanted: Iterable[Finding]) -> bool:
    """Whether the decision ended in Stalled: for metrics and health rows."""
    return any(f.type == READY and f.status is FALSE for f in wanted)
