"""AssistantRevision: is it what its digest says, and which number do people know it by."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from retinue.domain.conditions import Problem, merge, ready, working
from retinue.domain.plan import Plan
from retinue.domain.revision import verify_revision
from retinue.domain.transitions import events_of
from retinue.resources.reasons import WAITING_FOR_NUMBER
from retinue.resources.v1alpha1.assistantrevision import AssistantRevisionStatus

Object = dict[str, Any]

TURN_SECONDS: Final = 0.5
"""Seconds until a revision asks again whether it is its turn to be numbered."""


@dataclass(frozen=True, slots=True)
class ObservedRevision:
    """Everything that a decision about one AssistantRevision looks at."""

    revision: Object
    """As it is stored: the digest is taken over unknown fields too."""
    siblings: tuple[Object, ...] = ()
    """All revisions of the same assistant in the namespace, with or without this one."""
    floor: int = 0
    """Highest number that the Assistant remembers, so that the number of a deleted revision is not given again."""


def decide_revision(observed: ObservedRevision, now: datetime) -> Plan:
    """The plan for one revision: a status, nothing else."""
    metadata = observed.revision["metadata"]
    if "deletionTimestamp" in metadata:
        return Plan()
    before = AssistantRevisionStatus.model_validate(observed.revision.get("status") or {})
    check = verify_revision(observed.revision)
    ordinal = before.ordinal
    requeue = None
    if not check.ok:
        findings = Problem(check.reason, check.message).findings()
    else:
        if ordinal is None:
            ordinal = next_ordinal(observed.revision, observed.siblings, observed.floor)
        if ordinal is None:
            requeue = TURN_SECONDS
            findings = working(WAITING_FOR_NUMBER, "an older revision of the assistant gets its number first")
        else:
            findings = ready(check.reason, f"r{ordinal}")
    generation = int(metadata.get("generation", 0))
    status = AssistantRevisionStatus(
        observed_generation=generation,
        conditions=merge(before.conditions, findings, generation, now),
        ordinal=ordinal,
    )
    return Plan(status=status.to_object(), events=events_of(before.conditions, findings), requeue_after=requeue)


def next_ordinal(revision: Object, siblings: Sequence[Object], floor: int) -> int | None:
    """The number after all that are given, or None while an older sibling waits for its own.

    So revisions that are first seen together (after a restart, from Git) are numbered in the order in which they were
    made, whichever is looked at first.
    """
    for sibling in siblings:
        waits = (sibling.get("status") or {}).get("ordinal") is None and "deletionTimestamp" not in sibling["metadata"]
        if waits and _made(sibling) < _made(revision) and verify_revision(sibling).ok:
            return None
    given = [int(n) for s in siblings if (n := (s.get("status") or {}).get("ordinal")) is not None]
    return max([floor, *given]) + 1


def _made(revision: Object) -> tuple[str, str]:
    metadata = revision["metadata"]
    return metadata.get("creationTimestamp") or "", metadata["name"]
